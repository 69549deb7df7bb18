"""Optimizes a trained network for serving: the same answers with fewer passes over memory.

Batch normalization and ReLU are folded into the convolution before them. In bfloat16, local response
normalization sums its windows as a convolution does. As constants of the graph (`ServedNetwork.frozen`)
weights are reordered for a processor's kernels once. What each of them brings is in `benchmarks/README.md`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

Tensor = Any
Operation = Any  # a layer, or a bare operation such as `ops.square`

LEVELS = ("none", "fold", "cpu")

# The operations of `layers.local_response_norm`.
LRN = sorted(
    ["Cast", "Square", "ExpandDims", "Conv", "Squeeze", "Add", "Rsqrt", "Multiply", "Sqrt", "Multiply"]
)


@dataclass(frozen=True)
class Unit:
    """A convolution with its normalization and ReLU, where nothing else reads the values in between."""

    convolution: layers.Conv2D
    norm: layers.BatchNormalization | None
    relu: layers.ReLU | None

    def weights(self) -> list[np.ndarray]:
        """Kernel and bias of the equivalent single convolution."""
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


class BandNormalization(layers.Layer):
    """Local response normalization with its sums as a 1x1 convolution by a band matrix.

    Args:
        window: Weights of neighboring channels' squares in the sum.
        offset: The constant added to the sum: k.
    """

    def __init__(self, window: Sequence[float], offset: float, **options: Any) -> None:
        super().__init__(**options)
        self.window, self.offset = window, offset

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"window": self.window, "offset": self.offset}

    def call(self, inputs: Tensor) -> Tensor:
        channels, reach = inputs.shape[-1], len(self.window) // 2
        diagonals = [
            weight * np.eye(channels, k=reach - distance) for distance, weight in enumerate(self.window)
        ]
        band = np.sum(diagonals, axis=0)
        sums = tf.nn.conv2d(tf.square(inputs), tf.cast(band[None, None], inputs.dtype), 1, "VALID")
        scale = tf.nn.bias_add(sums, tf.fill([channels], tf.cast(self.offset, inputs.dtype)))
        inverse_root = tf.math.rsqrt(tf.cast(scale, tf.float32))  # whose kernels are faster, casts and all
        return tf.cast(tf.cast(inputs, tf.float32) * inverse_root * tf.sqrt(inverse_root), inputs.dtype)


def optimized(model: keras.Model, precision: str) -> keras.Model:
    """A copy of a network for inference, with folded weights.

    Args:
        model: A functional model.
        precision: Precision of its computations, `"float32"` or `"bfloat16"`; with bfloat16, convolutions
            also store their weights in it. Output layers stay in float32.
    """
    units = {unit.convolution.name: unit for unit in _units(model)}
    absorbed = {part.name for unit in units.values() for part in (unit.norm, unit.relu) if part is not None}
    producers = {id(operation.output): operation for operation in model.operations}
    normalized = _normalizations(model, producers) if precision == "bfloat16" else {}
    inside = {id(operation): name for name, found in normalized.items() for operation in found}
    constants: dict[tuple[str, str], Any] = {}  # of the operations inside of them, by kind

    def call(operation: Operation, *arguments: Any, **options: Any) -> Tensor:
        if operation.name in absorbed:
            return arguments[0]
        if id(operation) in inside:
            tensors = [each for each in arguments if keras.utils.is_keras_tensor(each)]
            others = [each for each in arguments if not keras.utils.is_keras_tensor(each)]
            if others:
                constants[inside[id(operation)], type(operation).__name__] = others[0]
            return tensors[0]
        unit = units.get(operation.name)
        dtype = "float32" if operation.name in model.output_names else _policy(operation, precision)
        if unit is not None:
            copy, weights = unit.folded(dtype), unit.weights()
        elif operation.name in normalized:
            window, offset = (constants[operation.name, kind] for kind in ("Conv", "Add"))
            copy = BandNormalization(
                np.ravel(window).tolist(), float(offset), dtype=dtype, name=operation.name
            )
            weights = []
        else:
            is_layer = isinstance(operation, keras.Layer)
            copy = type(operation).from_config(
                operation.get_config() | ({"dtype": dtype} if is_layer else {})
            )
            weights = operation.get_weights() if is_layer else []
        outputs = copy(*arguments, **options)
        if weights:
            copy.set_weights(weights)
        return outputs

    # Keras's traversal of the graph, with the operations unchanged.
    return keras.models.clone_model(model, clone_function=lambda operation: operation, call_function=call)


def _policy(operation: Operation, precision: str) -> str:
    if precision == "float32":
        return "float32"
    # Other layers' weights, such as statistics, keep their precision.
    return "bfloat16" if isinstance(operation, layers.Conv2D | layers.Dense) else "mixed_bfloat16"


def readers_of(model: keras.Model) -> dict[int, list[Operation]]:
    """By the `id` of each tensor, the operations that read it; `None` for the model's own output."""
    readers: dict[int, list[Operation]] = {id(output): [None] for output in model.outputs}
    for operation in model.operations:
        for tensor in keras.tree.flatten(operation.input):
            readers.setdefault(id(tensor), []).append(operation)
    return readers


def _units(model: keras.Model) -> Iterator[Unit]:
    readers = readers_of(model)

    def only_consumer(operation: Operation) -> Operation:
        found = readers.get(id(operation.output), [])
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


def _normalizations(model: keras.Model, producers: dict[int, Operation]) -> dict[str, list[Operation]]:
    """By the name of a layer that is a local response normalization's last, the operations before it."""
    found = {}
    for layer in model.layers:
        if isinstance(layer, layers.Identity):
            before: dict[int, Operation] = {}
            waiting = [layer]
            while waiting:
                for tensor in keras.tree.flatten(waiting.pop().input):
                    producer: Operation = producers[id(tensor)]
                    if not isinstance(producer, keras.Layer) and id(producer) not in before:
                        before[id(producer)] = producer
                        waiting.append(producer)
            kinds = sorted(type(operation).__name__ for operation in before.values())
            if [kind for kind in kinds if kind != "Moveaxis"] == LRN and _by_channel(before.values()):
                found[layer.name] = list(before.values())
    return found


def _by_channel(operations: Iterable[Operation]) -> bool:
    """Whether channels are the last axis throughout."""
    return all(
        operation.source == operation.destination
        for operation in operations
        if type(operation).__name__ == "Moveaxis"
    )


def _axis(convolution: layers.Conv2D) -> int:
    return 3 if convolution.data_format == "channels_last" else 1


def _is_plain(relu: layers.ReLU) -> bool:
    return relu.max_value is None and not relu.negative_slope and not relu.threshold


def _values(variable: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(variable), "float64")
