"""New models from built ones, with the same weights."""

from __future__ import annotations

import keras

from keras_googlenet.errors import UserError


def strip_aux(model: keras.Model) -> keras.Model:
    """The main head alone: the same layers and variables, without the auxiliary heads.

    Raises:
        UserError: `model` has no layer `main`.
    """
    if not any(layer.name == "main" for layer in model.layers):
        raise UserError(
            f'expected a GoogLeNet with a top, that is with a layer "main"; model {model.name!r} has '
            f"the outputs {', '.join(model.output_names)}"
        )
    return keras.Model(model.inputs, model.get_layer("main").output, name=model.name)


def with_dtype_policy(model: keras.Model, policy: str) -> keras.Model:
    """A copy of `model`, weights included, that computes under another dtype policy.

    The output layers stay as they are: they compute in float32 under every policy, and so does the
    inside of local response normalisation.

    Args:
        model: A functional model.
        policy: `"float32"`, `"mixed_bfloat16"` or another of Keras's names.
    """

    def clone(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        if isinstance(layer, keras.Layer) and layer.name not in model.output_names:
            config["dtype"] = policy
        return type(layer).from_config(config)

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy
