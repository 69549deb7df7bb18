"""The building blocks: pure functions from a symbolic tensor and its row of data to a tensor.

They use only Keras, so any backend runs them, and no custom classes, so a saved model loads wherever Keras
does. Layers are named after the paper: `inception_4a_3x3_reduce`.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_googlenet.names import BATCH_NORM, OUTPUT, block_layer
from keras_googlenet.network.architecture import (
    BRANCH_5X5_KERNELS,
    Architecture,
    AuxiliaryHead,
    Conv,
    Inception,
    LocalResponseNorm,
    MaxPool,
    Stage,
    output_side,
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
    """Apply any row of an architecture.

    Args:
        x: (batch, height, width, channels), or channels first under that data format.
        stage: The row.
        architecture: The network that it is of.

    Returns:
        (batch, new height, new width, new channels): see the function of the row's type.
    """
    match stage:
        case Conv():
            return convolution(x, stage, architecture)
        case MaxPool():
            return max_pool(x, stage, architecture.activation)
        case LocalResponseNorm():
            return local_response_norm(x, stage.name)
        case Inception():
            return inception(x, stage, architecture)


def convolution(
    x: Tensor,
    spec: Conv,
    architecture: Architecture,
    *,
    linear: bool = False,
    batch_norm: bool | None = None,
) -> Tensor:
    """Convolution and activation, with batch normalization between them where the architecture has it.

    Args:
        x: (batch, height, width, channels), or channels first under that data format.
        spec: The convolution.
        architecture: Its normalization, activation and initializers.
        linear: Whether no activation follows.
        batch_norm: Overrides the architecture's.

    Returns:
        (batch, new height, new width, `spec.filters`); `architecture.output_side` gives the new sides.
    """
    batch_norm = architecture.batch_norm if batch_norm is None else batch_norm
    symmetric = isinstance(spec.padding, int) and spec.kernel == 2 * spec.padding + 1
    same = spec.padding == "same" or (spec.stride == 1 and symmetric)
    if spec.padding and not same:
        # TensorFlow's "same" would pad (2, 3) where Caffe pads (3, 3): the weights, shifted a pixel.
        x = layers.ZeroPadding2D(spec.padding, name=f"{spec.name}_pad")(x)
    x = layers.Conv2D(
        spec.filters,
        spec.kernel,
        strides=spec.stride,
        padding="same" if same else "valid",
        activation=None if linear or batch_norm else architecture.activation,
        use_bias=not batch_norm,
        kernel_initializer=architecture.kernel_initializer,
        bias_initializer=keras.initializers.Constant(architecture.bias_initializer),
        name=spec.name,
    )(x)
    if batch_norm:
        x = layers.BatchNormalization(
            axis=channel_axis(),
            scale=architecture.batch_norm_scale,
            epsilon=BN_EPSILON,
            momentum=BN_MOMENTUM,
            name=f"{spec.name}{BATCH_NORM}",
        )(x)
        if not linear:
            x = activation(x, architecture, f"{spec.name}_{architecture.activation}")
    return x


def activation(x: Tensor, architecture: Architecture, name: str) -> Tensor:
    """The architecture's activation, in a layer of that name; `x` is of any shape."""
    if architecture.activation == "relu":
        return layers.ReLU(name=name)(x)
    return layers.Activation(architecture.activation, name=name)(x)


def max_pool(x: Tensor, spec: MaxPool, activation: str = "relu") -> Tensor:
    """Max pool under any of the paddings of `architecture.Padding`.

    Explicit padding uses zeros, which are neutral after a ReLU alone.

    Args:
        x: (batch, height, width, channels), or channels first under that data format.
        spec: The pool.
        activation: Of the layer before.

    Returns:
        (batch, new height, new width, channels); `architecture.output_side` gives the new sides.

    Raises:
        ValueError: After another activation than ReLU, the padding is explicit, or the sides are not known or
            need different paddings.
    """
    if spec.padding == "ceil":
        modes = {_ceil_mode(spec, side) for side in spatial_shape(x)}
        padding = modes.pop() if len(modes) == 1 else None
        if padding is None and activation != "relu":
            raise ValueError(
                f"With {activation}, the input's height and width should be known and alike: zeros at the "
                f"edge of {spec.name} are not neutral. Received: {spatial_shape(x)}"
            )
        if padding is None:  # sides unknown or at odds: one more row and column serves them all
            extra = spec.stride - 1
            x = layers.ZeroPadding2D(((0, extra), (0, extra)), name=f"{spec.name}_pad")(x)
    elif spec.padding == "same":
        padding = "same"
    else:
        padding = None
        if spec.padding and activation != "relu":
            raise ValueError(
                f"With {activation}, {spec.name} should be padded by 'same' or 'ceil': zeros at its edges "
                f"are not neutral. Received: {spec.padding}"
            )
        if spec.padding:
            x = layers.ZeroPadding2D(spec.padding, name=f"{spec.name}_pad")(x)
    return layers.MaxPooling2D(spec.size, spec.stride, padding or "valid", name=spec.name)(x)


def _ceil_mode(spec: MaxPool, side: int | None) -> str | None:
    """Keras's padding whose windows are Caffe's with ceil rounding on `side`, if there is one."""
    if side is None:
        return None
    outputs = output_side(spec, side)
    overhang = (outputs - 1) * spec.stride + spec.size - side
    if overhang == 0:
        return "valid"
    # "same" puts the odd one of its pixels after the last, so an overhang of 1 is just that.
    return "same" if overhang == 1 and outputs == -(-side // spec.stride) else None


def local_response_norm(
    x: Tensor, name: str, *, size: int = 5, alpha: float = 1e-4, k: float = 1.0
) -> Tensor:
    """Local response normalization across channels, beta 0.75, in float32 under any policy.

    `x * (k + alpha / size * sum of squares over `size` neighboring channels) ** -0.75`: Caffe's
    formula, which divides alpha by the size. Krizhevsky et al. (2012), section 3.3.

    Args:
        x: (batch, height, width, channels), or channels first under that data format.
        name: Of the layer that holds the output.
        size: Number of neighboring channels in a sum.
        alpha: Weight of the sum of squares.
        k: Offset.

    Returns:
        The same shape, float32; the next layer casts to its own compute type.
    """
    axis = channel_axis()
    x = ops.moveaxis(ops.cast(x, "float32"), axis, -1)
    # One convolution along the channels: faster in training than TensorFlow's LRN.
    window = np.full((1, 1, size, 1, 1), alpha / size, "float32")
    squares = ops.expand_dims(ops.square(x), -1)
    scale = k + ops.squeeze(ops.conv(squares, window, 1, "same", "channels_last"), -1)
    inverse_root = ops.rsqrt(scale)
    x = x * inverse_root * ops.sqrt(inverse_root)  # scale ** -0.75 without the slow power
    x = ops.moveaxis(x, -1, axis)
    return layers.Identity(dtype="float32", name=name)(x)  # gives the output the paper's name


def inception(x: Tensor, spec: Inception, architecture: Architecture) -> Tensor:
    """An Inception block (paper, Figure 2a without and 2b with the reductions).

    Args:
        x: (batch, height, width, channels), or channels first under that data format.
        spec: The channels of its branches, a row of Table 1.
        architecture: What the branches are made of.

    Returns:
        (batch, height, width, `spec.filters`); without reductions, the channels of `x` take the place of
        those of the pool projection.
    """
    block = block_layer(spec.name)

    def conv(x: Tensor, suffix: str, filters: int, kernel: int = 1, *, linear: bool = False) -> Tensor:
        row = Conv(f"{block}_{suffix}", filters, kernel, padding=kernel // 2)
        return convolution(x, row, architecture, linear=linear)

    def reduced(suffix: str, filters: int) -> Tensor:
        if not architecture.reductions:
            return x
        return conv(x, f"{suffix}_reduce", filters, linear=architecture.linear_reductions)

    # The third branch's layers are named after what they are: "3x3b" where they are not 5x5.
    kernels = BRANCH_5X5_KERNELS[architecture.branch_5x5]
    third = "5x5" if kernels == (5,) else "3x3b"
    large = reduced(third, spec.reduce_5x5)
    for number, kernel in enumerate(kernels, start=1):
        suffix = third if len(kernels) == 1 else f"{third}_{number}"
        large = conv(large, suffix, spec.conv_5x5, kernel)
    pooled = layers.MaxPooling2D(3, 1, "same", name=f"{block}_pool")(x)
    if architecture.reductions:
        pooled = conv(pooled, "pool_proj", spec.pool_proj)
    branches = [
        conv(x, "1x1", spec.conv_1x1),
        conv(reduced("3x3", spec.reduce_3x3), "3x3", spec.conv_3x3, kernel=3),
        large,
        pooled,
    ]
    axis = channel_axis()
    if not architecture.residual:
        return layers.Concatenate(axis=axis, name=f"{block}{OUTPUT}")(branches)
    joined = layers.Concatenate(axis=axis, name=f"{block}_concat")(branches)
    shortcut = conv(x, "shortcut", joined.shape[axis], linear=True)
    joined = layers.Add(name=f"{block}_add")([joined, shortcut])
    return activation(joined, architecture, f"{block}{OUTPUT}")


def auxiliary_head(
    x: Tensor,
    spec: AuxiliaryHead,
    architecture: Architecture,
    *,
    classes: int,
    dropout: float,
    activation: str | None,
) -> Tensor:
    """An auxiliary classifier (paper, section 5); its output layer is named `spec.name`.

    Args:
        x: A block's output, (batch, height, width, channels), or channels first under that data format.
        spec: The head.
        architecture: Normalization and initializers.
        classes: Number of classes.
        dropout: Rate before the last layer.
        activation: Of the last layer; `None` for logits.

    Returns:
        (batch, classes), float32.
    """
    if spec.adaptive is None:
        x = layers.AveragePooling2D(spec.pool, spec.stride, "valid", name=f"{spec.name}_pool")(x)
    else:
        x = layers.AdaptiveAveragePooling2D(spec.adaptive, name=f"{spec.name}_pool")(x)
    conv = Conv(f"{spec.name}_conv", spec.filters, kernel=1)
    x = convolution(x, conv, architecture, batch_norm=spec.batch_norm)
    x = layers.Flatten(name=f"{spec.name}_flatten")(x)
    if spec.drop_features:
        x = layers.Dropout(dropout, name=f"{spec.name}_flatten_dropout")(x)
    x = layers.Dense(
        spec.units,
        activation=architecture.activation,
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
    """Dropout and the last fully connected layer; float32 under any policy.

    Args:
        x: (batch, features).
        name: Of the last layer.
        classes: Number of classes.
        dropout: Rate before the last layer.
        activation: Of the last layer; `None` for logits.
        architecture: The initializer.

    Returns:
        (batch, classes), float32.
    """
    x = layers.Dropout(dropout, name=f"{name}_dropout")(x)
    return layers.Dense(
        classes,
        activation=activation,
        kernel_initializer=architecture.kernel_initializer,
        dtype="float32",  # a softmax in half precision loses the small probabilities
        name=name,
    )(x)
