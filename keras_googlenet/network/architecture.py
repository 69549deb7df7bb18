"""The network as data: Table 1 of the paper, the variants, and their geometry.

Source: Szegedy et al., "Going Deeper with Convolutions", arXiv 1409.4842, Table 1 and Figure 3; what the
paper leaves open (padding, rounding, initialization) follows the BVLC reference model of Caffe. Each other
variant names its source in `variants.py`. Nothing here imports Keras.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args, get_type_hints

Padding = int | Literal["same", "ceil"]
"""Zeros on each side; `"same"`, TensorFlow's; `"ceil"`, none, and a pool's last window may overhang."""

CHANNEL_MULTIPLE = 8  # all of Table 1 are multiples of it, and so are the vectors of every processor
BRANCH_5X5_KERNELS = {"5x5": (5,), "3x3": (3,), "two_3x3": (3, 3)}  # by `Architecture.branch_5x5`


@dataclass(frozen=True)
class Conv:
    """A convolution with its normalization and ReLU."""

    name: str
    filters: int
    kernel: int
    stride: int = 1
    padding: Padding = 0


@dataclass(frozen=True)
class MaxPool:
    """A max pool."""

    name: str
    size: int = 3
    stride: int = 2
    padding: Padding = "ceil"


@dataclass(frozen=True)
class LocalResponseNorm:
    """Normalization across neighboring channels: Caffe's, size 5, alpha 1e-4, beta 0.75, k 1."""

    name: str


@dataclass(frozen=True)
class Inception:
    """One row of Table 1: the channels of an Inception block, in the paper's column order."""

    name: str  # "3a"
    conv_1x1: int
    reduce_3x3: int
    conv_3x3: int
    reduce_5x5: int
    conv_5x5: int
    pool_proj: int

    @property
    def filters(self) -> int:
        """Channels of the block's output with a pool projection: the four branches side by side."""
        return self.conv_1x1 + self.conv_3x3 + self.conv_5x5 + self.pool_proj

    @property
    def channels(self) -> tuple[int, int, int, int, int, int]:
        """The row's six numbers, in the paper's order."""
        return (
            self.conv_1x1,
            self.reduce_3x3,
            self.conv_3x3,
            self.reduce_5x5,
            self.conv_5x5,
            self.pool_proj,
        )


@dataclass(frozen=True)
class AuxiliaryHead:
    """A training-time classifier: average pool, 1x1 convolution, fully connected, softmax.

    `pool` and `stride` are those of an average pool without padding; with `adaptive`, the pool is
    torchvision's instead, to that many pixels a side. `batch_norm` of `None` follows the architecture.
    `drop_features` puts a dropout before the fully connected layer as well.
    """

    name: str  # its output layer
    block: str  # the Inception block it listens to
    pool: int = 5
    stride: int = 3
    adaptive: int | None = None
    filters: int = 128
    units: int = 1024
    batch_norm: bool | None = None
    drop_features: bool = False


Stage = Conv | MaxPool | LocalResponseNorm | Inception
STAGES: dict[str, type] = {kind.__name__: kind for kind in (Conv, MaxPool, LocalResponseNorm, Inception)}

#                    1x1  3x3r  3x3  5x5r  5x5  pool
TABLE_1 = (
    Inception("3a", 64, 96, 128, 16, 32, 32),
    Inception("3b", 128, 128, 192, 32, 96, 64),
    Inception("4a", 192, 96, 208, 16, 48, 64),
    Inception("4b", 160, 112, 224, 24, 64, 64),
    Inception("4c", 128, 128, 256, 24, 64, 64),
    Inception("4d", 112, 144, 288, 32, 64, 64),
    Inception("4e", 256, 160, 320, 32, 128, 128),
    Inception("5a", 256, 160, 320, 32, 128, 128),
    Inception("5b", 384, 192, 384, 48, 128, 128),
)


@dataclass(frozen=True)
class Architecture:
    """A network of the family: everything that distinguishes it, as data.

    Attributes:
        name: Short name.
        description: How it differs from the others, in one line.
        stages: From the image to the last block, in order.
        auxiliary_heads: Its training-time classifiers; may be empty.
        batch_norm: Batch normalization after every convolution, which then has no bias.
        batch_norm_scale: Whether batch normalization learns a scale.
        reductions: 1x1 reductions and a pool projection in every block (paper, Figure 2b); without
            them, the naive block (Figure 2a), whose pool passes all its input's channels on.
        linear_reductions: No ReLU after the reductions.
        branch_5x5: What the 5x5 branch computes with.
        residual: A projected shortcut around each block, before a last ReLU.
        activation: Activation of every convolution.
        head_pool: The global pool before the main classifier: average or maximum.
        dropout: Dropout rate before the main classifier.
        aux_dropout: Dropout rate before the auxiliary classifiers.
        kernel_initializer: Keras's name of the kernels' initializer.
        bias_initializer: Initial value of biases; those of classifiers start at 0.
        input_size: Side in pixels of the images for which it is profiled.
    """

    name: str
    description: str
    stages: tuple[Stage, ...]
    auxiliary_heads: tuple[AuxiliaryHead, ...] = ()
    batch_norm: bool = False
    batch_norm_scale: bool = True
    reductions: bool = True
    linear_reductions: bool = False
    branch_5x5: Literal["5x5", "3x3", "two_3x3"] = "5x5"
    residual: bool = False
    activation: Literal["relu", "gelu", "silu"] = "relu"
    head_pool: Literal["avg", "max"] = "avg"
    dropout: float = 0.4
    aux_dropout: float = 0.7
    kernel_initializer: str = "lecun_uniform"  # Caffe's "xavier": U(+-sqrt(3 / fan_in))
    bias_initializer: float = 0.2  # the BVLC model's
    input_size: int = 224

    @property
    def blocks(self) -> tuple[Inception, ...]:
        """The rows of Table 1, as this architecture has them."""
        return tuple(stage for stage in self.stages if isinstance(stage, Inception))

    def with_channels(self, rows: Sequence[Inception] | Mapping[str, Sequence[int]]) -> Architecture:
        """The same architecture with other channels in its blocks.

        Args:
            rows: One row per block, in order; or the six channels of some blocks by name, such as
                `{"3a": (64, 96, 128, 16, 32, 32)}`.

        Raises:
            ValueError: `rows` does not name this architecture's blocks, or a block does not have six
                channels.
        """
        names = [block.name for block in self.blocks]
        if isinstance(rows, Mapping):
            wrong = {name: row for name, row in rows.items() if name not in names or len(row) != 6}
            if wrong:
                raise ValueError(f"Expected six channels for some of the blocks {names}; received {wrong}")
            rows = [Inception(b.name, *rows[b.name]) if b.name in rows else b for b in self.blocks]
        if [row.name for row in rows] != names:
            raise ValueError(f"Expected a row for each of {names}; received {[row.name for row in rows]}")
        remaining = iter(rows)
        return replace(
            self,
            stages=tuple(next(remaining) if isinstance(s, Inception) else s for s in self.stages),
        )

    def scaled(self, width: float) -> Architecture:
        """The same architecture with all channels of stem and blocks times `width`.

        Channels are rounded to multiples of 8, and at least 8; those of a width of 1 are unchanged, as are
        auxiliary heads.
        """
        if not width > 0:
            raise ValueError(f"Expected a width of more than 0; received {width}")
        if width == 1:
            return self

        def stage(old: Stage) -> Stage:
            if isinstance(old, Conv):
                return replace(old, filters=scaled_channels(old.filters, width))
            if isinstance(old, Inception):
                return Inception(old.name, *(scaled_channels(count, width) for count in old.channels))
            return old

        return replace(self, stages=tuple(map(stage, self.stages)))

    def to_json(self) -> str:
        """This architecture as a JSON document, for `from_json`."""
        values = asdict(self)
        values["stages"] = [{"type": type(stage).__name__, **asdict(stage)} for stage in self.stages]
        return json.dumps(values, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        """Read what `to_json` wrote.

        Raises:
            ValueError: It is not an architecture.
        """
        try:
            values = json.loads(text)
            stages = tuple(_stage(dict(stage)) for stage in values.pop("stages"))
            heads = tuple(AuxiliaryHead(**head) for head in values.pop("auxiliary_heads"))
            found = cls(stages=stages, auxiliary_heads=heads, **values)
        except (KeyError, TypeError, AttributeError, RecursionError, json.JSONDecodeError) as error:
            raise ValueError(f"Expected the JSON of an Architecture; received text with {error!r}") from None
        for part in (*stages, *heads, found):
            _check_fields(part)
        names = [part.name for part in (*stages, *heads)]
        if len(set(names)) < len(names):
            raise ValueError(f"Expected names that differ; received {max(names, key=names.count)!r} twice")
        blocks = [block.name for block in found.blocks]
        for head in heads:
            if head.block not in blocks:
                raise ValueError(
                    f"Expected the block of {head.name} to be one of {', '.join(blocks)}; received "
                    f"{head.block!r}"
                )
        return found


def _check_fields(part: Any) -> None:
    """Refuse values whose type or size no network can have."""
    for field in fields(part):
        value, kind = getattr(part, field.name), str(field.type)
        if value is None and "None" in kind:
            continue
        fine, expected = True, kind
        if kind == "Padding":
            fine = value in ("same", "ceil") or (type(value) is int and value >= 0)
            expected = '0 or more, "same" or "ceil"'
        elif kind.startswith("Literal"):
            choices = get_args(get_type_hints(type(part))[field.name])
            fine, expected = value in choices, f"one of {', '.join(choices)}"
        elif kind.startswith("int"):
            fine, expected = type(value) is int and value >= 1, "a whole number of 1 or more"
        elif kind.startswith("float"):
            share = "dropout" in field.name
            fine = type(value) in (int, float) and 0 <= value < (1 if share else float("inf"))
            expected = "0 or more, and less than 1" if share else "0 or more"
        elif kind.startswith(("str", "bool")):
            fine = type(value).__name__ == kind.split(" ")[0]
        if not fine:
            raise ValueError(f"Expected {field.name} of {part.name} to be {expected}; received {value!r}")


def _stage(fields: dict[str, Any]) -> Stage:
    return STAGES[fields.pop("type")](**fields)


def scaled_channels(channels: int, width: float) -> int:
    """`channels` times `width`, to the nearest multiple of 8, and at least 8."""
    return max(CHANNEL_MULTIPLE, round(channels * width / CHANNEL_MULTIPLE) * CHANNEL_MULTIPLE)


def output_side(stage: Stage, side: int) -> int:
    """The side in pixels of `stage`'s output for an input of `side` pixels; 0 where there is none."""
    if isinstance(stage, LocalResponseNorm | Inception):
        return side
    kernel = stage.kernel if isinstance(stage, Conv) else stage.size
    if stage.padding == "same":
        return -(-side // stage.stride)
    if stage.padding == "ceil":
        return max(0, -(-(side - kernel) // stage.stride) + 1)
    return max(0, (side + 2 * stage.padding - kernel) // stage.stride + 1)


def sides(architecture: Architecture, side: int) -> dict[str, int]:
    """The side in pixels after each stage, by stage name, for an input of `side` pixels."""
    result = {}
    for stage in architecture.stages:
        side = output_side(stage, side)
        result[stage.name] = side
    return result


def fits(architecture: Architecture, side: int, *, aux_heads: bool) -> bool:
    """Whether every layer has an output for an input of `side` pixels."""
    after = sides(architecture, side)
    heads = architecture.auxiliary_heads if aux_heads else ()
    return min(after.values()) >= 1 and all(
        head.adaptive is not None or after[head.block] >= head.pool for head in heads
    )


def check_size(architecture: Architecture, height: int | None, width: int | None, *, aux_heads: bool) -> None:
    """Refuse an input at which a layer has no output; `None` is a side that is not known.

    Raises:
        ValueError: A side is too small, or is not known and there are auxiliary heads.
    """
    smallest = smallest_input(architecture, aux_heads=aux_heads)
    heads = "with" if aux_heads else "without"
    if any(side is not None and side < smallest for side in (height, width)):
        raise ValueError(
            f"The input should be at least {smallest} x {smallest} pixels for variant "
            f"{architecture.name!r} {heads} auxiliary heads. Received: {height} x {width}"
        )
    if aux_heads and None in (height, width):
        raise ValueError(
            "With auxiliary heads the input's height and width should be known: they have fully connected "
            f"layers; give `input_shape` or `aux_heads=False`. Received: {height} x {width}"
        )


def smallest_input(architecture: Architecture, *, aux_heads: bool) -> int:
    """The smallest input side, in pixels, at which every layer has an output."""
    return next(side for side in range(1, 4096) if fits(architecture, side, aux_heads=aux_heads))
