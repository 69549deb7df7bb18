"""The building blocks: pure functions from a symbolic tensor and its row of data to a tensor.

They use Keras alone, so any backend runs them, and no class of our own, so a saved model loads
wherever Keras does. Layers are named after the paper: `inception_4a_3x3_reduce`.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_googlenet.architecture import (
    Architecture,
    AuxiliaryHead,
    Conv,
    Inception,
    LocalResponseNorm,
    MaxPool,
    Stage,
)

Tensor = Any  # a KerasTensor; Keras has no type stubs

BN_EPSILON = 1e-3
BN_MOMENTUM = 0.9  # Keras's 0.99 is still far from the data after the few hundred steps of a first run


def channel_axis() -> int:
    """The axis of the channels under Keras's current image data format."""
    return -1 if keras.config.image_data_format() == "channels_last" else 1


def spatial_shape(x: Tensor) -> tuple[int | None, int | None]:
    """Height and width of `x`."""
    return x.shape[1:3] if channel_axis() == -1 else x.shape[2:4]


def apply_stage(x: Tensor, stage: Stage, architecture: Architecture) -> Tensor:
    """Any row of an architecture, applied to `x`."""
    match stage:
        case Conv():
            return convolution(x, stage, architecture)
        case MaxPool():
            return max_pool(x, stage)
        case LocalResponseNorm():
            return local_response_norm(x, stage.name)
        case Inception():
            return inception(x, stage, architecture)


def convolution(x: Tensor, spec: Conv, architecture: Architecture) -> Tensor:
    """Convolution and ReLU, with batch normalisation between them where the architecture has it."""
    batch_norm = architecture.batch_norm
    same = spec.stride == 1 and spec.kernel == 2 * spec.padding + 1
    if spec.padding and not same:
        # TensorFlow's "same" would pad (2, 3) where Caffe pads (3, 3): the weights, shifted a pixel.
        x = layers.ZeroPadding2D(spec.padding, name=f"{spec.name}_pad")(x)
    x = layers.Conv2D(
        spec.filters,
        spec.kernel,
        strides=spec.stride,
        padding="same" if same else "valid",
        activation=None if batch_norm else "relu",
        use_bias=not batch_norm,
        kernel_initializer=architecture.kernel_initializer,
        bias_initializer=keras.initializers.Constant(architecture.bias_initializer),
        name=spec.name,
    )(x)
    if batch_norm:
        x = layers.BatchNormalization(
            axis=channel_axis(), epsilon=BN_EPSILON, momentum=BN_MOMENTUM, name=f"{spec.name}_bn"
        )(x)
        x = layers.ReLU(name=f"{spec.name}_relu")(x)
    return x


def max_pool(x: Tensor, spec: MaxPool) -> Tensor:
    """Max pool with Caffe's rounding: the last window may hang over the edge."""
    if spec.padding != "ceil" or (spec.size, spec.stride) != (3, 2):
        raise ValueError(f"Expected a 3x3/2 pool with ceil rounding; received {spec}")
    odd = {None if side is None else side % 2 for side in spatial_shape(x)}
    if odd not in ({0}, {1}):
        # Sides unknown or of mixed parity: one more row and column serves both. Zeros are neutral,
        # for every pool of the network follows a ReLU.
        x = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{spec.name}_pad")(x)
    # On even sides "same" pads that row and column itself; on odd ones the windows fit as they are.
    padding = "same" if odd == {0} else "valid"
    return layers.MaxPooling2D(spec.size, spec.stride, padding, name=spec.name)(x)


def local_response_norm(
    x: Tensor, name: str, *, size: int = 5, alpha: float = 1e-4, k: float = 1.0
) -> Tensor:
    """Local response normalisation across channels, beta 0.75, in float32 under any policy.

    `x * (k + alpha / size * sum of squares over `size` neighbouring channels) ** -0.75`: Caffe's
    formula, which divides alpha by the size. Krizhevsky et al. (2012), section 3.3. The shape is
    unchanged; the next layer casts to its own compute type.
    """
    axis = channel_axis()
    x = ops.moveaxis(ops.cast(x, "float32"), axis, -1)
    # One convolution along the channels: in training, faster than TensorFlow's own LRN.
    window = np.full((1, 1, size, 1, 1), alpha / size, "float32")
    squares = ops.expand_dims(ops.square(x), -1)
    scale = k + ops.squeeze(ops.conv(squares, window, 1, "same", "channels_last"), -1)
    inverse_root = ops.rsqrt(scale)
    x = x * inverse_root * ops.sqrt(inverse_root)  # scale ** -0.75 without the slow power
    x = ops.moveaxis(x, -1, axis)
    return layers.Identity(dtype="float32", name=name)(x)  # gives the output the paper's name


def inception(x: Tensor, spec: Inception, architecture: Architecture) -> Tensor:
    """The Inception block with dimension reductions (paper, Figure 2b)."""
    block = f"inception_{spec.name}"

    def conv(x: Tensor, suffix: str, filters: int, kernel: int = 1) -> Tensor:
        row = Conv(f"{block}_{suffix}", filters, kernel, padding=kernel // 2)
        return convolution(x, row, architecture)

    branches = [
        conv(x, "1x1", spec.conv_1x1),
        conv(conv(x, "3x3_reduce", spec.reduce_3x3), "3x3", spec.conv_3x3, kernel=3),
        conv(conv(x, "5x5_reduce", spec.reduce_5x5), "5x5", spec.conv_5x5, kernel=5),
        conv(layers.MaxPooling2D(3, 1, "same", name=f"{block}_pool")(x), "pool_proj", spec.pool_proj),
    ]
    return layers.Concatenate(axis=channel_axis(), name=f"{block}_output")(branches)


def auxiliary_head(
    x: Tensor,
    spec: AuxiliaryHead,
    architecture: Architecture,
    *,
    classes: int,
    dropout: float,
    activation: str | None,
) -> Tensor:
    """An auxiliary classifier (paper, section 5); its output layer is named `spec.name`."""
    x = layers.AveragePooling2D(spec.pool, spec.stride, "valid", name=f"{spec.name}_pool")(x)
    x = convolution(x, Conv(f"{spec.name}_conv", spec.filters, kernel=1), architecture)
    x = layers.Flatten(name=f"{spec.name}_flatten")(x)
    x = layers.Dense(
        spec.units,
        activation="relu",
        kernel_initializer=architecture.kernel_initializer,
        bias_initializer=keras.initializers.Constant(architecture.bias_initializer),
        name=f"{spec.name}_fc",
    )(x)
    return classifier(x, spec.name, classes, dropout, activation, architecture)


def classifier(
    x: Tensor,
    name: str,
    classes: int,
    dropout: float,
    activation: str | None,
    architecture: Architecture,
) -> Tensor:
    """Dropout and the last fully connected layer, `name`; float32 under any policy."""
    x = layers.Dropout(dropout, name=f"{name}_dropout")(x)
    return layers.Dense(
        classes,
        activation=activation,
        kernel_initializer=architecture.kernel_initializer,
        dtype="float32",  # a softmax in half precision loses the small probabilities
        name=name,
    )(x)
