"""The network as data: Table 1 of the paper, the variants, and the geometry that follows from them.

Source: Szegedy et al., "Going Deeper with Convolutions", arXiv 1409.4842, Table 1 and Figure 3; what
the paper leaves open (padding, rounding, initialisation) follows the BVLC reference model of Caffe.
Nothing here imports Keras.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Padding = int | Literal["ceil"]
"""Zeros on each side, or `"ceil"`: none, and a last window may hang over the edge (Caffe's pools)."""


@dataclass(frozen=True)
class Conv:
    """A convolution with its normalisation and ReLU."""

    name: str
    filters: int
    kernel: int
    stride: int = 1
    padding: int = 0


@dataclass(frozen=True)
class MaxPool:
    """A max pool."""

    name: str
    size: int = 3
    stride: int = 2
    padding: Padding = "ceil"


@dataclass(frozen=True)
class LocalResponseNorm:
    """Normalisation across neighbouring channels (Caffe's LRN: size 5, alpha 1e-4, beta 0.75, k 1)."""

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
        """Channels of the block's output: the four branches side by side."""
        return self.conv_1x1 + self.conv_3x3 + self.conv_5x5 + self.pool_proj


@dataclass(frozen=True)
class AuxiliaryHead:
    """A training-time classifier: average pool, 1x1 convolution, fully connected, softmax."""

    name: str  # its output layer
    block: str  # the Inception block it listens to
    pool: int = 5
    stride: int = 3
    filters: int = 128
    units: int = 1024


Stage = Conv | MaxPool | LocalResponseNorm | Inception

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
POOL_BEFORE = {"4a": MaxPool("pool3_3x3_s2"), "5a": MaxPool("pool4_3x3_s2")}

STEM: tuple[Stage, ...] = (
    Conv("conv1_7x7_s2", 64, kernel=7, stride=2, padding=3),  # 112 x 112 x 64
    MaxPool("pool1_3x3_s2"),  # 56 x 56 x 64
    LocalResponseNorm("pool1_norm1"),
    Conv("conv2_3x3_reduce", 64, kernel=1),
    Conv("conv2_3x3", 192, kernel=3, padding=1),  # 56 x 56 x 192
    LocalResponseNorm("conv2_norm2"),
    MaxPool("pool2_3x3_s2"),  # 28 x 28 x 192
)
AUXILIARY_HEADS = (AuxiliaryHead("aux1", "4a"), AuxiliaryHead("aux2", "4d"))


@dataclass(frozen=True)
class Architecture:
    """A network of the family.

    `batch_norm` puts batch normalisation after every convolution, which then has no bias.
    Initialisers are Keras's names or, for a number, that constant.
    """

    name: str
    stem: tuple[Stage, ...] = STEM
    blocks: tuple[Inception, ...] = TABLE_1
    auxiliary_heads: tuple[AuxiliaryHead, ...] = AUXILIARY_HEADS
    batch_norm: bool = False
    dropout: float = 0.4
    aux_dropout: float = 0.7
    kernel_initializer: str = "lecun_uniform"  # Caffe's "xavier": U(+-sqrt(3 / fan_in))
    bias_initializer: float = 0.2  # of convolutions and hidden layers; classifiers start at 0

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Everything from the image to the last block, in order."""
        body: list[Stage] = []
        for block in self.blocks:
            if block.name in POOL_BEFORE:
                body.append(POOL_BEFORE[block.name])
            body.append(block)
        return self.stem + tuple(body)


def without_lrn(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """The same stages less their local response normalisations."""
    return tuple(stage for stage in stages if not isinstance(stage, LocalResponseNorm))


VARIANTS = {
    architecture.name: architecture
    for architecture in (
        Architecture("paper"),
        Architecture("bn", stem=without_lrn(STEM), batch_norm=True),
    )
}


def output_side(stage: Stage, side: int) -> int:
    """The side in pixels of `stage`'s output for an input of `side` pixels; 0 where there is none."""
    if isinstance(stage, LocalResponseNorm | Inception):
        return side
    kernel = stage.kernel if isinstance(stage, Conv) else stage.size
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
    return min(after.values()) >= 1 and all(after[head.block] >= head.pool for head in heads)


def smallest_input(architecture: Architecture, *, aux_heads: bool) -> int:
    """The smallest input side, in pixels, at which every layer has an output."""
    return next(side for side in range(1, 4096) if fits(architecture, side, aux_heads=aux_heads))
