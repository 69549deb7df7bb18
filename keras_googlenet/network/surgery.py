"""New models from built ones, with the same weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_googlenet.errors import UserError
from keras_googlenet.names import BLOCK, MAIN, OUTPUT, block_layer

Tensor = Any  # a KerasTensor; Keras has no type stubs


def strip_aux(model: keras.Model) -> keras.Model:
    """The main head alone: the same layers and variables, without the auxiliary heads.

    Raises:
        UserError: `model` has no layer `main`.
    """
    if not any(layer.name == MAIN for layer in model.layers):
        raise UserError(
            f'expected a GoogLeNet with a top, that is with a layer "main"; model {model.name!r} has '
            f"the outputs {', '.join(model.output_names)}"
        )
    return keras.Model(model.inputs, model.get_layer(MAIN).output, name=model.name)


def with_dtype_policy(model: keras.Model, policy: str) -> keras.Model:
    """A copy of `model`, weights included, that computes under another dtype policy.

    The output layers are unchanged: they compute in float32 under every policy, and so does the
    inside of local response normalization.

    Args:
        model: A functional model.
        policy: `"float32"`, `"mixed_bfloat16"` or another of Keras's names.
    """

    def clone(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        if isinstance(layer, keras.Layer) and layer.name not in model.output_names:
            config["dtype"] = policy
        return type(layer).from_config(config)

    return copy_model(model, clone)


def copy_model(model: keras.Model, clone: Callable[[Any], Any]) -> keras.Model:
    """A copy of `model`, weights included, each layer made anew by `clone`; it is not compiled.

    Args:
        model: A functional model.
        clone: From a layer to one that has the same weights.
    """
    # `clone_model` copies the optimizer too, and a file with ours loads only where this package is installed.
    uncompiled = keras.Model(model.input, model.output, name=model.name)
    copy = keras.models.clone_model(uncompiled, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy


def replace_heads(model: keras.Model, classes: int) -> keras.Model:
    """The same layers and variables with new classifiers, for another number of classes.

    Args:
        model: A GoogLeNet with its top: all of its outputs get a new last layer, of the old name.
        classes: Number of classes of each.

    Raises:
        UserError: `model` has no layer `main`, a classifier is not a `Dense` layer, or `classes` is not
            positive.
    """
    if classes < 1:
        raise UserError(f"expected a positive number of classes, received {classes}")
    strip_aux(model)  # it must have a top
    outputs = []
    for name in model.output_names:
        old = model.get_layer(name)
        if not isinstance(old, keras.layers.Dense):
            raise UserError(f"expected a classifier {name} that is a Dense layer, got {type(old).__name__}")
        new = old.get_config() | {"units": classes, "trainable": True}
        outputs.append(type(old).from_config(new)(old.input))
    return keras.Model(model.inputs, outputs if len(outputs) > 1 else outputs[0], name=model.name)


def feature_model(model: keras.Model, blocks: Sequence[str]) -> keras.Model:
    """The outputs of Inception blocks, by name, sharing the model's layers and variables.

    Args:
        model: A GoogLeNet.
        blocks: Names as in Table 1, such as `["3b", "4e", "5b"]`.

    Raises:
        UserError: It has no such block.
    """
    layers = [_block_output(model, block) for block in blocks]
    if not layers:
        raise UserError("expected at least one block")
    return keras.Model(model.inputs, [layer.output for layer in layers], name=model.name)


def freeze(model: keras.Model, through: str) -> None:
    """Make every layer from the image to block `through` not trainable, its batch statistics included.

    Auxiliary heads stay trainable, as do the blocks that follow. Compile the model afterwards.

    Args:
        model: A GoogLeNet; changed in place.
        through: Name of the last frozen block, as in Table 1: `"4e"`.

    Raises:
        UserError: It has no such block.
    """
    for layer in keras.Model(model.inputs, _block_output(model, through).output).layers:
        if isinstance(layer, keras.Layer):
            layer.trainable = False


def features_of(model: keras.Model) -> Tensor:
    """The input of the classifier `main`, before dropout."""
    features = model.get_layer(MAIN).input
    while isinstance(_producer(model, features), keras.layers.Dropout):
        features = _producer(model, features).input
    return features


def pooled_map(model: keras.Model, features: Tensor) -> Tensor:
    """The feature map whose means, or largest values, over all places are `features`.

    Raises:
        UserError: The network does not end in a global pool and a Dense layer.
    """
    pool, head = _producer(model, features), model.get_layer(MAIN)
    pools = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D)
    if not isinstance(pool, pools) or not isinstance(head, keras.layers.Dense):
        raise UserError(
            "expected, for class activation maps, a network that ends in a global average or max pool and a "
            f"Dense layer; {model.name!r} ends in {pool.name!r} and {head.name!r}"
        )
    return pool.input


def _producer(model: keras.Model, tensor: Tensor) -> keras.Layer:
    return next(layer for layer in model.layers if layer.output is tensor)


def _block_output(model: keras.Model, block: str) -> keras.Layer:
    names = [
        layer.name for layer in model.layers if layer.name.startswith(BLOCK) and layer.name.endswith(OUTPUT)
    ]
    name = f"{block_layer(block)}{OUTPUT}"
    if name not in names:
        blocks = [n.removeprefix(BLOCK).removesuffix(OUTPUT) for n in names]
        raise UserError(f"expected a block of {blocks}, received {block!r}")
    return model.get_layer(name)
