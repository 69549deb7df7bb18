"""The options of a search. Imports neither Keras nor TensorFlow: the command line reads it."""

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
    """A channel search: how each network is trained, and which networks are tried."""

    training: RunConfig
    """How each network is trained: `run` is the search's folder, `variant` the network whose channels change,
    and `epochs` the number of epochs of each trial (with Hyperband, of the best)."""

    space: SpaceName = "stage_width"
    """What to search: a multiplier for the stem and each stage (`stage_width`), one for each column of Table
    1 in each stage (`branch_ratio`), or all 54 channel counts (`block`)."""

    algorithm: Algorithm = "random"
    """Search algorithm: random, Bayesian optimization, or Hyperband, which trains many networks for a few
    epochs."""

    trials: int = 12
    """Number of networks to train. The first is the unchanged network, as the baseline, even if it exceeds
    the budget."""

    variants: tuple[str, ...] = ()
    """Further variants to choose from, in addition to `training.variant`."""

    extras: tuple[Extra, ...] = ()
    """Further hyperparameters to search: dropout, learning_rate, decay_rate, aux_weight."""

    max_params: int | None = None
    """Maximum number of parameters, without auxiliary heads."""

    max_macs: int | None = None
    """Maximum number of multiply-adds per image, without auxiliary heads."""

    max_latency_ms: float | None = None
    """Maximum time per image in milliseconds, measured on this machine, without auxiliary heads."""

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
            by_recipe = f" (the recipe {training.recipe} sets them)" if training.recipe else ""
            raise UserError(
                f"expected `whiten` and `identity_start` to be false and `head_scale` to be 1{by_recipe}: a "
                "search starts all networks at random"
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
