"""A trained network made ready to be served: the same answers in fewer passes over memory.

Batch normalisation and ReLU are folded into the convolution before them. On a processor, max pools compare
the bits of numbers that are not negative, and weights are constants of the graph (`ServedNetwork.frozen`).
What each of them brings is in `benchmarks/README.md`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

Tensor = Any
Operation = Any  # a layer, or a bare operation such as `ops.square`

LEVELS = ("none", "fold", "cpu")

# Operations that give nothing negative, and those that do so where nothing they are given is negative.
NEVER_NEGATIVE = ("ReLU", "Rsqrt", "Sqrt", "Square")
KEEPS_SIGNS = (
    "Add",
    "Cast",
    "Concatenate",
    "Dropout",
    "Identity",
    "IntegerMaxPooling2D",
    "MaxPooling2D",
    "Moveaxis",
    "Multiply",
    "ZeroPadding2D",
)


@dataclass(frozen=True)
class Unit:
    """A convolution, with the normalisation and the ReLU that follow it and nothing else does."""

    convolution: layers.Conv2D
    norm: layers.BatchNormalization | None
    relu: layers.ReLU | None

    def weights(self) -> list[np.ndarray]:
        """Kernel and bias of the one convolution that it all comes to."""
        kernel, *bias = (np.asarray(value, "float64") for value in self.convolution.get_weights())
        if self.norm is None:
            return [kernel, *bias]
        norm = self.norm
        scale = 1 / np.sqrt(_values(norm.moving_variance) + norm.epsilon)
        scale = scale * _values(norm.gamma) if norm.scale else scale
        shift = (bias[0] if bias else 0) - _values(norm.moving_mean)
        return [kernel * scale, shift * scale + (_values(norm.beta) if norm.center else 0)]

    def folded(self, dtype: str) -> layers.Conv2D:
        """That convolution, not built yet."""
        config = self.convolution.get_config() | {"dtype": dtype}
        config["use_bias"] = config["use_bias"] or self.norm is not None
        if self.relu is not None:
            config["activation"] = "relu"
        return layers.Conv2D.from_config(config)


class IntegerMaxPooling2D(layers.MaxPooling2D):
    """A max pool of numbers that are not negative, by their bits, whose order as integers is the same.

    On a processor TensorFlow pools floats by a kernel of training, which writes down where each maximum
    was; that of integers does not. No GPU pools integers.
    """

    def call(self, inputs: Tensor) -> Tensor:
        bits = tf.bitcast(inputs, tf.int16 if inputs.dtype.size == 2 else tf.int32)
        pooled = tf.nn.max_pool2d(bits, self.pool_size, self.strides, self.padding.upper())
        return tf.bitcast(pooled, inputs.dtype)


def optimized(model: keras.Model, precision: str, *, cpu: bool) -> keras.Model:
    """A copy of a network for inference, with folded weights.

    Args:
        model: A functional model.
        precision: What it computes in, `"float32"` or `"bfloat16"`; in bfloat16 convolutions hold their
            weights in it too. Output layers stay in float32.
        cpu: Whether it is for a processor alone: max pools go by bits.
    """
    units = {unit.convolution.name: unit for unit in _units(model)}
    absorbed = {part.name for unit in units.values() for part in (unit.norm, unit.relu) if part is not None}
    producers = {id(operation.output): operation for operation in model.operations}

    def call(operation: Operation, *arguments: Any, **options: Any) -> Tensor:
        if operation.name in absorbed:
            return arguments[0]
        unit = units.get(operation.name)
        dtype = "float32" if operation.name in model.output_names else _policy(operation, precision)
        if unit is not None:
            copy, weights = unit.folded(dtype), unit.weights()
        else:
            kind = type(operation)
            if cpu and _pools_integers(operation, producers):
                kind = IntegerMaxPooling2D
            is_layer = isinstance(operation, keras.Layer)
            copy = kind.from_config(operation.get_config() | ({"dtype": dtype} if is_layer else {}))
            weights = operation.get_weights() if is_layer else []
        outputs = copy(*arguments, **options)
        if weights:
            copy.set_weights(weights)
        return outputs

    # Keras's own way through the graph, with the operations as they are.
    return keras.models.clone_model(model, clone_function=lambda operation: operation, call_function=call)


def _policy(operation: Operation, precision: str) -> str:
    if precision == "float32":
        return "float32"
    # Other layers' weights, such as statistics, keep their precision.
    return "bfloat16" if isinstance(operation, layers.Conv2D | layers.Dense) else "mixed_bfloat16"


def _units(model: keras.Model) -> Iterator[Unit]:
    consumers: dict[int, list[Operation]] = {id(output): [None] for output in model.outputs}
    for operation in model.operations:
        for tensor in keras.tree.flatten(operation.input):
            consumers.setdefault(id(tensor), []).append(operation)

    def only_consumer(operation: Operation) -> Operation:
        found = consumers.get(id(operation.output), [])
        return found[0] if len(found) == 1 else None

    for layer in model.layers:
        if not isinstance(layer, layers.Conv2D) or layer.activation is not keras.activations.linear:
            continue
        norm = relu = None
        follower = only_consumer(layer)
        if isinstance(follower, layers.BatchNormalization) and _axis(layer) == follower.axis % 4:
            norm, follower = follower, only_consumer(follower)
        if isinstance(follower, layers.ReLU) and _is_plain(follower):
            relu = follower
        yield Unit(layer, norm, relu)


def _axis(convolution: layers.Conv2D) -> int:
    return 3 if convolution.data_format == "channels_last" else 1


def _is_plain(relu: layers.ReLU) -> bool:
    return relu.max_value is None and not relu.negative_slope and not relu.threshold


def _pools_integers(operation: Operation, producers: dict[int, Operation]) -> bool:
    return (
        type(operation) is layers.MaxPooling2D
        and operation.data_format == "channels_last"
        and _never_negative(operation.input, producers)
    )


def _never_negative(tensor: Tensor, producers: dict[int, Operation]) -> bool:
    producer: Operation = producers.get(id(tensor))
    kind = type(producer).__name__
    if kind in NEVER_NEGATIVE or getattr(producer, "activation", None) is keras.activations.relu:
        return True
    return kind in KEEPS_SIGNS and all(
        _never_negative(each, producers) for each in keras.tree.flatten(producer.input)
    )


def _values(variable: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(variable), "float64")
