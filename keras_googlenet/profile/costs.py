"""What a network costs: parameters, multiply-adds and activations, counted from the built model.

Nothing here is a known result: each count walks the graph that Keras built.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import layers

from keras_googlenet.errors import UserError
from keras_googlenet.network.architecture import Architecture, Inception, LocalResponseNorm, smallest_input
from keras_googlenet.network.classics import VGG11, AlexNet, NiN, image_shape
from keras_googlenet.network.googlenet import GoogLeNet
from keras_googlenet.network.layers import channel_axis
from keras_googlenet.network.variants import VARIANTS
from keras_googlenet.profile.printed import CLASSES, PRINTED, SIZE, differences

WITH_KERNEL = (layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.Dense)
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
POOLS = (
    layers.MaxPooling2D,
    layers.AveragePooling2D,
    layers.AdaptiveAveragePooling2D,
    layers.GlobalMaxPooling2D,
    layers.GlobalAveragePooling2D,
)


@dataclass(frozen=True)
class LayerCost:
    """A layer of a built model."""

    layer: str
    kind: str  # its class
    output_shape: tuple[int | None, ...]  # without the batch
    parameters: int
    macs: int  # multiply-adds for one image
    activations: int  # values put out, of a convolution or fully connected layer; 0 for others


@dataclass(frozen=True)
class StageCost:
    """A row of Table 1: counts, and beside them the paper's printed figures."""

    name: str  # that of its layers, or what theirs begin with
    type: str
    patch: str  # "7x7/2": size and stride
    output_shape: tuple[int, int, int]  # height, width, channels
    depth: int
    depth_with_pools: int
    parameters: int
    macs: int
    printed_parameters: str = ""
    printed_macs: str = ""
    note: str = ""  # where the two differ


@dataclass(frozen=True)
class NetworkCost:
    """A network, for comparison with others: its main path, for one image."""

    network: str
    input_size: int
    depth: int
    parameters: int
    dense_parameters: int  # those in fully connected layers
    macs: int
    activations: int
    smallest_input: int | None = None  # pixels; of GoogLeNets alone
    smallest_input_with_heads: int | None = None  # with auxiliary heads, where the network has any

    @property
    def dense_share(self) -> float:
        """Share of the parameters that fully connected layers hold."""
        return self.dense_parameters / self.parameters


def profile(model: keras.Model) -> list[LayerCost]:
    """The cost of each layer, from the image to the outputs.

    A layer that is called twice has its parameters counted once and its multiply-adds twice. The layers of a
    model within the model are named `inner/layer`. Biases and normalisation count no multiply-adds.

    Args:
        model: Functional or sequential, and built for images of a known size.

    Raises:
        UserError: `model` is neither, a size is unknown, or a layer is of a kind that is not counted here.
    """
    costs: dict[str, LayerCost] = {}
    for call in _calls(model):
        layer = call.operation
        if isinstance(layer, keras.Model):
            new = [replace(cost, layer=f"{layer.name}/{cost.layer}") for cost in profile(layer)]
        elif isinstance(layer, keras.Layer) and not isinstance(layer, layers.InputLayer):
            new = [_layer_cost(layer, call.output_tensors[0].shape[1:])]
        else:  # an operation such as those of local response normalisation
            new = []
        for cost in new:
            before = costs.get(cost.layer, replace(cost, macs=0, activations=0))
            macs, activations = before.macs + cost.macs, before.activations + cost.activations
            costs[cost.layer] = replace(cost, macs=macs, activations=activations)
    return list(costs.values())


def depths(model: keras.Model, *, pools: bool = False) -> dict[str, int]:
    """By the name of each layer, the convolutions and fully connected layers on the longest path to its end.

    Args:
        model: Functional or sequential.
        pools: Count pooling layers as well.

    Raises:
        UserError: `model` is neither.
    """
    counted = WITH_KERNEL + DEPTHWISE + (POOLS if pools else ())
    after: dict[int, int] = {}  # by the tensor's identity
    result = {}
    for call in _calls(model):
        layer = call.operation
        inside = depth(layer, pools=pools) if isinstance(layer, keras.Model) else isinstance(layer, counted)
        result[layer.name] = inside + max((after.get(id(x), 0) for x in call.input_tensors), default=0)
        after |= {id(x): result[layer.name] for x in call.output_tensors}
    return result


def depth(model: keras.Model, *, pools: bool = False) -> int:
    """The longest path of `depths`: for the paper's network 22, or 27 with the pools."""
    return max(depths(model, pools=pools).values())


def table_1(
    variant: str | Architecture = "paper", classes: int = CLASSES, size: int | None = None
) -> list[StageCost]:
    """The paper's Table 1, counted from a built network without auxiliary heads.

    As in the paper, normalisation has no row, and the stem's 1x1 reduction is in the row of its 3x3. The
    softmax is part of the linear layer. The printed columns are for 1000 classes at 224 pixels alone.

    Args:
        variant: As for `GoogLeNet`.
        classes: Number of classes.
        size: Side of the input in pixels; by default the variant's own.

    Raises:
        UserError: An argument is not as above, or the input is too small for the network.
    """
    model = _googlenet(variant, classes, size)
    architecture = VARIANTS[variant] if isinstance(variant, str) else variant
    after, after_with_pools = depths(model), depths(model, pools=True)
    is_printed = model.input_shape[1:] == image_shape(SIZE, 3) and classes == CLASSES
    rows: list[StageCost] = []
    for name, costs in _by_stage(profile(model), architecture).items():
        kind, patch = _kind(name, [model.get_layer(cost.layer) for cost in costs])
        row = StageCost(
            name,
            kind,
            patch,
            output_shape=_height_width_channels(costs[-1].output_shape),
            depth=max(after[cost.layer] for cost in costs) - sum(row.depth for row in rows),
            depth_with_pools=max(after_with_pools[cost.layer] for cost in costs)
            - sum(row.depth_with_pools for row in rows),
            parameters=sum(cost.parameters for cost in costs),
            macs=sum(cost.macs for cost in costs),
        )
        if is_printed and name in PRINTED:
            parameters, macs = PRINTED[name]
            note = differences(name, row.parameters, row.macs)
            row = replace(row, printed_parameters=parameters, printed_macs=macs, note=note)
        rows.append(row)
    return rows


def compare(classes: int = CLASSES) -> list[NetworkCost]:
    """AlexNet, VGG-11, NiN and every variant of GoogLeNet, each at its natural input size.

    Raises:
        UserError: `classes` is no positive number.
    """
    classics = {"AlexNet": AlexNet, "VGG-11": VGG11, "NiN": NiN}
    rows = [network_cost(name, _build(factory, classes)) for name, factory in classics.items()]
    for name, architecture in VARIANTS.items():
        row = network_cost(name, _googlenet(name, classes))
        heads = architecture.auxiliary_heads
        row = replace(
            row,
            smallest_input=smallest_input(architecture, aux_heads=False),
            smallest_input_with_heads=smallest_input(architecture, aux_heads=True) if heads else None,
        )
        rows.append(row)
    return rows


def network_cost(name: str, model: keras.Model) -> NetworkCost:
    """The sums of `profile`, for a model of one square image."""
    costs = profile(model)
    return NetworkCost(
        name,
        input_size=model.input_shape[2],  # a side under either data format
        depth=depth(model),
        parameters=sum(cost.parameters for cost in costs),
        dense_parameters=sum(cost.parameters for cost in costs if cost.kind == "Dense"),
        macs=sum(cost.macs for cost in costs),
        activations=sum(cost.activations for cost in costs),
    )


def reduction_example() -> tuple[list[LayerCost], list[LayerCost]]:
    """A 5x5 convolution of 192 to 32 channels at 28 x 28: straight, and through 16 channels as in 3a."""

    def costs(*convolutions: tuple[int, int]) -> list[LayerCost]:
        stack = [layers.Conv2D(filters, kernel, padding="same") for filters, kernel in convolutions]
        return profile(keras.Sequential([keras.Input(image_shape(28, 192)), *stack]))

    return costs((32, 5)), costs((16, 1), (32, 5))


def _calls(model: keras.Model) -> Iterator[Any]:
    """Each call of a layer or operation in the graph, after those whose results it takes."""
    graph = getattr(model, "_functional", model)  # where a Sequential keeps its graph
    if not hasattr(graph, "_nodes_by_depth"):
        raise UserError(f"expected a built functional or sequential model, got {type(model).__name__}")
    for _, calls in sorted(graph._nodes_by_depth.items(), reverse=True):
        yield from calls


def _layer_cost(layer: keras.Layer, output_shape: tuple[Any, ...]) -> LayerCost:
    macs = activations = 0
    if isinstance(layer, WITH_KERNEL + DEPTHWISE):
        if None in output_shape:
            raise UserError(f"expected an input of known size, got {output_shape} after {layer.name!r}")
        activations = math.prod(output_shape)
        # A kernel's last axis, a depthwise one's last two, are its outputs; the others feed each of them.
        macs = activations * math.prod(layer.kernel.shape[: -2 if isinstance(layer, DEPTHWISE) else -1])
    elif any(len(weight.shape) > 1 for weight in layer.weights):  # vectors are biases or normalisation
        raise UserError(f"cannot count the multiply-adds of {layer.name!r}, a {type(layer).__name__}")
    return LayerCost(layer.name, type(layer).__name__, output_shape, layer.count_params(), macs, activations)


def _build(factory: Callable[..., keras.Model], *arguments: Any, **named: Any) -> keras.Model:
    try:
        return factory(*arguments, **named)
    except ValueError as error:
        raise UserError(str(error)) from None


def _googlenet(variant: str | Architecture, classes: int, size: int | None = None) -> keras.Model:
    if size is None:
        known = variant if isinstance(variant, Architecture) else VARIANTS.get(variant)
        size = known.input_size if known else 1  # `GoogLeNet` names the variants that there are
    shape = image_shape(size, 3)
    return _build(GoogLeNet, variant=variant, classes=classes, input_shape=shape, aux_heads=False)


def _by_stage(costs: list[LayerCost], architecture: Architecture) -> dict[str, list[LayerCost]]:
    """The layers of each row of the table, in order."""
    stages = {
        f"inception_{stage.name}" if isinstance(stage, Inception) else stage.name: stage
        for stage in architecture.stages
    }
    groups: dict[str, list[LayerCost]] = {}
    for cost in costs:
        matching = [name for name in stages if f"{cost.layer}_".startswith(f"{name}_")]
        name = min(matching, key=len, default=cost.layer)  # so "conv2_3x3" takes "conv2_3x3_reduce" in
        if not isinstance(stages.get(name), LocalResponseNorm):
            groups.setdefault(name, []).append(cost)
    return groups


def _kind(name: str, group: list[keras.Layer]) -> tuple[str, str]:
    """The paper's words for a row, and its patch size and stride."""
    if name.startswith("inception_"):
        return name.replace("_", " "), ""
    for layer in reversed(group):
        match layer:
            case layers.Conv2D():
                return "convolution", f"{layer.kernel_size[0]}x{layer.kernel_size[1]}/{layer.strides[0]}"
            case layers.MaxPooling2D():
                return "max pool", f"{layer.pool_size[0]}x{layer.pool_size[1]}/{layer.strides[0]}"
            case layers.GlobalAveragePooling2D():
                height, width, _ = _height_width_channels(layer.input.shape[1:])
                return "avg pool", f"{height}x{width}/1"
            case layers.Dropout():
                return f"dropout ({layer.rate:.0%})", ""
            case layers.Dense():
                return "linear", ""
    return name, ""


def _height_width_channels(shape: tuple[Any, ...]) -> tuple[int, int, int]:
    first, second, third = shape if len(shape) == 3 else image_shape(1, shape[0])
    return (first, second, third) if channel_axis() == -1 else (second, third, first)
