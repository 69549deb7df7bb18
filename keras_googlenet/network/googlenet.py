"""`GoogLeNet()`: the factory, with the arguments of a Keras Application."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import keras

from keras_googlenet.errors import checked_names
from keras_googlenet.network.architecture import Architecture, check_size
from keras_googlenet.network.graph import build
from keras_googlenet.network.layers import channel_axis, spatial_shape
from keras_googlenet.network.pretrained import load_imagenet
from keras_googlenet.network.variants import architecture_of
from keras_googlenet.weights.files import load_weights
from keras_googlenet.weights.published import imagenet_spec
from keras_googlenet.weights.shipped import fits, is_shipped, located, shipped_names

DEFAULT_SIZE = 224
CLASSES = 1000  # ImageNet's


@checked_names
def GoogLeNet(  # noqa: N802 (Keras names its applications like classes)
    include_top: bool = True,
    weights: str | Path | None = None,
    input_tensor: Any = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | None = "softmax",
    name: str = "googlenet",
    *,
    variant: str | Architecture | None = None,
    aux_heads: bool = True,
    dropout: float | None = None,
    aux_dropout: float | None = None,
) -> keras.Model:
    """GoogLeNet (Inception v1) as a functional Keras model.

    Source: Szegedy et al., "Going Deeper with Convolutions" (arXiv 1409.4842), Table 1; geometry and
    initialization of the BVLC reference model.

    Args:
        include_top: Whether to add the classifiers. Without them the output is that of block 5b.
        weights: `None` (random initialization); `"imagenet"` (the published weights that fit the
            variant: BVLC's for `paper`, torchvision's, TF-Slim's); the name of a network that comes
            with the package (`keras_googlenet.shipped_names()`), such as `"cifar10"`; or the path of a
            `.weights.h5` or `.keras` file, or of a run's folder. Layers that may differ (classifiers for
            other classes, a first convolution for other channels, auxiliary heads for another input size)
            keep their initial values; a warning names them.
        input_tensor: A Keras tensor to build on, instead of a new input.
        input_shape: `(height, width, channels)` (channels first under that data format). Defaults to
            224 x 224 x 3 (that of a shipped network) with top and `(None, None, 3)` without. Any number
            of channels; any size at which every layer still has an output.
        pooling: Without top: `None` (the 4-D features), `"avg"` or `"max"` (1024 features).
        classes: Number of classes of each classifier; by default 1000, or a shipped network's.
        classifier_activation: Activation of the classifiers; `None` for logits.
        name: The model's name.
        variant: The network: a name of `keras_googlenet.network.variants.VARIANTS`, such as `"paper"` or
            `"bn"`, or an `Architecture`; by default `"paper"`, or a shipped network's.
        aux_heads: With top: whether to add the auxiliary classifiers of training, where the variant has them.
        dropout: Rate before the main classifier; `None` for the variant's own (paper: 0.4).
        aux_dropout: Rate before the auxiliary classifiers; `None` for the variant's own (paper: 0.7).

    Returns:
        A model on float images already preprocessed (`keras_googlenet.preprocess_input`), of shape
        `(batch, height, width, channels)`. With top and auxiliary heads it has the outputs
        `[main, aux1, aux2]`, each `(batch, classes)`, from layers of those names: train it with
        `loss_weights=[1, 0.3, 0.3]`. With `aux_heads=False`, the main output alone.

    Raises:
        ValueError: An argument is not as above, the input is too small for the network, or a shipped network
            is requested in another variant, size or number of classes.
    """
    if is_shipped(weights):
        variant, input_shape, classes = _as_shipped(
            str(weights), variant, input_tensor, input_shape, classes, include_top=include_top
        )
    classes = CLASSES if classes is None else classes
    architecture = architecture_of("paper" if variant is None else variant)
    aux_heads = aux_heads and include_top and bool(architecture.auxiliary_heads)
    dropout = architecture.dropout if dropout is None else dropout
    aux_dropout = architecture.aux_dropout if aux_dropout is None else aux_dropout
    _check_arguments(weights, pooling, classes, dropout, aux_dropout)

    inputs = _inputs(input_tensor, input_shape, static=include_top)
    height, width = spatial_shape(inputs)
    check_size(architecture, height, width, aux_heads=aux_heads)

    outputs = build(
        inputs,
        architecture,
        include_top=include_top,
        aux_heads=aux_heads,
        pooling=pooling,
        classes=classes,
        activation=classifier_activation,
        dropout=dropout,
        aux_dropout=aux_dropout,
    )
    source = inputs if input_tensor is None else keras.utils.get_source_inputs(input_tensor)
    model = keras.Model(source, outputs, name=name)
    if weights is not None:
        # From `input_tensor` on: the caller's layers before it are not part of the network.
        _load(keras.Model(inputs, outputs, name=name), weights, architecture, aux_heads)
    return model


def _as_shipped(
    name: str,
    variant: str | Architecture | None,
    input_tensor: Any,
    input_shape: tuple[int | None, ...] | None,
    classes: int | None,
    *,
    include_top: bool,
) -> tuple[Architecture, tuple[int | None, ...] | None, int]:
    """The arguments that a shipped network sets, for those that are not given."""
    fitting = fits(name)
    height, width, channels = fitting["shape"]
    shape: tuple[int, ...] = (height, width, channels)
    if channel_axis() == 1:
        shape = (channels, height, width)
    architecture = Architecture.from_json(fitting["architecture"])
    asked = input_shape if input_tensor is None else tuple(input_tensor.shape[1:])
    for argument, value, fine in (
        ("variant", variant, variant in (None, architecture.name, architecture)),
        ("input_shape", asked, not include_top or asked in (None, shape)),
        ("classes", classes, not include_top or classes in (None, fitting["classes"])),
    ):
        if not fine:
            raise ValueError(
                f"The weights {name!r} are those of variant={architecture.name!r}, input_shape={shape} and "
                f"classes={fitting['classes']}: leave these out, or (for another size or other classes) take "
                f"include_top=False. Received: {argument}={value!r}"
            )
    if asked is None:
        free = (None, None, channels) if channel_axis() == -1 else (channels, None, None)
        input_shape = shape if include_top else free
    return architecture, input_shape, classes or fitting["classes"]


def _load(model: keras.Model, weights: str | Path, architecture: Architecture, aux_heads: bool) -> None:
    if weights == "imagenet":
        fresh = load_imagenet(model, imagenet_spec(architecture.name, aux_heads=aux_heads))
    else:
        fresh = load_weights(model, located(weights))
    if fresh:
        warnings.warn(f"layers left at their initial values: {', '.join(fresh)}", stacklevel=3)


def _check_arguments(
    weights: str | Path | None,
    pooling: str | None,
    classes: int,
    dropout: float,
    aux_dropout: float,
) -> None:
    if weights not in (None, "imagenet") and not located(weights).exists():
        raise ValueError(
            'The `weights` argument should be either `None` (random initialization), "imagenet", the name of '
            f"a network of the package ({', '.join(shipped_names())}), or the path of weights to be loaded. "
            f"Received: weights={str(weights)!r}, which does not exist"
        )
    if pooling not in (None, "avg", "max"):
        raise ValueError(
            f'The `pooling` argument should be `None`, "avg" or "max". Received: pooling={pooling!r}'
        )
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
        raise ValueError(
            f"The `classes` argument should be a positive integer. Received: classes={classes!r}"
        )
    for argument, rate in (("dropout", dropout), ("aux_dropout", aux_dropout)):
        if not 0 <= rate < 1:
            raise ValueError(
                f"The `{argument}` argument should be at least 0 and less than 1. "
                f"Received: {argument}={rate!r}"
            )


def _inputs(input_tensor: Any, input_shape: tuple[int | None, ...] | None, *, static: bool) -> Any:
    if input_tensor is not None:
        if not keras.utils.is_keras_tensor(input_tensor):
            raise ValueError(
                "The `input_tensor` argument should be a Keras tensor, such as `keras.Input(...)`. "
                f"Received: input_tensor={input_tensor!r}"
            )
        return input_tensor
    if input_shape is None:
        side = DEFAULT_SIZE if static else None
        input_shape = (side, side, 3) if channel_axis() == -1 else (3, side, side)
    if len(input_shape) != 3 or not input_shape[channel_axis() if channel_axis() < 0 else 0]:
        raise ValueError(
            "The `input_shape` argument should be (height, width, channels) with a known number of "
            f"channels ({keras.config.image_data_format()}). Received: input_shape={input_shape}"
        )
    return keras.Input(input_shape, name="images")
