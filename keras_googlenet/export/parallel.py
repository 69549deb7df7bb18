"""A network with independent operations for each core, for a server with one thread per operation.

Handing part of an operation to a second thread takes as long as the shortest operations. Here each core gets
separate operations instead: parts of a batch, branches (the longest first), and parts of long convolutions.
`benchmarks/README.md` has the speedup.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from keras_googlenet.export.optimize import readers_of

Tensor = Any
Operation = Any  # a layer, or a bare operation such as `ops.square`

# Convolutions with at least this many multiplications are split: found by measurement, as all values here.
LONG = {"bfloat16": 1e8, "float32": 2.5e7}
FEWEST_FILTERS = 32  # of a part: two tiles of a matrix unit


class _SplitNetwork:
    """The rules of `split_layers`, for one network.

    Attributes:
        shares: For a tensor of the copy, the tensors that it is concatenated from.
        order: For a tensor of the copy with reordered channels, the original index of each channel.
    """

    def __init__(self, model: keras.Model, cores: int) -> None:
        self.cores = cores
        self.shares: dict[int, list[Tensor]] = {}
        self.order: dict[int, np.ndarray] = {}
        self.readers = readers_of(model)
        self.work: dict[int, float] = {}  # by tensor, on the longest way to it
        for operation in model.operations:
            inputs = keras.tree.flatten(operation.input)
            before = max((self.work.get(id(tensor), 0.0) for tensor in inputs), default=0.0)
            for output in keras.tree.flatten(operation.output):
                self.work[id(output)] = before + _multiplications(operation)

    def call(self, operation: Operation, *arguments: Any, **options: Any) -> Tensor:
        """Call the copy of an operation."""
        if _is_convolution(operation):
            return self._convolution(operation, arguments[0])
        if isinstance(operation, layers.Concatenate) and operation.axis in (-1, 3):
            return self._concatenation(operation, list(arguments[0]))
        if isinstance(operation, layers.MaxPooling2D):
            return self._pool(operation, arguments[0])
        return _copy(operation, operation.get_weights() if isinstance(operation, keras.Layer) else [])(
            *arguments, **options
        )

    def _convolution(self, operation: layers.Conv2D, x: Tensor) -> Tensor:
        kernel, *bias = operation.get_weights()
        if id(x) in self.order:
            kernel = kernel[:, :, self.order[id(x)]]
        long = _multiplications(operation) >= LONG.get(operation.compute_dtype, np.inf)
        count = min(self.cores, operation.filters // FEWEST_FILTERS) if long else 1
        if count <= 1:
            return _copy(operation, [kernel, *bias])(x)
        weights = zip(*(np.array_split(array, count, axis=-1) for array in (kernel, *bias)), strict=True)
        shares = [
            _copy(operation, share, f"_{index}", filters=share[0].shape[-1])(x)
            for index, share in enumerate(weights)
        ]
        return self._joined(operation, shares)

    def _concatenation(self, operation: layers.Concatenate, tensors: list[Tensor]) -> Tensor:
        originals = operation.input
        ends = np.cumsum([tensor.shape[-1] for tensor in tensors])
        channels = np.split(np.arange(ends[-1]), ends[:-1])  # of each tensor in the network's own order
        places = list(range(len(tensors)))
        if self._may_change_order(operation.output):
            # TensorFlow begins with what the first input waits for.
            places.sort(key=lambda place: -self.work[id(originals[place])])
        shares = [each for place in places for each in self.shares.get(id(tensors[place]), [tensors[place]])]
        joined = self._joined(operation, shares)
        return self._ordered(joined, np.concatenate([channels[place] for place in places]))

    def _pool(self, operation: layers.MaxPooling2D, x: Tensor) -> Tensor:
        shares = self.shares.get(id(x), [])
        if not shares or len(self.readers[id(operation.input)]) > 1:  # then x is concatenated anyway
            pooled = _copy(operation)(x)
        else:
            pools = [_copy(operation, [], f"_{index}")(share) for index, share in enumerate(shares)]
            pooled = self._joined(operation, pools)
        return self._ordered(pooled, self.order.get(id(x)))

    def _may_change_order(self, tensor: Tensor) -> bool:
        """Whether everything that reads a tensor of the network can read it with its channels reordered."""
        return all(
            _is_convolution(reader)
            or (isinstance(reader, layers.MaxPooling2D) and self._may_change_order(reader.output))
            for reader in self.readers[id(tensor)]
        )

    def _joined(self, operation: keras.Layer, shares: list[Tensor]) -> Tensor:
        joined = layers.Concatenate(name=operation.name, dtype=operation.dtype_policy)(shares)
        self.shares[id(joined)] = shares
        return joined

    def _ordered(self, tensor: Tensor, order: np.ndarray | None) -> Tensor:
        if order is not None and (np.diff(order) != 1).any():
            self.order[id(tensor)] = order
        return tensor


def split_layers(model: keras.Model, cores: int) -> keras.Model:
    """A copy of a network with the same answers and more parallel operations.

    Long convolutions are split into one per core, each for a part of the channels. The parts pass separately
    through a following max pool or into a concatenation. Concatenations order their inputs by the work to
    compute them, and kernels that read the result are reordered to match.

    Args:
        model: A functional model with channels last.
        cores: Number of cores.
    """
    return keras.models.clone_model(
        model,
        clone_function=lambda operation: operation,
        call_function=_SplitNetwork(model, cores).call,
    )


def split_batches(
    answer: Callable[[Tensor], dict[str, Tensor]], cores: int
) -> Callable[[Tensor], dict[str, Tensor]]:
    """`answer` for each part of a batch, in parallel; the parts are as even as possible."""

    def answer_in_shares(images: Tensor) -> dict[str, Tensor]:
        count = tf.shape(images)[0]
        size = (count + cores - 1) // cores
        found = [answer(images[:size])]

        def nothing() -> dict[str, Tensor]:
            return {name: tf.zeros([0, *value.shape[1:]], value.dtype) for name, value in found[0].items()}

        for begin in (index * size for index in range(1, cores)):
            found.append(
                tf.cond(begin < count, lambda begin=begin: answer(images[begin : begin + size]), nothing)
            )
        return {name: tf.concat([share[name] for share in found], 0) for name in found[0]}

    return answer_in_shares


def _is_convolution(operation: Operation) -> bool:
    return (
        type(operation) is layers.Conv2D
        and operation.data_format == "channels_last"
        and operation.groups == 1
    )


def _multiplications(operation: Operation) -> float:
    """Those of an image."""
    if not isinstance(operation, layers.Conv2D):
        return 0.0
    height, width = operation.output.shape[1:3]
    return float(np.prod(operation.kernel.shape) * (height or 0) * (width or 0))


def _copy(operation: Operation, weights: Any = (), suffix: str = "", **changes: Any) -> Operation:
    config = operation.get_config() | changes
    copy = type(operation).from_config(config | {"name": config["name"] + suffix})
    if len(weights):
        copy.build(operation.input.shape)
        copy.set_weights(list(weights))
    return copy
