"""The signatures of an exported version, as functions of TensorFlow's graph.

The graph checks what a server does not: wrong shapes, empty batches, pixels that are not numbers and indices
without a class are all INVALID_ARGUMENT, on any device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from keras_googlenet.export.network import ServedNetwork
from keras_googlenet.images.spec import SERVED_PIXELS
from keras_googlenet.images.tensorflow import load_images, seen_regions
from keras_googlenet.names import TOP_K

Tensor = Any

EXAMPLE_FEATURE = "image/encoded"  # the name that TensorFlow's own image data sets use
BYTES_SHAPE = (None,)


class Signature(NamedTuple):
    """A signature's function, and the type and name of its one input."""

    function: Callable[[Tensor], dict[str, Tensor]]
    input: tf.TensorSpec


def signatures(
    network: ServedNetwork, *, cam: bool = False, max_pixels: int = SERVED_PIXELS
) -> dict[str, Signature]:
    """The signatures by name; each output's first dimension is the batch.

    - `serving_default`: `images`, string (batch,), each an encoded JPEG, PNG, BMP (of 24 or 32 bits) or still
      WebP, to `probabilities`, float32 (batch, classes) in label order, and the best five (or fewer) as
      `classes`, string, and `scores`, float32, best first.
    - `tensor`: `images`, float32 (batch, height, width, channels), RGB pixels in 0..255, to the same.
    - `tensor_uint8`: `images`, uint8, to the same.
    - `classify`: `inputs`, string (batch,), each a serialized tf.Example with an encoded image under
      `image/encoded`, to `classes` and `scores`: what `:classify` asks.
    - `features`: `images`, string (batch,), to `features`, float32 (batch, channels): what the
      classifier is given.
    - `labels`: `indices`, int64 (batch,), to `labels`, string (batch,): the classes' names, in the
      order of `probabilities`.
    - `cam`, on request: `images`, string (batch,), to `cam`, float32 (batch, height, width) of the last
      feature map, the best class's share of its logit by place (Zhou et al. 2016, "Learning Deep
      Features for Discriminative Localization"), and that class as `classes` and `scores`, (batch,);
      `maps`, float32 (batch, 5, height, width), has the maps of the best five (or fewer), best first.
      They cover the part of the upright image that the network sees: `region`, float32 (batch, 4), has its
      top, left, bottom and right as fractions of the image's height and width.

    Args:
        network: The network, with its feature map if `cam`.
        cam: Whether `cam` is among them.
        max_pixels: The largest height x width of an encoded image, checked before it is decoded. A batch with
            more pixels is decoded one image at a time. So a server that merges requests rejects no image
            because of another client's, and needs no additional memory.
    """
    preprocessing = network.preprocessing
    # A constant and a gather need no lookup table and no asset, which would embed its path.
    names = tf.constant(network.class_names)
    run = network.function()
    classifier = network.classifier() if cam else None
    encoded = tf.TensorSpec(BYTES_SHAPE, tf.string, "images")

    def best(probabilities: Tensor, count: int) -> dict[str, Tensor]:
        scores, indices = tf.math.top_k(probabilities, k=min(count, len(network.class_names)))
        return {"classes": tf.gather(names, indices), "scores": scores}

    def answer(pixels: Tensor) -> dict[str, Tensor]:
        probabilities = run(pixels)["probabilities"]
        return {"probabilities": probabilities} | best(probabilities, TOP_K)

    @tf.function(input_signature=[encoded])
    def decoded(images: Tensor) -> Tensor:  # traced once: of all that is in the graph it takes the longest
        return load_images(images, preprocessing, max_pixels)

    def load(images: Tensor) -> Tensor:
        return decoded(_checked(images, BYTES_SHAPE))

    def serving_default(images: Tensor) -> dict[str, Tensor]:
        return answer(load(images))

    def tensor(images: Tensor) -> dict[str, Tensor]:
        return answer(_checked(images, network.pixels_shape))

    def tensor_uint8(images: Tensor) -> dict[str, Tensor]:
        return answer(tf.cast(_checked(images, network.pixels_shape), tf.float32))

    def classify(inputs: Tensor) -> dict[str, Tensor]:
        feature = {EXAMPLE_FEATURE: tf.io.FixedLenFeature([], tf.string)}
        images = tf.io.parse_example(_checked(inputs, BYTES_SHAPE), feature)[EXAMPLE_FEATURE]
        return best(run(decoded(images))["probabilities"], TOP_K)

    def features(images: Tensor) -> dict[str, Tensor]:
        return {"features": run(load(images))["features"]}

    def labels(indices: Tensor) -> dict[str, Tensor]:
        indices = _checked(indices, BYTES_SHAPE)
        known = (indices >= 0) & (indices < len(network.class_names))
        message = f"Expected indices from 0 to {len(network.class_names) - 1}; received:"
        # On a GPU `gather` would not report an index out of range.
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(known), [message, indices])]):
            return {"labels": tf.gather(names, tf.identity(indices))}

    def class_maps(images: Tensor) -> dict[str, Tensor]:
        outputs = run(load(images))
        scores, indices = tf.math.top_k(outputs["probabilities"], k=min(TOP_K, len(network.class_names)))
        of_best = tf.gather(tf.transpose(classifier), indices)  # (batch, best, channels)
        maps = tf.einsum("bhwc,bkc->bkhw", outputs["map"], of_best)
        first = {"classes": tf.gather(names, indices[:, 0]), "scores": scores[:, 0]}
        region = seen_regions(images, preprocessing)
        return {"cam": maps[:, 0], "maps": maps, "region": region} | first

    pixels_shape = network.pixels_shape
    found = {
        "serving_default": Signature(serving_default, encoded),
        "tensor": Signature(tensor, tf.TensorSpec(pixels_shape, tf.float32, "images")),
        "tensor_uint8": Signature(tensor_uint8, tf.TensorSpec(pixels_shape, tf.uint8, "images")),
        "classify": Signature(classify, tf.TensorSpec(BYTES_SHAPE, tf.string, "inputs")),
        "features": Signature(features, encoded),
        "labels": Signature(labels, tf.TensorSpec(BYTES_SHAPE, tf.int64, "indices")),
    }
    return found | ({"cam": Signature(class_maps, encoded)} if cam else {})


def _checked(batch: Tensor, shape: tuple[int | None, ...]) -> Tensor:
    """The batch, checked for this shape and at least one row: a wrong rank would abort a server's process."""
    batch = tf.ensure_shape(batch, shape)
    filled = tf.debugging.Assert(tf.shape(batch)[0] > 0, ["Expected a batch of one row at least"])
    with tf.control_dependencies([filled]):
        return tf.identity(batch)
