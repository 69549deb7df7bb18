"""Tables from each source's tensor names to this package's layers.

A row is (layer, variable, source tensor, layout). Every tensor of the source must be used, every variable of
the model must be filled, and every shape must fit; otherwise nothing is converted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import keras
import numpy as np

from keras_googlenet.errors import UserError
from keras_googlenet.names import AUXILIARY, BATCH_NORM, MAIN
from keras_googlenet.text import listed

MAX_NAMED = 6  # names in an error message


@dataclass(frozen=True)
class Row:
    """One variable of the model and the source's tensor for it."""

    layer: str
    variable: str  # "kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance"
    tensor: str


SLIM_BLOCKS = dict(zip(("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"),
                       ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c"), strict=True))  # fmt: skip
TORCHVISION_BRANCHES = {
    "1x1": "branch1",
    "3x3_reduce": "branch2.0",
    "3x3": "branch2.1",
    "3x3b_reduce": "branch3.0",
    "3x3b": "branch3.1",
    "pool_proj": "branch4.1",
}
SLIM_BRANCHES = {
    "1x1": "Branch_0/Conv2d_0a_1x1",
    "3x3_reduce": "Branch_1/Conv2d_0a_1x1",
    "3x3": "Branch_1/Conv2d_0b_3x3",
    "3x3b_reduce": "Branch_2/Conv2d_0a_1x1",
    "3x3b": "Branch_2/Conv2d_0b_3x3",
    "pool_proj": "Branch_3/Conv2d_0b_1x1",
}
STEM = ("conv1_7x7_s2", "conv2_3x3_reduce", "conv2_3x3")


def caffe_layer(layer: str) -> str:
    """BVLC's name of a layer: `inception_3a_1x1` is `inception_3a/1x1`, `aux1_fc` `loss1/fc`."""
    if layer == MAIN:
        return "loss3/classifier"
    if layer.startswith(AUXILIARY):
        head, _, part = layer.partition("_")
        return f"loss{head[-1]}/{part or 'classifier'}"
    stem = layer.startswith("conv")
    block, part = layer.split("_", 1) if stem else (layer[:12], layer[13:])
    return f"{block}/{part}"


def onnx_tensor(layer: str, variable: str) -> str:
    """The ONNX zoo's name of a tensor."""
    return f"{caffe_layer(layer)}_{'w' if variable == 'kernel' else 'b'}_0"


def caffe_tensor(layer: str, variable: str) -> str:
    """A blob's name, as `readers.read_caffe` makes it."""
    return f"{caffe_layer(layer)}:{'0' if variable == 'kernel' else '1'}"


def torchvision_tensor(layer: str, variable: str) -> str:
    """torchvision's key of a tensor."""
    suffix = {
        "kernel": "weight",
        "bias": "bias",
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    }[variable]
    is_norm = layer.endswith(BATCH_NORM)
    name = layer.removesuffix(BATCH_NORM)
    if name == MAIN:
        return f"fc.{suffix}"
    if name in STEM:
        module = f"conv{STEM.index(name) + 1}"
    elif name.startswith(AUXILIARY):
        head, _, part = name.partition("_")
        if part != "conv":
            return f"{head}.{'fc1' if part else 'fc2'}.{suffix}"
        module = f"{head}.conv"
    else:
        _, block, part = name.split("_", 2)
        module = f"inception{block}.{TORCHVISION_BRANCHES[part]}"
    return f"{module}.{'bn' if is_norm else 'conv'}.{suffix}"


def slim_tensor(layer: str, variable: str) -> str:
    """TF-Slim's name of a variable."""
    name = layer.removesuffix(BATCH_NORM)
    if name == MAIN:
        module = "Logits/Conv2d_0c_1x1"
    elif name in STEM:
        module = dict(zip(STEM, ("Conv2d_1a_7x7", "Conv2d_2b_1x1", "Conv2d_2c_3x3"), strict=True))[name]
    else:
        _, block, part = name.split("_", 2)
        branch = SLIM_BRANCHES[part]
        if (block, part) == ("5a", "3x3b"):
            branch = "Branch_2/Conv2d_0a_3x3"  # a slip of theirs, kept in the published file
        module = f"Mixed_{SLIM_BLOCKS[block]}/{branch}"
    suffix = {"kernel": "weights", "bias": "biases"}.get(variable, f"BatchNorm/{variable}")
    return f"InceptionV1/{module}/{suffix}"


# By source: the tensor's name, and whether kernels come output-first (OIHW, and channels before
# height and width wherever a layer flattens them).
SOURCES: dict[str, tuple[Callable[[str, str], str], bool]] = {
    "onnx": (onnx_tensor, True),
    "caffe": (caffe_tensor, True),
    "torchvision": (torchvision_tensor, True),
    "slim": (slim_tensor, False),
}


def table(model: keras.Model, source: str) -> Iterator[tuple[Row, keras.Variable]]:
    """A row for each variable of `model`, with the variable."""
    tensor_name, _ = SOURCES[source]
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            continue  # its variable is the state of a random generator
        for variable in layer.weights:
            yield Row(layer.name, variable.name, tensor_name(layer.name, variable.name)), variable


def convert(tensors: Mapping[str, np.ndarray], source: str, model: keras.Model) -> None:
    """Fill `model` from a source's tensors.

    Args:
        tensors: Every floating-point tensor of the source, by its name there.
        source: A key of `SOURCES`.
        model: A network of the source's classes, input size and heads.

    Raises:
        UserError: A tensor is missing, unused or of another shape; nothing is changed.
    """
    rows = list(table(model, source))
    expected = {row.tensor for row, _ in rows}
    missing, left_over = expected - set(tensors), set(tensors) - expected
    if missing or left_over:
        parts = [f"lacks {listed(sorted(missing), MAX_NAMED)}"] * bool(missing)
        parts += [f"has left over {listed(sorted(left_over), MAX_NAMED)}"] * bool(left_over)
        raise UserError(
            f"the file does not hold the weights of {model.name!r} ({source}): it {'; it '.join(parts)}"
        )
    _, output_first = SOURCES[source]
    values = []
    for row, variable in rows:
        value = tensors[row.tensor]
        if row.variable == "kernel":
            value = _kernel(value, variable.shape, _flattened(model, row.layer), output_first)
        if tuple(value.shape) != tuple(variable.shape):
            raise UserError(
                f"tensor {row.tensor!r} does not fit {row.layer}/{row.variable}: expected shape "
                f"{tuple(variable.shape)}, received {tuple(value.shape)}"
            )
        values.append(value)
    for (_, variable), value in zip(rows, values, strict=True):
        variable.assign(value)


def _kernel(
    value: np.ndarray,
    shape: tuple[int, ...],
    flattened: tuple[int, int, int] | None,
    output_first: bool,
) -> np.ndarray:
    """A kernel in Keras's layout: (height, width, in, out), or (in, out)."""
    if len(shape) == 4:
        return value.transpose(2, 3, 1, 0) if output_first and value.ndim == 4 else value
    if not output_first:  # TF-Slim's classifier is a 1x1 convolution
        return value.reshape(value.shape[-2:]) if value.shape[:-2] == (1, 1) else value
    if value.ndim == 4 and value.shape[:2] == (1, 1):  # older Caffe files
        value = value.reshape(value.shape[2:])
    if flattened is not None and value.ndim == 2 and value.shape[1] == np.prod(flattened):
        height, width, channels = flattened
        by_channel = value.reshape(-1, channels, height, width)
        value = by_channel.transpose(0, 2, 3, 1).reshape(value.shape)
    return value.T


def _flattened(model: keras.Model, layer: str) -> tuple[int, int, int] | None:
    """(height, width, channels) of what a fully connected layer of an auxiliary head flattens."""
    if not layer.endswith("_fc"):
        return None
    flatten = model.get_layer(layer.removesuffix("fc") + "flatten")
    shape = flatten.input.shape[1:]
    return shape if keras.config.image_data_format() == "channels_last" else (*shape[1:], shape[0])
