"""The network behind every signature: from pixels to probabilities, features and class maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from keras_googlenet.errors import UserError
from keras_googlenet.export import optimize as optimizing
from keras_googlenet.export.parallel import split_batches, split_layers
from keras_googlenet.images.spec import Preprocessing
from keras_googlenet.names import MAIN
from keras_googlenet.network.surgery import features_of, pooled_map, strip_aux, with_dtype_policy

Tensor = Any  # a tf.Tensor; TensorFlow's own types are not exported

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
# Layers that can learn to accept pixels of any scale.
WEIGHTED = (
    keras.layers.Conv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.Dense,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
)
CONSTANTS = "weights/"  # how the names of a frozen network's weights begin in its graph


@dataclass(frozen=True)
class ServedNetwork:
    """A trained network with everything that its answers depend on.

    Attributes:
        model: From the network's input to `logits` (batch, classes), or probabilities where
            `softmax` is false; `features` (batch, channels), before dropout and the classifier; and
            `map` (batch, height, width, channels), which the features are the mean of, if asked for.
        preprocessing: The preprocessing of its images.
        class_names: In label order.
        temperature: Divisor of the logits (Guo et al. 2017); 1 leaves them unchanged.
        softmax: Whether probabilities are the softmax of the model's output.
        frozen: Whether its weights are constants of the graph: then kernels that reorder them do so
            once. As variables they are shared by all signatures.
        cores: Number of parts that a batch is split into.
    """

    model: keras.Model
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    temperature: float = 1.0
    softmax: bool = True
    frozen: bool = False
    cores: int = 1

    @property
    def pixels_shape(self) -> tuple[int | None, ...]:
        """Of a batch of pixels: (None, height, width, channels)."""
        size = self.preprocessing
        return (None, size.height, size.width, size.channels)

    def function(self) -> Callable[[Tensor], dict[str, Tensor]]:
        """One graph for all signatures: from float pixels in 0..255 to float32 outputs.

        It adds `probabilities` to the model's outputs.
        """
        weights = self.model.weights if self.frozen else []
        frozen = [(weight, keras.ops.convert_to_numpy(weight)) for weight in weights]
        signature = [tf.TensorSpec(self.pixels_shape, tf.float32)]

        @tf.function(input_signature=signature, autograph=False)
        def outputs(pixels: Tensor) -> dict[str, Tensor]:
            constants = [
                (weight, tf.constant(value, name=f"{CONSTANTS}{weight.path}")) for weight, value in frozen
            ]
            with keras.StatelessScope(constants):
                found = self.model(self.preprocessing.normalize(pixels), training=False)
            # A sum of pixels is NaN if a pixel is, and costs a tenth of checking each.
            sums = tf.reduce_sum(pixels, axis=[1, 2, 3])
            return {name: tf.cast(value, tf.float32) for name, value in found.items()} | {"sums": sums}

        in_shares = split_batches(outputs, self.cores) if self.cores > 1 else outputs

        @tf.function(input_signature=signature, autograph=False)
        def network(pixels: Tensor) -> dict[str, Tensor]:
            found = in_shares(pixels)
            # Checks are here: within a part of a batch, a check would make the next part wait for it. A max
            # pool would drop NaN and answer as if nothing were wrong; pixels far outside 0..255 overflow.
            tf.debugging.check_numerics(found.pop("sums"), "Expected pixels that are numbers, from 0 to 255")
            logits = tf.debugging.check_numerics(found["logits"], "The network's answer to these pixels")
            probabilities = tf.nn.softmax(logits / self.temperature) if self.softmax else logits
            return found | {"probabilities": probabilities}

        return network

    def classifier(self) -> Tensor:
        """The kernel of the last layer, (channels, classes)."""
        kernel = self.model.get_layer(MAIN).kernel
        return keras.ops.convert_to_numpy(kernel) if self.frozen else kernel


def served_network(
    model: keras.Model,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] | None = None,
    *,
    temperature: float = 1.0,
    precision: str = "float32",
    cam: bool = False,
    optimize: str = "none",
    cores: int = 1,
) -> ServedNetwork:
    """A copy of a trained network's main path, ready to be exported.

    Args:
        model: A network with a layer `main`, trained on preprocessed images.
        preprocessing: The preprocessing it was trained with; by default pixels scaled to -1..1, as by
            `preprocess_input`, at the model's size and channels. Required for a network with extra layers
            before the first convolution, because they may scale pixels too.
        class_names: In label order; by default "0", "1" and so on.
        temperature: Divisor of the logits, more than 0.
        precision: Precision of its computations, `"float32"` or `"bfloat16"`. Its last layer stays in
            float32.
        cam: Whether to keep the last feature map.
        optimize: `"none"`; `"fold"`, for batch norm and ReLU inside of convolutions; or `"cpu"`, for that
            and weights as constants: see `export.optimize`.
        cores: For a server with one thread per operation: see `export.parallel`.

    Raises:
        UserError: The model, the class names or an option do not fit.
    """
    if precision not in POLICIES:
        raise UserError(f"expected `precision` float32 or bfloat16, got {precision!r}")
    if not temperature > 0:
        raise UserError(f"expected a `temperature` of more than 0, got {temperature}")
    if optimize not in optimizing.LEVELS:
        raise UserError(f"expected `optimize` to be one of {', '.join(optimizing.LEVELS)}, got {optimize!r}")
    if cores < 1:
        raise UserError(f"expected `cores` to be at least 1, got {cores}")
    if cores > 1 and optimize == "none":
        raise UserError(f"expected `optimize` fold or cpu for {cores} cores, got none")
    _check_output(model)
    if optimize == "none":
        main = with_dtype_policy(strip_aux(model), POLICIES[precision])
    else:
        main = optimizing.optimized(strip_aux(model), precision)
    preprocessing = preprocessing or _default_preprocessing(strip_aux(model))
    if cores > 1:
        main = split_layers(main, cores)
    head = main.get_layer(MAIN)
    softmax = head.activation in (keras.activations.softmax, keras.activations.linear)
    if softmax:
        head.activation = keras.activations.linear  # of this copy: probabilities would lose the small ones
    elif temperature != 1:
        raise UserError(
            f'expected a network that ends in softmax or logits, got "{head.activation.__name__}"'
        )
    features = features_of(main)
    outputs = {"logits": main.output, "features": features}
    if cam:
        outputs["map"] = pooled_map(main, features)
    return ServedNetwork(
        keras.Model(main.inputs[0], outputs, name=main.name),
        preprocessing,
        _class_names(main, class_names),
        temperature,
        softmax,
        frozen=optimize == "cpu",
        cores=cores,
    )


def _check_output(model: keras.Model) -> None:
    main = strip_aux(model).output
    if all(output is not main for output in model.outputs):
        raise UserError(
            f'expected a model with its layer "main" as an output; model {model.name!r} has the outputs '
            f"{', '.join(model.output_names)}, and layers after the main head are not exported"
        )


def _default_preprocessing(model: keras.Model) -> Preprocessing:
    _, height, width, channels = model.input_shape
    if height is None or width is None:
        raise UserError(
            "expected a model with a fixed input size: give GoogLeNet an `input_shape`, or "
            "`preprocessing` here"
        )
    if own := layers_before_convolution(model):
        raise UserError(
            f"expected `preprocessing` for {model.name!r}, whose input passes through {', '.join(own)} "
            "before the first convolution, received none: if the model takes pixels in 0..255, give "
            f"preprocessing=keras_googlenet.Preprocessing({height}, {width}, {channels}, mean=0.0, scale=1.0)"
        )
    return Preprocessing(height, width, channels)


def layers_before_convolution(model: keras.Model) -> list[str]:
    """Names of the layers and operations, padding apart, between a model's input and its first convolutions.

    Args:
        model: A functional model.
    """
    readers = optimizing.readers_of(model)
    waiting, found = list(model.inputs), dict[str, None]()
    while waiting:
        for operation in readers.get(id(waiting.pop()), []):
            if operation is None or isinstance(operation, WEIGHTED) or operation.name in found:
                continue
            if not isinstance(operation, keras.layers.ZeroPadding2D) and type(operation).__name__ != "Pad":
                found[operation.name] = None
            waiting += keras.tree.flatten(operation.output)
    return list(found)


def _class_names(model: keras.Model, class_names: Sequence[str] | None) -> tuple[str, ...]:
    classes = model.output_shape[-1]
    names = tuple(map(str, range(classes) if class_names is None else class_names))
    if len(names) != classes:
        raise UserError(f"expected {classes} class names, as the model has; received {len(names)}")
    return names
