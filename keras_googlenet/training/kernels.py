"""Layers for training on TensorFlow: the same results as Keras's, in fewer and faster kernels.

Used only during training: a saved run has Keras's own layers again, and loads wherever Keras does.
`benchmarks/training.py` measures their speedup.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_googlenet.errors import UserError
from keras_googlenet.network.surgery import copy_model

Tensor = Any

FROZEN_WEIGHTS = "TF_ONEDNN_ASSUME_FROZEN_WEIGHTS"
"""If this is set, convolutions keep using the first weights that they saw."""

FAST_CHANNELS = 16
"""oneDNN normalizes bfloat16 four times as slowly where the number of channels is not a multiple of this."""

SMALL_MAP = 49
"""Largest feature map (height x width) whose gradient is computed per kernel position: 7 x 7."""


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization over (batch, height, width) in TensorFlow's one kernel, in the inputs' own type.

    Keras casts to float32 and makes a dozen passes over the values, and another dozen for the gradient.
    """

    def call(self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None) -> Tensor:
        if not (training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        channels = inputs.shape[-1]
        scale = ops.cast(self.gamma, "float32") if self.scale else tf.ones(channels)
        offset = ops.cast(self.beta, "float32") if self.center else tf.zeros(channels)
        pieces = _pieces(inputs)
        if pieces == 1:
            normalized, mean, variance = _fused(inputs, scale, offset, self.epsilon)
        else:
            normalized, mean, variance = normalize_in_pieces(inputs, scale, offset, self.epsilon, pieces)
        for moving, of_batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + of_batch * (1 - self.momentum))
        return normalized


def _fused(x: Tensor, scale: Tensor, offset: Tensor, epsilon: float, *moments: Tensor) -> list[Tensor]:
    """Normalized `x` with the mean and variance of the batch; with `moments`, those are taken instead."""
    import tensorflow as tf

    mean, variance = moments or (tf.zeros(0), tf.zeros(0))
    outputs = tf.raw_ops.FusedBatchNormV3(
        x=x,
        scale=scale,
        offset=offset,
        mean=mean,
        variance=variance,
        epsilon=epsilon,
        is_training=not moments,
    )
    values = tf.cast(tf.size(x) / x.shape[-1], "float32")
    # The kernel's variance is of a sample; Keras averages the batch's own.
    return [outputs.y, outputs.batch_mean, outputs.batch_variance * ((values - 1) / values)]


def _pieces(x: Tensor) -> int:
    """How many neighboring pixels have a multiple of 16 channels together; 1 where that is not needed."""
    import tensorflow as tf

    _, height, width, channels = x.shape
    pieces = FAST_CHANNELS // math.gcd(channels, FAST_CHANNELS)
    slow = x.dtype == "bfloat16" and not tf.config.list_physical_devices("GPU")
    return pieces if slow and None not in (height, width) and height * width % pieces == 0 else 1


def normalize_in_pieces(
    x: Tensor, scale: Tensor, offset: Tensor, epsilon: float, pieces: int
) -> tuple[Tensor, Tensor, Tensor]:
    """`_fused` with the channels of `pieces` neighboring pixels side by side: the kernel is fast on those.

    Args:
        x: (batch, height, width, channels), height times width a multiple of `pieces`.
        scale: (channels,).
        offset: (channels,).
        epsilon: Added to the variance.
        pieces: Number of pixels.
    """
    import tensorflow as tf

    _, height, width, channels = x.shape

    def repeated(values: Tensor) -> Tensor:
        return tf.tile(values, [pieces])

    def of_each(values: Tensor) -> Tensor:
        return tf.reshape(values, (pieces, channels))

    @tf.custom_gradient
    def normalize(x: Tensor, scale: Tensor, offset: Tensor) -> tuple[Any, Callable[..., Any]]:
        wide = tf.reshape(x, (-1, 1, height * width // pieces, pieces * channels))
        ones, zeros = tf.ones(pieces * channels), tf.zeros(pieces * channels)
        _, means, variances = _fused(wide, ones, zeros, epsilon)
        mean = tf.reduce_mean(of_each(means), 0)
        variance = tf.reduce_mean(of_each(variances), 0) + tf.math.reduce_variance(of_each(means), 0)
        y = _fused(wide, repeated(scale), repeated(offset), epsilon, repeated(mean), repeated(variance))[0]

        def gradient(upstream: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            through = tf.raw_ops.FusedBatchNormGradV3(  # as if the mean and the variance were constant
                y_backprop=tf.reshape(upstream, tf.shape(wide)),
                x=wide,
                scale=repeated(scale),
                reserve_space_1=repeated(mean),
                reserve_space_2=repeated(variance),
                reserve_space_3=tf.zeros(0),
                epsilon=epsilon,
                is_training=False,
            )
            of_scale = tf.reduce_sum(of_each(through.scale_backprop), 0)
            of_offset = tf.reduce_sum(of_each(through.offset_backprop), 0)
            values = tf.cast(tf.size(x) / channels, "float32")
            inverse = tf.math.rsqrt(variance + epsilon)
            slope = -scale * inverse**2 * of_scale / values
            constant = -scale * inverse * of_offset / values - slope * mean
            # slope * x + constant, by the kernel: broadcasting in bfloat16 is slow
            rest = _fused(
                wide, repeated(slope) * math.sqrt(1 + epsilon), repeated(constant), epsilon, zeros, ones
            )[0]
            return tf.reshape(through.x_backprop + rest, tf.shape(x)), of_scale, of_offset

        return (tf.reshape(y, tf.shape(x)), mean, variance), gradient

    return normalize(x, scale, offset)


class FastConv2D(keras.layers.Conv2D):
    """A convolution of stride 1 whose kernel's gradient is a product of matrices.

    On a CPU, oneDNN takes two to six times as long as such a product for the gradient of a 1x1 kernel, and
    two to four times for other kernels on maps of up to 7 x 7.
    """

    def call(self, inputs: Tensor) -> Tensor:
        outputs = convolve(inputs, ops.convert_to_tensor(self.kernel))
        if self.use_bias:
            outputs = ops.add(outputs, self.bias)
        return self.activation(outputs)


def convolve(x: Tensor, kernel: Tensor) -> Tensor:
    """A convolution of stride 1 under `same` padding; x (batch, height, width, channels)."""
    import tensorflow as tf

    # A custom gradient takes no variable, but the kernel is one when a layer is called outside of a graph.
    x, kernel = tf.convert_to_tensor(x), tf.convert_to_tensor(kernel)
    size, _, channels, filters = kernel.shape
    _, height, width, _ = x.shape
    if size == 1:
        product = tf.matmul(tf.reshape(x, (-1, channels)), tf.reshape(kernel, (channels, filters)))
        return tf.reshape(product, (-1, height, width, filters))

    @tf.custom_gradient
    def convolution(x: Tensor, kernel: Tensor) -> tuple[Tensor, Callable[[Tensor], Any]]:
        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
            of_x = tf.nn.conv2d_transpose(upstream, kernel, tf.shape(x), 1, "SAME")
            around = size // 2
            padded = tf.pad(x, ((0, 0), (around, around), (around, around), (0, 0)))
            rows = tf.reshape(upstream, (-1, filters))
            of_kernel = [
                tf.matmul(
                    tf.reshape(padded[:, top : top + height, left : left + width], (-1, channels)),
                    rows,
                    transpose_a=True,
                )
                for top in range(size)
                for left in range(size)
            ]
            return of_x, tf.reshape(tf.stack(of_kernel), kernel.shape)

        return tf.nn.conv2d(x, kernel, 1, "SAME"), gradient

    return convolution(x, kernel)


KERAS = {
    FusedBatchNormalization: keras.layers.BatchNormalization,
    FastConv2D: keras.layers.Conv2D,
}


def check_weights_can_change() -> None:
    """Refuse an environment in which training would not change the weights.

    Raises:
        UserError: The environment tells oneDNN that weights are constant.
    """
    frozen = os.environ.get(FROZEN_WEIGHTS, "0").lower() not in ("", "0", "false")
    if frozen and keras.backend.backend() == "tensorflow":
        raise UserError(f"{FROZEN_WEIGHTS} is for a server, and keeps weights from being trained: unset it")


def with_fast_layers(model: keras.Model, synchronized: bool = False) -> keras.Model:
    """A copy of a network of channels-last images, weights included, to be trained here.

    Args:
        model: Of Keras's layers.
        synchronized: Whether batch normalization takes the statistics of all devices' images.

    Raises:
        UserError: The environment tells oneDNN that weights are constant.
    """
    if keras.backend.backend() != "tensorflow":  # XLA fuses what JAX is given
        return model
    check_weights_can_change()
    return copy_model(model, lambda layer: _fast(layer, synchronized))


def with_keras_layers(model: keras.Model) -> keras.Model:
    """A copy of what `with_fast_layers` made, weights included, of Keras's layers alone."""
    return copy_model(model, lambda layer: _cloned(layer, KERAS.get(type(layer), type(layer)), False))


def _fast(layer: keras.Layer, synchronized: bool) -> keras.Layer:
    import tensorflow as tf

    kind = type(layer)
    if kind is keras.layers.BatchNormalization and len(layer.input.shape) == 4 and not synchronized:
        kind = FusedBatchNormalization
    elif kind is keras.layers.Conv2D and _is_slow(layer) and not tf.config.list_physical_devices("GPU"):
        kind = FastConv2D  # cuDNN's kernels need no help
    return _cloned(layer, kind, synchronized)


def _cloned(layer: keras.Layer, kind: Any, synchronized: bool) -> keras.Layer:
    config = layer.get_config()
    if isinstance(layer, keras.layers.BatchNormalization):
        config["synchronized"] = synchronized
    return kind.from_config(config)


def _is_slow(layer: keras.layers.Conv2D) -> bool:
    """Whether oneDNN's gradient of the convolution's kernel is slower than a product of matrices."""
    _, height, width, _ = layer.input.shape
    if (
        None in (height, width)
        or layer.strides != (1, 1)
        or layer.groups != 1
        or layer.dilation_rate != (1, 1)
    ):
        return False
    size = layer.kernel_size[0]
    same = layer.padding == "same" and layer.kernel_size == (size, size) and size % 2 == 1
    return layer.kernel_size == (1, 1) or (same and height * width <= SMALL_MAP)
