"""The cost of a network, counted from its rows, before anything is built.

Costs are those of the main path for one image, because a served network has no auxiliary heads. Tests compare
them with those that `profile.costs` counts on built models.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from keras_googlenet.names import MAIN, POOL, block_layer
from keras_googlenet.network.architecture import (
    BRANCH_5X5_KERNELS,
    Architecture,
    Conv,
    Inception,
    LocalResponseNorm,
    MaxPool,
    check_size,
    output_side,
)


@dataclass(frozen=True)
class InputSize:
    """What a network is built for."""

    height: int
    width: int
    channels: int
    classes: int


class Cost(NamedTuple):
    """Of the main path, for one image."""

    parameters: int
    macs: int  # multiply-adds of convolutions and fully connected layers


@dataclass(frozen=True)
class StageCost:
    """A row of Table 1."""

    name: str  # that of its layers, or what theirs begin with
    type: str  # in the paper's words
    patch: str  # "7x7/2": size and stride
    output_shape: tuple[int, int, int]  # height, width, channels
    depth: int = 0  # convolutions and fully connected layers on the longest path
    depth_with_pools: int = 0
    parameters: int = 0  # those of batch normalization are 4 a channel, or 3 without a scale
    macs: int = 0
    activations: int = 0  # values that convolutions and fully connected layers put out


def cost(architecture: Architecture, size: InputSize) -> Cost:
    """The sums of `stage_costs`."""
    rows = stage_costs(architecture, size)
    return Cost(sum(row.parameters for row in rows), sum(row.macs for row in rows))


def stage_costs(architecture: Architecture, size: InputSize) -> list[StageCost]:
    """The cost of each row of the paper's Table 1, from the image to the classes.

    As in the paper, normalization has no row, a 1x1 reduction of the stem belongs to the row of the following
    convolution, and the softmax is part of the linear layer.

    Args:
        architecture: The network.
        size: Its input and number of classes.

    Raises:
        ValueError: The input is too small for the network.
    """
    check_size(architecture, size.height, size.width, aux_heads=False)
    shape = size.height, size.width, size.channels
    rows: list[StageCost] = []
    for stage in architecture.stages:
        if isinstance(stage, LocalResponseNorm):
            continue
        row = _stage_cost(architecture, stage, shape)
        if rows and rows[-1].name == f"{row.name}_reduce":
            row = _merged(rows.pop(), row)
        rows.append(row)
        shape = row.output_shape
    height, width, channels = shape
    weights = channels * size.classes
    pooled, scores = (1, 1, channels), (1, 1, size.classes)
    pool = architecture.head_pool
    return [
        *rows,
        StageCost(f"{pool}{POOL}", f"{pool} pool", f"{height}x{width}/1", pooled, depth_with_pools=1),
        StageCost(f"{MAIN}_dropout", f"dropout ({architecture.dropout:.0%})", "", pooled),
        StageCost(MAIN, "linear", "", scores, 1, 1, weights + size.classes, weights, size.classes),
    ]


def _stage_cost(
    architecture: Architecture, stage: Conv | MaxPool | Inception, shape: tuple[int, int, int]
) -> StageCost:
    height, width = (output_side(stage, side) for side in shape[:2])
    inputs, filters = shape[2], shape[2]
    convolutions: list[tuple[int, int, int]] = []
    name, kind, patch, depth, depth_with_pools = stage.name, "max pool", "", 0, 1
    if isinstance(stage, Inception):
        convolutions, filters = _block_convolutions(architecture, stage, inputs)
        name, kind = block_layer(stage.name), f"inception {stage.name}"
        # The longest branch is the third, or the fourth with its pool.
        reduced = int(architecture.reductions)
        depth = reduced + len(BRANCH_5X5_KERNELS[architecture.branch_5x5])
        depth_with_pools = max(depth, 1 + reduced)
    elif isinstance(stage, Conv):
        convolutions, filters = [(inputs, stage.filters, stage.kernel)], stage.filters
        kind, patch, depth = "convolution", f"{stage.kernel}x{stage.kernel}/{stage.stride}", 1
    else:
        patch = f"{stage.size}x{stage.size}/{stage.stride}"
    kernels = sum(kernel * kernel * taken * made for taken, made, kernel in convolutions)
    made = sum(made for _, made, _ in convolutions)
    return StageCost(
        name,
        kind,
        patch,
        (height, width, filters),
        depth,
        depth_with_pools,
        parameters=kernels + made * _vectors(architecture),
        macs=height * width * kernels,
        activations=height * width * made,
    )


def _block_convolutions(
    architecture: Architecture, block: Inception, inputs: int
) -> tuple[list[tuple[int, int, int]], int]:
    """The convolutions of an Inception block.

    Args:
        architecture: The architecture of its branches.
        block: Its row.
        inputs: Channels of its input.

    Returns:
        Input channels, output channels and kernel size of each convolution; channels of the block's output.
    """
    third = BRANCH_5X5_KERNELS[architecture.branch_5x5]
    reduced_3x3 = reduced_5x5 = pooled = inputs
    found = [(inputs, block.conv_1x1, 1)]
    if architecture.reductions:
        reduced_3x3, reduced_5x5, pooled = block.reduce_3x3, block.reduce_5x5, block.pool_proj
        found += [(inputs, filters, 1) for filters in (reduced_3x3, reduced_5x5, pooled)]
    found.append((reduced_3x3, block.conv_3x3, 3))
    taken = [reduced_5x5] + [block.conv_5x5] * (len(third) - 1)
    found += [(channels, block.conv_5x5, kernel) for channels, kernel in zip(taken, third, strict=True)]
    filters = block.conv_1x1 + block.conv_3x3 + block.conv_5x5 + pooled
    if architecture.residual:
        found.append((inputs, filters, 1))  # the shortcut
    return found, filters


def _merged(before: StageCost, row: StageCost) -> StageCost:
    counts = ("depth", "depth_with_pools", "parameters", "macs", "activations")
    return replace(row, **{name: getattr(before, name) + getattr(row, name) for name in counts})


def _vectors(architecture: Architecture) -> int:
    """Numbers per filter in addition to its kernel: a bias, or those of batch normalization."""
    if not architecture.batch_norm:
        return 1
    return 4 if architecture.batch_norm_scale else 3
