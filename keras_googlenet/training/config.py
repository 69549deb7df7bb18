"""What a training run is made of. Imports neither Keras nor TensorFlow: the command line reads it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from keras_googlenet.errors import UserError
from keras_googlenet.variants import VARIANTS


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A training run: every field is an option of `keras-googlenet train`."""

    data: str
    """"sample", a folder with one folder of images for each class, or "tfds:NAME"."""

    run: Path
    """The run's folder, made by the run; it must not exist."""

    variant: str = "bn"  # learns at once at any sensible rate; the paper's needs a careful one
    """The network's name, such as "bn" or "paper"."""

    weights: str | None = None
    """What to start from: "imagenet", a .keras or .weights.h5 file, or a run's folder."""

    freeze: str | None = None
    """The last block, such as 4e, of those that keep the weights they start with."""

    aux_heads: bool = True
    """Train with the two auxiliary classifiers."""

    aux_weight: float = 0.3  # paper, section 5
    """Weight of each auxiliary loss."""

    image_size: int | None = None
    """Side of the network's input in pixels; by default 80 for the sample, 224 for all else."""

    channels: Literal[1, 3] | None = None
    """Channels of the network's input; by default those of the data."""

    epochs: int = 8
    """Passes over the training images."""

    batch_size: int = 32  # the BVLC solver's
    """Images in a training step."""

    learning_rate: float = 0.01  # the BVLC solver's
    """Rate of the first epoch."""

    momentum: float = 0.9  # paper, section 6
    """Momentum of the gradient descent."""

    decay_rate: float = 0.96  # paper, section 6: "decreasing the learning rate by 4% every 8 epochs"
    """What the learning rate is multiplied by at each step of its decay."""

    decay_epochs: int = 8
    """Completed epochs between two steps of the decay."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What to compute in; auto takes bfloat16 where the processor has it. Weights are float32."""

    validation_fraction: float = 0.1
    """Share of the training images kept for validation, where the data has no validation part."""

    seed: int = 0
    """Of the initial weights, the data's division, its order, and dropout."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "run", Path(self.run))
        if self.variant not in VARIANTS:
            raise UserError(f"expected variant to be one of {sorted(VARIANTS)}, got {self.variant!r}")
        for name, fine, expected in (
            ("epochs", self.epochs >= 1, "at least 1"),
            ("batch_size", self.batch_size >= 1, "at least 1"),
            ("image_size", self.image_size is None or self.image_size >= 1, "at least 1"),
            ("channels", self.channels in (None, 1, 3), "1 or 3"),
            ("learning_rate", self.learning_rate > 0, "more than 0"),
            ("momentum", 0 <= self.momentum < 1, "at least 0 and less than 1"),
            ("aux_weight", self.aux_weight >= 0, "at least 0"),
            ("decay_rate", 0 < self.decay_rate <= 1, "more than 0 and at most 1"),
            ("decay_epochs", self.decay_epochs >= 1, "at least 1"),
            ("validation_fraction", 0 < self.validation_fraction < 0.8, "between 0 and 0.8"),
            ("seed", 0 <= self.seed < 2**32, "between 0 and 4294967295"),
            (
                "precision",
                self.precision in ("auto", "float32", "bfloat16"),
                "auto, float32 or bfloat16",
            ),
        ):
            if not fine:
                raise UserError(f"expected {name} to be {expected}, got {getattr(self, name)}")

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return asdict(self) | {"run": str(self.run)}
