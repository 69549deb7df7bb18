"""The cost of any built model: parameters, multiply-adds and activations, counted on Keras's graph.

Used for the classics. GoogLeNets are counted from their rows by `network.cost`; tests compare both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import layers

from keras_googlenet.errors import UserError
from keras_googlenet.network.classics import VGG11, AlexNet, NiN
from keras_googlenet.network.variants import VARIANTS
from keras_googlenet.profile.printed import CLASSES
from keras_googlenet.profile.table import NetworkCost, network_cost

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


def profile(model: keras.Model) -> list[LayerCost]:
    """The cost of each layer, from the image to the outputs.

    A layer that is called twice has its parameters counted once and its multiply-adds twice. The layers of a
    model within the model are named `inner/layer`. Biases and normalization count no multiply-adds.

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
        else:  # an operation such as those of local response normalization
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


def compare(classes: int = CLASSES) -> list[NetworkCost]:
    """AlexNet, VGG-11, NiN and every variant of GoogLeNet, each at its natural input size.

    Raises:
        UserError: `classes` is not positive.
    """
    classics = {"AlexNet": AlexNet, "VGG-11": VGG11, "NiN": NiN}
    rows = [_classic(name, factory, classes) for name, factory in classics.items()]
    return rows + [network_cost(architecture, classes) for architecture in VARIANTS.values()]


def _classic(name: str, factory: Callable[[int], keras.Model], classes: int) -> NetworkCost:
    try:
        model = factory(classes)
    except ValueError as error:
        raise UserError(str(error)) from None
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
    elif any(len(weight.shape) > 1 for weight in layer.weights):  # vectors are biases or normalization
        raise UserError(f"cannot count the multiply-adds of {layer.name!r}, a {type(layer).__name__}")
    return LayerCost(layer.name, type(layer).__name__, output_shape, layer.count_params(), macs, activations)
