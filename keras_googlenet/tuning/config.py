"""What a search is made of. Imports neither Keras nor TensorFlow: the command line reads it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from keras_googlenet.errors import UserError, checked_fields
from keras_googlenet.run.config import CLASSICS, RunConfig
from keras_googlenet.tuning.spaces import EXTRAS, SPACES, Extra, SpaceName

Algorithm = Literal["random", "bayesian", "hyperband"]

MOST_TRIALS = 100_000


@checked_fields
@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """A channel search: how each network is trained, and which are tried."""

    training: RunConfig
    """How each network is trained: `run` is the search's folder, `variant` the network whose channels change,
    `epochs` those of each trial (with Hyperband, of the best)."""

    space: SpaceName = "stage_width"
    """What is chosen: a factor for the stem and each stage, one for each column of Table 1 in each stage, or
    all 54 counts."""

    algorithm: Algorithm = "random"
    """How: at random, by Bayesian optimization, or by Hyperband, which gives many networks few epochs."""

    trials: int = 12
    """Networks to train; the first is the unchanged one, as the baseline, whatever the budget."""

    variants: tuple[str, ...] = ()
    """Networks to choose among, in addition to `training.variant`."""

    extras: tuple[Extra, ...] = ()
    """What else is chosen: dropout, learning_rate, decay_rate, aux_weight."""

    max_params: int | None = None
    """Parameters of the main path that a network may have at most."""

    max_macs: int | None = None
    """Multiply-adds of the main path for one image, at most."""

    max_latency_ms: float | None = None
    """Upper bound of the main path's measured latency for one image on this machine, in milliseconds."""

    def __post_init__(self) -> None:
        for name in ("variants", "extras"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON has lists alone
        training = self.training
        for name, fine, expected in (
            ("space", self.space in SPACES, f"one of {', '.join(SPACES)}"),
            ("algorithm", self.algorithm in get_args(Algorithm), f"one of {', '.join(get_args(Algorithm))}"),
            (
                "trials",
                2 <= self.trials <= MOST_TRIALS,
                f"between 2 (the unchanged network, and one other) and {MOST_TRIALS:,}",
            ),
            ("extras", set(self.extras) <= set(EXTRAS), f"of {', '.join(EXTRAS)}"),
            ("max_params", self.max_params is None or self.max_params >= 1, "at least 1"),
            ("max_macs", self.max_macs is None or self.max_macs >= 1, "at least 1"),
            ("max_latency_ms", self.max_latency_ms is None or self.max_latency_ms > 0, "more than 0"),
        ):
            if not fine:
                raise UserError(f"expected `{name}` to be {expected}, got {getattr(self, name)}")
        if {training.variant, *self.variants} & set(CLASSICS):
            raise UserError(f"expected a GoogLeNet to search the channels of, got {training.variant}")
        if training.batch_size == "auto":
            raise UserError("expected a number as `batch_size`: the same for networks of all widths")
        if training.whiten or training.identity_start or training.head_scale != 1:
            raise UserError(
                "expected no `whiten`, `identity_start` or `head_scale`: a search starts all at random"
            )
        if training.weights is not None or training.freeze is not None:
            raise UserError(
                "expected no `weights` or `freeze`: networks of other channels cannot start from them"
            )

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types."""
        own = {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }
        return own | {"training": self.training.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TuneConfig:
        """What `to_dict` made."""
        return cls(**values | {"training": RunConfig.from_dict(values["training"])})

    def differences(self, other: TuneConfig) -> list[str]:
        """Names of the options in which two searches differ, except their folder and number of trials."""
        mine, theirs = self.to_dict(), other.to_dict()
        names = [name for name in mine if name not in ("training", "trials") and mine[name] != theirs[name]]
        return self.training.differences(other.training) + names
