"""The answers that an export must give: the Keras model's outputs for the same requests."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_googlenet.export.calibration import softmax
from keras_googlenet.export.network import POLICIES, ServedNetwork
from keras_googlenet.export.verify import Values
from keras_googlenet.export.warmup import encoded_images, example
from keras_googlenet.images.numpy import decode
from keras_googlenet.images.spec import MAX_PIXELS, Preprocessing
from keras_googlenet.images.tensorflow import load_images
from keras_googlenet.names import MAIN, TOP_K
from keras_googlenet.network.surgery import features_of, pooled_map, strip_aux, with_dtype_policy
from keras_googlenet.weights.imagenet import preprocess_input

SEED = 0


def requests(network: ServedNetwork, images: Sequence[bytes] = (), max_pixels: int = MAX_PIXELS) -> Values:
    """A request for each signature, of several rows.

    Args:
        network: The network.
        images: Encoded images to test with, in addition to those of the warm-up and one of noise.
        max_pixels: The largest height x width that the export takes.
    """
    size = network.preprocessing
    sides = (size.height + 7, 2 * size.width)
    sides = sides if sides[0] * sides[1] <= max_pixels else (size.height, size.width)
    noise = np.random.default_rng(SEED).integers(0, 256, (*sides, size.channels), dtype=np.uint8)
    encoded = [*encoded_images(size), tf.io.encode_png(noise).numpy(), *images]
    pixels = load_images(tf.constant(encoded), size).numpy()
    return {
        "serving_default": {"images": np.array(encoded, object)},
        "tensor": {"images": pixels},
        "tensor_uint8": {"images": np.rint(pixels).astype("uint8")},
        "classify": {"inputs": np.array([example(image).SerializeToString() for image in encoded], object)},
        "features": {"images": np.array(encoded, object)},
        "labels": {"indices": np.arange(len(network.class_names))},
        "cam": {"images": np.array(encoded, object)},
    }


def answers(
    model: keras.Model,
    network: ServedNetwork,
    asked: Values,
    preprocessing: Preprocessing | None = None,
    *,
    precision: str,
    cam: bool,
) -> Values:
    """The outputs to expect of `requests`, from the trained model and NumPy.

    Args:
        model: The model passed to the export.
        network: The exported network; only its names and temperature are used, not its model or
            preprocessing.
        asked: The result of `requests`.
        preprocessing: The preprocessing passed to the export, if any; otherwise the model is called as its
            user would call it, with `preprocess_input`.
        precision: Precision of the export.
        cam: Whether to include `cam`; never in bfloat16, where rounding may change the best class.
    """
    main = strip_aux(model)
    if precision != "float32":
        main = with_dtype_policy(main, POLICIES[precision])
    features = features_of(main)
    outputs = [main.output, features, *([pooled_map(main, features)] if cam else [])]
    whole = keras.Model(main.inputs[0], outputs)
    # The user's model, all heads; it runs only in float32, because it does not model bfloat16's rounding.
    given = keras.Model(model.inputs[0], model.outputs)
    place = next(index for index, output in enumerate(model.outputs) if output is strip_aux(model).output)
    prepare = preprocess_input if preprocessing is None else preprocessing.normalize

    def ask(pixels: np.ndarray) -> list[np.ndarray]:
        with tf.device("CPU"):  # where `verify` computes, too
            prepared = prepare(pixels.astype("float32"))
            found = whole(prepared, training=False)
            if precision == "float32":
                found = [keras.tree.flatten(given(prepared, training=False))[place], *found[1:]]
        return [np.asarray(tf.cast(each, tf.float32)) for each in found]

    activation = main.get_layer(MAIN).activation

    def rated(output: np.ndarray) -> dict[str, np.ndarray]:
        if network.softmax:
            is_softmax = activation is keras.activations.softmax
            output = np.log(np.maximum(output, np.finfo("float32").tiny)) if is_softmax else output
            output = softmax(output / network.temperature)
        scores = -np.sort(-output, axis=-1)[:, :TOP_K]
        return {"probabilities": output, "scores": scores}

    output, features, *maps = ask(asked["tensor"]["images"])
    by_float, by_uint8 = rated(output), rated(ask(asked["tensor_uint8"]["images"])[0])
    expected = {
        "serving_default": by_float,
        "tensor": by_float,
        "tensor_uint8": by_uint8,
        "classify": {"scores": by_float["scores"]},
        "features": {"features": features},
        "labels": {"labels": np.array([name.encode() for name in network.class_names], object)},
    }
    if cam and precision == "float32":
        of_best = np.asarray(main.get_layer(MAIN).kernel)[:, output.argmax(axis=-1)]
        expected["cam"] = {"cam": np.einsum("bhwc,cb->bhw", maps[0], of_best)}
        size = network.preprocessing
        images = [decode(one, size.channels, turns=size.turns) for one in asked["cam"]["images"]]
        expected["cam"]["region"] = np.array([size.region(*image.shape[:2]) for image in images], "float32")
    return expected
