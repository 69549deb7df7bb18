"""The options of a training run. Imports neither Keras nor TensorFlow: the command line reads it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from keras_googlenet.data.augmentations import AUGMENTATIONS, augmentation_help
from keras_googlenet.data.sources import expected_data
from keras_googlenet.errors import UserError, checked_fields
from keras_googlenet.names import ARCHITECTURE, CONFIG
from keras_googlenet.network.architecture import Architecture
from keras_googlenet.network.variants import VARIANTS
from keras_googlenet.text import meant
from keras_googlenet.weights.shipped import located

CLASSICS = ("nin", "nin_small", "alexnet", "vgg11")  # of `network.classics`
VARIANT = "bn"  # learns at once at any sensible rate; the paper's needs a careful one
# Larger values are typing errors: such a run would take years, or more memory than machines have.
MOST_EPOCHS, LARGEST_BATCH, LARGEST_SIDE, LARGEST_WIDTH = 100_000, 65_536, 4_096, 64
OF_WEIGHTS: Any = None  # default of options that a run in `weights` has, too
SCHEDULES = ("step", "polynomial", "cosine", "constant")


@checked_fields
@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A training run: every field is an option of `keras-googlenet train`."""

    data: str | None = field(
        default=None, metadata={"help": f"The images, unless a recipe names them: {expected_data()}."}
    )

    run: Path
    """The run's folder: a new one, or with --resume an unfinished run's."""

    recipe: str | None = None
    """Start from a recipe's options, see `recipes`; explicit options override them. In Python:
    `**recipe_options(name)`."""

    # --- data ---

    classes: tuple[str, ...] | None = None
    """Train on these classes only, in this order."""

    test_split: str | None = None
    """Test images of an undivided folder: "every:4" (number in the name) or a file that lists them."""

    tfds_manual_dir: Path | None = None
    """Folder with a TensorFlow data set's original files, to build it offline."""

    skip_corrupt: bool = False
    """Skip images that cannot be read."""

    group_duplicates: bool = False
    """Keep copies of an image (re-encoded, resized, cropped, brightness changed) in one part of a folder."""

    groups: Path | None = None
    """CSV file of images that must stay in one part of a folder, such as those of one patient: columns
    file,group, or first,second as `inspect` writes."""

    validation_fraction: float = 0.1
    """Fraction of the training images held out for validation, if the data has no validation part. Use 0 for
    a final run on all training images, after validation has chosen the options."""

    image_size: int | None = None
    """Height and width of the network's input in pixels; by default that of the run in weights, else 80 for
    the sample and 224 for all other data."""

    channels: Literal[1, 3] | None = None
    """Channels of the network's input; by default those of the run in weights, else those of the data."""

    augment: tuple[str, ...] = field(
        default=(), metadata={"help": f"Changes to training images: {augmentation_help()}."}
    )

    min_area: float = 0.08  # paper, section 6: "between 8% and 100% of the image area"
    """Smallest fraction of an image's area that a crop of "paper" keeps."""

    label_smoothing: float = 0.0
    """Label smoothing: the fraction of each label that is spread evenly over all classes."""

    class_weights: bool = False
    """Weight the loss by inverse class frequency."""

    balance: bool = False
    """Sample all classes equally often: an epoch repeats images of small classes."""

    # --- network ---

    variant: str = OF_WEIGHTS
    """Name of the network, such as "bn" or "paper", or the JSON file of an Architecture; by default that of
    the run in weights, else "bn"."""

    width: float = OF_WEIGHTS
    """Multiplier for the channels of the stem and blocks; by default that of the run in weights, else 1."""

    dropout: float | None = None
    """Dropout rate before the main classifier; by default the variant's."""

    weights: str | None = None
    """Start from these weights: "imagenet", a .keras or .weights.h5 file, a run's folder, or a network of the
    package such as "cifar10". The last two also set the network, unless options override it."""

    freeze: str | None = None
    """Freeze all layers up to this block, such as 4e."""

    aux_heads: bool = True
    """Train with the two auxiliary classifiers."""

    aux_weight: float = 0.3  # paper, section 5
    """Weight of each auxiliary loss."""

    whiten: bool = False
    """Initialize the first convolution to whiten the training images, and freeze it, as airbench does."""

    identity_start: bool = False
    """Initialize convolutions, of a block those of 3x3, as partial identities, as airbench does."""

    head_scale: float = 1.0  # 1/9 in airbench
    """Multiplier for the classifiers' initial weights; its square multiplies their learning rate."""

    # --- optimization ---

    epochs: int = 8
    """Number of passes over the training images."""

    batch_size: int | Literal["auto"] = 32  # the BVLC solver's
    """Images per training step, summed over all devices; auto finds the largest that fits in memory."""

    accumulate: int = 1
    """Accumulate gradients over this many training steps per weight update."""

    learning_rate: float = 0.01  # the BVLC solver's
    """Peak learning rate."""

    schedule: Literal["step", "polynomial", "cosine", "constant"] = "step"
    """Learning-rate schedule: step multiplies by decay_rate every decay_epochs; polynomial and cosine decay
    to 0."""

    decay_rate: float = 0.96  # paper, section 6: "decreasing the learning rate by 4% every 8 epochs"
    """Multiplier of the learning rate at each step of the step schedule."""

    decay_epochs: int = 8
    """Epochs between two steps of the step schedule."""

    decay_power: float = 0.5  # the BVLC solver's
    """Power of the polynomial schedule."""

    warmup_epochs: float = 0.0
    """Epochs of linear warmup from 0."""

    momentum: float = 0.9  # paper, section 6
    """Momentum of SGD."""

    nesterov: bool = False
    """Use Nesterov momentum."""

    weight_decay: float = 0.0  # 2e-4 in the BVLC solver
    """L2 penalty on kernels, added to their gradients."""

    bias_multiplier: float = 1.0  # 2 in the BVLC network
    """Learning-rate multiplier for biases."""

    norm_multiplier: float = 1.0  # 64 in airbench
    """Learning-rate multiplier for batch normalization's offsets."""

    clip_norm: float | None = None
    """Clip gradients to this global norm."""

    average: float | None = None  # paper, section 6: Polyak averaging made the final model
    """Momentum, such as 0.999, of a moving average of the weights; the average is saved."""

    early_stopping: int | None = None
    """Stop after this many epochs without a better validation accuracy, and save the best epoch's weights."""

    # --- the rest ---

    sync_batch_norm: bool = False
    """With several devices: take batch statistics over the images of all devices. By default each device
    takes those of its own images, which is faster."""

    gradient_exchange: Literal["float32", "bfloat16"] = "float32"
    """With several devices on JAX: number format of the gradients that they exchange; bfloat16 halves the
    bytes."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of computations; auto is bfloat16 where the processor supports it. Weights are float32."""

    checkpoint_minutes: float = 5.0
    """Minutes between checkpoints within an epoch; every epoch ends with one, too."""

    seed: int = 0
    """Random seed for weights, split, order and dropout."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "run", Path(self.run))
        for name in ("tfds_manual_dir", "groups"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, Path(getattr(self, name)))
        for name in ("augment", "classes"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON has lists alone
        self._fill_from_weights()
        networks = (*sorted(VARIANTS), *CLASSICS)
        if self.variant not in networks and not self.variant.endswith(".json"):
            raise UserError(
                f"expected `variant` to be one of {', '.join(networks)}, or a .json file; got "
                f"{self.variant!r}{meant(self.variant, networks)}"
            )
        for name in self.augment:
            if name not in AUGMENTATIONS:
                expected = ", ".join(AUGMENTATIONS)
                raise UserError(
                    f"expected `augment` to be of {expected}; got {name!r}{meant(name, AUGMENTATIONS)}"
                )
        for name, fine, expected in (
            ("epochs", 1 <= self.epochs <= MOST_EPOCHS, f"between 1 and {MOST_EPOCHS:,}"),
            (
                "batch_size",
                self.batch_size == "auto" or 1 <= self.batch_size <= LARGEST_BATCH,
                f"between 1 and {LARGEST_BATCH:,}, or auto",
            ),
            ("accumulate", self.accumulate >= 1, "at least 1"),
            (
                "image_size",
                self.image_size is None or 1 <= self.image_size <= LARGEST_SIDE,
                f"between 1 and {LARGEST_SIDE:,}",
            ),
            ("channels", self.channels in (None, 1, 3), "1 or 3"),
            ("min_area", 0 < self.min_area <= 1, "more than 0 and at most 1"),
            ("label_smoothing", 0 <= self.label_smoothing < 1, "at least 0 and less than 1"),
            ("width", 0 < self.width <= LARGEST_WIDTH, f"more than 0 and at most {LARGEST_WIDTH}"),
            ("dropout", self.dropout is None or 0 <= self.dropout < 1, "at least 0 and less than 1"),
            ("learning_rate", self.learning_rate > 0, "more than 0"),
            ("schedule", self.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
            ("momentum", 0 <= self.momentum < 1, "at least 0 and less than 1"),
            ("aux_weight", self.aux_weight >= 0, "at least 0"),
            ("decay_rate", 0 < self.decay_rate <= 1, "more than 0 and at most 1"),
            ("decay_epochs", self.decay_epochs >= 1, "at least 1"),
            ("decay_power", self.decay_power > 0, "more than 0"),
            ("warmup_epochs", 0 <= self.warmup_epochs <= self.epochs, "between 0 and the epochs"),
            ("weight_decay", self.weight_decay >= 0, "at least 0"),
            ("bias_multiplier", self.bias_multiplier >= 0, "at least 0"),
            ("norm_multiplier", self.norm_multiplier >= 0, "at least 0"),
            ("head_scale", self.head_scale > 0, "more than 0"),
            ("clip_norm", self.clip_norm is None or self.clip_norm > 0, "more than 0"),
            ("average", self.average is None or 0 < self.average < 1, "between 0 and 1"),
            ("early_stopping", self.early_stopping is None or self.early_stopping >= 1, "at least 1"),
            ("checkpoint_minutes", self.checkpoint_minutes >= 0, "at least 0"),
            ("validation_fraction", 0 <= self.validation_fraction < 0.8, "at least 0 and less than 0.8"),
            (
                "early_stopping",
                self.early_stopping is None or self.validation_fraction > 0,
                "none with `validation_fraction` 0, which leaves no image to choose the best epoch by",
            ),
            ("seed", 0 <= self.seed < 2**32, "between 0 and 4294967295"),
            (
                "precision",
                self.precision in ("auto", "float32", "bfloat16"),
                "auto, float32 or bfloat16",
            ),
        ):
            if not fine:
                raise UserError(f"expected `{name}` to be {expected}, got {getattr(self, name)}")
        if self.balance and self.class_weights:
            raise UserError("expected `balance` or `class_weights`, got both")
        if self.sync_batch_norm and self.gradient_exchange != "float32":
            raise UserError("expected `gradient_exchange` or `sync_batch_norm`, got both")
        if self.weights is not None and (self.whiten or self.identity_start or self.head_scale != 1):
            raise UserError(
                "expected no `whiten`, `identity_start` or `head_scale` with `weights`: these start it"
            )
        if self.variant in CLASSICS and self.head_scale != 1:
            raise UserError(f"expected no `head_scale` for {self.variant}: it is GoogLeNet's")

    def _fill_from_weights(self) -> None:
        """Network options that are not given come from the run in `weights`, or from the package's
        defaults."""
        found: dict[str, Any] = {"variant": VARIANT, "width": 1.0}
        run = located(self.weights) if self.weights is not None else None
        names = ("variant", "width", "image_size", "channels")
        if run is not None and run.is_dir() and None in [getattr(self, name) for name in names]:
            found = network_of(run)
        for name, value in found.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types."""
        as_text = {name: str(value) for name, value in asdict(self).items() if isinstance(value, Path)}
        as_lists = {name: list(value) for name, value in asdict(self).items() if isinstance(value, tuple)}
        return asdict(self) | as_text | as_lists

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunConfig:
        """The inverse of `to_dict`; other keys are ignored, and missing fields take their defaults."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in names})

    def differences(self, other: RunConfig) -> list[str]:
        """Names of the options in which two runs differ, except their folder and their recipe's name."""
        mine, theirs = self.to_dict(), other.to_dict()
        return [name for name in mine if name not in ("run", "recipe") and mine[name] != theirs[name]]


def check_new(run: Path) -> None:
    """Refuse a run's folder that exists.

    Raises:
        UserError: It does.
    """
    if run.exists():
        raise UserError(
            f"{run} exists: choose another run folder, delete it, or resume its run with `resume`"
        )


def read_architecture(file: Path) -> Architecture:
    """The architecture in a JSON file.

    Raises:
        UserError: The file cannot be read, or holds none.
    """
    try:
        return Architecture.from_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the architecture {file}: {error}") from None


def network_of(run: Path) -> dict[str, Any]:
    """The options that say which network a run trained.

    Args:
        run: The run's folder.

    Raises:
        UserError: Its configuration is missing or damaged.
    """
    file = run / CONFIG
    try:
        recorded = json.loads(file.read_text(encoding="utf-8"))
        size = recorded["preprocessing"]
        found: dict[str, Any] = {"image_size": int(size["height"]), "channels": int(size["channels"])}
        found |= {"variant": str(recorded["variant"]), "width": float(recorded["width"])}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{file} is not a run's configuration ({error!r})") from None
    file = run / ARCHITECTURE
    if file.is_file():
        recorded = read_architecture(file)
        # The variant's file may be gone or changed, and a name may stand for another network by now.
        named = VARIANTS.get(found["variant"])
        if named is None or named.scaled(found["width"]) != replace(recorded, description=named.description):
            found |= {"variant": str(file), "width": 1.0}
    return found
