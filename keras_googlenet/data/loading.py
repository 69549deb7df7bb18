"""From a part of a data set to batches for the network, with tf.data."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from keras_googlenet.data import parts
from keras_googlenet.data.parts import Part, StoredImages
from keras_googlenet.images.spec import Preprocessing
from keras_googlenet.images.tensorflow import read_image, resize, to_channels

Tensor = Any
IMAGES_AT_ONCE = 64  # moved into memory


def batches(
    part: Part,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    outputs: int = 1,
    classes: int | None = None,
    keep: bool = False,
) -> tf.data.Dataset:
    """Batches of (images, labels) for evaluation, in order.

    Args:
        part: The images.
        preprocessing: Size, channels and range of the network's input.
        batch_size: Images in a batch; the last batch may be smaller.
        outputs: The network's number of outputs: labels are repeated for each.
        classes: Number of classes, for labels in one-hot form.
        keep: Keep the resized images in memory after the first pass, if they fit.

    Returns:
        Images float32 (batch, height, width, channels); labels int32 (batch,), or float32 (batch,
        classes), in a tuple if there are several outputs.
    """
    element = loader(part)
    labels = tf.constant(part.labels)

    def load(index: Tensor) -> tuple[Tensor, Tensor]:
        return resize(pixels(element(index), preprocessing), preprocessing), tf.gather(labels, index)

    def scale(images: Tensor, of_image: Tensor) -> tuple[Tensor, object]:
        if classes is not None:
            of_image = tf.one_hot(of_image, classes)
        return preprocessing.normalize(images), of_image if outputs == 1 else (of_image,) * outputs

    dataset = tf.data.Dataset.range(part.count).map(load, num_parallel_calls=workers()).batch(batch_size)
    dataset = dataset.map(scale, num_parallel_calls=workers())
    values = part.count * preprocessing.height * preprocessing.width * preprocessing.channels
    if keep and 4 * values <= parts.MEMORY_BYTES // 4:
        dataset = dataset.cache()
    return with_options(dataset.prefetch(2))


def loader(part: Part) -> Callable[[Tensor], Tensor]:
    """The graph's function from an index to an image: encoded, a string scalar, or decoded, uint8."""
    with tf.device("CPU"):  # a GPU's memory is for the network
        if isinstance(part.images, np.ndarray):
            images = tf.convert_to_tensor(part.images)  # `constant` would copy it twice
            return lambda index: tf.gather(images, index)
        if isinstance(part.images, StoredImages):
            stored = part.images
            return lambda index: tf.ensure_shape(
                tf.numpy_function(stored.__getitem__, [index], tf.string, stateful=False), ()
            )
        if isinstance(part.images[0], bytes):
            encoded = tf.constant(part.images)
            return lambda index: tf.gather(encoded, index)
        paths = tf.constant([os.fsencode(path) for path in part.images])  # in whatever encoding
    return lambda index: tf.io.read_file(tf.gather(paths, index))


def in_memory(part: Part, preprocessing: Preprocessing, processes: int = 1) -> Part:
    """The part, decoded and resized once for all epochs; unchanged if that does not fit in memory.

    Args:
        part: The images.
        preprocessing: Their size and channels.
        processes: Number of processes that hold them; they may share one machine.
    """
    shape = (part.count, preprocessing.height, preprocessing.width, preprocessing.channels)
    if 2 * processes * math.prod(shape) > parts.MEMORY_BYTES:  # there are two copies for a moment
        return part
    if isinstance(part.images, np.ndarray) and part.images.shape == shape:
        return part
    element = loader(part)

    def load(index: Tensor) -> Tensor:
        return rounded(resize(pixels(element(index), preprocessing), preprocessing))

    dataset = tf.data.Dataset.range(part.count).map(load, num_parallel_calls=workers())
    loaded = iter(with_options(dataset.batch(IMAGES_AT_ONCE)))
    images = np.empty(shape, "uint8")
    for start in tqdm(range(0, part.count, IMAGES_AT_ONCE), "decoding images", leave=False, disable=None):
        images[start : start + IMAGES_AT_ONCE] = next(loaded)
    return Part(images, part.labels)


def rounded(image: Tensor) -> Tensor:
    """Pixels in 0..255 as uint8."""
    return tf.cast(tf.round(image), tf.uint8)


def pixels(element: Tensor, preprocessing: Preprocessing) -> Tensor:
    """An image of `loader` decoded, uint8 (height, width, channels)."""
    if element.dtype == tf.string:
        return read_image(
            element,
            preprocessing.channels,
            turns=preprocessing.turns,
            background=preprocessing.background,
        )
    return to_channels(element, preprocessing.channels)


def workers() -> int:
    """Images to load at once."""
    return os.cpu_count() or 1


def with_options(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The dataset with this package's common options."""
    options = tf.data.Options()
    # With TensorFlow 2.21 the autotuner's thread can delay the end of an epoch by 20 s (observed).
    options.autotune.enabled = False
    # Each process reads its own share already.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.with_options(options)
