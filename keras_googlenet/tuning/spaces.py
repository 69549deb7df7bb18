"""What a search may change, as data: the channels of a network's rows, and a few training options.

A sample is a dictionary of values by parameter name; `SearchSpace.architecture` is a pure function of it.
The defaults give the base network back exactly. Nothing here imports Keras or keras-tuner.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from keras_googlenet.network.architecture import (
    CHANNEL_MULTIPLE,
    Architecture,
    Conv,
    Inception,
    Stage,
    scaled_channels,
)

Value = int | float | str
Values = Mapping[str, Value]

SpaceName = Literal["stage_width", "branch_ratio", "block"]
Extra = Literal["dropout", "learning_rate", "decay_rate", "aux_weight"]

# Eighths: keras-tuner's wire format holds 32 bits of a number, which these survive.
RATIOS = tuple(eighths / 8 for eighths in range(2, 13))  # 0.25 to 1.5
STEM = "stem"

# The paper's words for the columns of Table 1, and the fields of a row that hold them.
COLUMNS = {
    "1x1": "conv_1x1",
    "3x3_reduce": "reduce_3x3",
    "3x3": "conv_3x3",
    "5x5_reduce": "reduce_5x5",
    "5x5": "conv_5x5",
    "pool_proj": "pool_proj",
}
OF_REDUCTIONS = ("3x3_reduce", "5x5_reduce", "pool_proj")  # the naive block has none of them

EXTRAS: dict[Extra, tuple[float, ...]] = {
    "dropout": (0.0, 0.2, 0.4, 0.6),
    "learning_rate": (0.003, 0.01, 0.03, 0.1),
    "decay_rate": (0.5, 0.7, 0.9, 0.96, 1.0),
    "aux_weight": (0.0, 0.1, 0.3, 0.6),
}


@dataclass(frozen=True)
class Parameter:
    """A number or name that a search chooses."""

    name: str
    values: tuple[Value, ...]  # those of numbers ascend
    default: Value


@dataclass(frozen=True)
class Space:
    """A way to change a network's channels: its parameters, and what a stage becomes under their values."""

    parameters: Callable[[Architecture], tuple[Parameter, ...]]
    stage: Callable[[Stage, Values], Stage]


def _stage_widths(base: Architecture) -> tuple[Parameter, ...]:
    """A factor on all channels of the stem, and of each stage's blocks."""
    return tuple(Parameter(f"width/{stage}", RATIOS, 1.0) for stage in (STEM, *_stages(base)))


def _scaled_stage(stage: Stage, values: Values) -> Stage:
    if isinstance(stage, Conv):
        return replace(stage, filters=_scaled(stage.filters, values[f"width/{STEM}"]))
    if isinstance(stage, Inception):
        ratio = values.get(f"width/{stage.name[0]}", 1.0)  # a stage that the first base lacks stays
        return Inception(stage.name, *(_scaled(count, ratio) for count in stage.channels))
    return stage


def _branch_ratios(base: Architecture) -> tuple[Parameter, ...]:
    """A factor on each column of Table 1, for each stage's blocks."""
    return tuple(
        Parameter(f"ratio/{stage}/{column}", RATIOS, 1.0)
        for stage in _stages(base)
        for column in _columns(base)
    )


def _with_branch_ratios(stage: Stage, values: Values) -> Stage:
    return _with_columns(
        stage, lambda row, column, count: _scaled(count, values.get(f"ratio/{row[0]}/{column}", 1))
    )


def _block_counts(base: Architecture) -> tuple[Parameter, ...]:
    """Every count of every block: multiples of 8, from a quarter of the base's to one and a half times it."""
    return tuple(
        Parameter(f"{block.name}/{column}", _around(count), count)
        for block in base.blocks
        for column in _columns(base)
        for count in [getattr(block, COLUMNS[column])]
    )


def _with_block_counts(stage: Stage, values: Values) -> Stage:
    return _with_columns(stage, lambda row, column, count: int(values.get(f"{row}/{column}", count)))


SPACES: dict[SpaceName, Space] = {
    "stage_width": Space(_stage_widths, _scaled_stage),
    "branch_ratio": Space(_branch_ratios, _with_branch_ratios),
    "block": Space(_block_counts, _with_block_counts),
}


@dataclass(frozen=True)
class SearchSpace:
    """A space over a network, or over several.

    Attributes:
        name: Of `SPACES`.
        bases: The networks; the first is the default, and parameters are around its channels.
        extras: Numbers of the training that the search chooses as well, with their defaults.
    """

    name: SpaceName
    bases: tuple[Architecture, ...]
    extras: tuple[tuple[Extra, float], ...] = ()

    @cached_property
    def channels(self) -> tuple[Parameter, ...]:
        """What the channels follow from."""
        return SPACES[self.name].parameters(self.bases[0])

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """Everything that a sample has a value of."""
        names = tuple(base.name for base in self.bases)
        return (
            *self.channels,
            *([Parameter("variant", names, names[0])] if len(names) > 1 else []),
            *(
                Parameter(extra, tuple(sorted({*EXTRAS[extra], default})), default)
                for extra, default in self.extras
            ),
        )

    @property
    def defaults(self) -> dict[str, Value]:
        """The sample that is the first base itself."""
        return {parameter.name: parameter.default for parameter in self.parameters}

    def architecture(self, values: Values) -> Architecture:
        """The network of a sample. Names that are not its parameters are ignored."""
        base = next(base for base in self.bases if base.name == values.get("variant", self.bases[0].name))
        stages = tuple(SPACES[self.name].stage(stage, values) for stage in base.stages)
        dropout = float(values.get("dropout", base.dropout))
        if (stages, dropout) == (base.stages, base.dropout):
            return base
        return replace(
            base,
            name=f"{base.name}_{self.name}",
            description=f"{base.name} with channels of a search in the space {self.name}",
            stages=stages,
            dropout=dropout,
        )

    def exact(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """`values` with the parameters' exact numbers, if a wire format has rounded them."""
        known = {parameter.name: parameter for parameter in self.parameters}
        return {
            name: min(known[name].values, key=lambda own: abs(own - value))  # type: ignore[operator]
            if name in known and isinstance(value, float)
            else value
            for name, value in values.items()
        }

    def sample(self, source: random.Random) -> dict[str, Value]:
        """A sample: first a part of the ranges is drawn, then all channels from that part.

        If each of 54 counts were drawn from its whole range, their sum would nearly always be close to the
        middle, and a budget of half the parameters would admit one sample in 500.
        """
        low, high = sorted((source.random(), source.random()))
        ranges = {one.name: one.values for one in self.parameters}
        for one in self.channels:
            first = int(low * (len(one.values) - 1))
            ranges[one.name] = one.values[first : max(first + 2, round(high * len(one.values)))]
        return {name: source.choice(values) for name, values in ranges.items()}


def _with_columns(stage: Stage, count: Callable[[str, str, int], int]) -> Stage:
    """A row of Table 1 with `count(row, column, its count)` in each column; any other stage unchanged."""
    if not isinstance(stage, Inception):
        return stage
    return Inception(
        stage.name,
        *(count(stage.name, column, old) for column, old in zip(COLUMNS, stage.channels, strict=True)),
    )


def _stages(base: Architecture) -> Sequence[str]:
    """The paper's numbers of the stages that have blocks: 3, 4 and 5."""
    return list(dict.fromkeys(block.name[0] for block in base.blocks))


def _columns(base: Architecture) -> Sequence[str]:
    return [column for column in COLUMNS if base.reductions or column not in OF_REDUCTIONS]


def _scaled(count: int, ratio: Any) -> int:
    return count if ratio == 1 else scaled_channels(count, float(ratio))


def _around(count: int) -> tuple[int, ...]:
    low, high = scaled_channels(count, RATIOS[0]), scaled_channels(count, RATIOS[-1])
    return tuple(sorted({*range(low, high + 1, CHANNEL_MULTIPLE), count}))
