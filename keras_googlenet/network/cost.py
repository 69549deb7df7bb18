"""What a network costs, from its rows alone, before anything is built.

Costs are the main path's: auxiliary heads are gone when a network is served.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from keras_googlenet.network.architecture import (
    BRANCH_5X5_KERNELS,
    Architecture,
    Conv,
    Inception,
    MaxPool,
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


def cost(architecture: Architecture, size: InputSize) -> Cost:
    """What `profile` counts on the built main path, from the rows.

    Args:
        architecture: The network.
        size: Its input and number of classes.
    """
    height, width, channels = size.height, size.width, size.channels
    parameters = macs = 0

    def convolve(inputs: int, filters: int, kernel: int) -> int:
        nonlocal parameters, macs
        weights = kernel * kernel * inputs * filters
        parameters += weights + filters * _vectors(architecture)
        macs += height * width * weights
        return filters

    for stage in architecture.stages:
        if isinstance(stage, Conv | MaxPool):
            height, width = output_side(stage, height), output_side(stage, width)
        if isinstance(stage, Conv):
            channels = convolve(channels, stage.filters, stage.kernel)
        elif isinstance(stage, Inception):
            reduced_3x3 = reduced_5x5 = pooled = channels
            if architecture.reductions:
                reduced_3x3 = convolve(channels, stage.reduce_3x3, 1)
                reduced_5x5 = convolve(channels, stage.reduce_5x5, 1)
                pooled = convolve(channels, stage.pool_proj, 1)
            for kernel in BRANCH_5X5_KERNELS[architecture.branch_5x5]:
                reduced_5x5 = convolve(reduced_5x5, stage.conv_5x5, kernel)
            filters = (
                convolve(channels, stage.conv_1x1, 1)
                + convolve(reduced_3x3, stage.conv_3x3, 3)
                + reduced_5x5
                + pooled
            )
            channels = convolve(channels, filters, 1) if architecture.residual else filters
    return Cost(parameters + (channels + 1) * size.classes, macs + channels * size.classes)


def _vectors(architecture: Architecture) -> int:
    """Numbers beside its kernel that each filter has: a bias, or batch normalisation's own."""
    if not architecture.batch_norm:
        return 1
    return 4 if architecture.batch_norm_scale else 3
