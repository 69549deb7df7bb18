"""From a part of a data set to batches for the network."""

from __future__ import annotations

import os

import tensorflow as tf

from keras_googlenet.data.images import resize
from keras_googlenet.data.sources import Part
from keras_googlenet.preprocessing import Preprocessing

SHUFFLE_BYTES = 512 * 2**20  # of decoded images held at once, to shuffle them
UNKNOWN_IMAGE_BYTES = 500 * 400 * 3  # a photograph, where a data set does not tell its images' size


def batches(
    part: Part,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    outputs: int = 1,
    shuffle_seed: int | None = None,
) -> tf.data.Dataset:
    """Batches of (images, labels) as the network takes them.

    Args:
        part: The images.
        preprocessing: Size, channels and range of the network's input.
        batch_size: Images in a batch; the last batch may be smaller.
        outputs: The network's number of outputs: labels are repeated for each.
        shuffle_seed: Shuffle anew in every pass, from this seed; `None` keeps the order.

    Returns:
        Images float32 (batch, height, width, channels); labels int32 (batch,), in a tuple if there
        are several outputs.
    """

    def load(element: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return resize(part.load(element, preprocessing.channels), preprocessing), label

    def scale(pixels: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, object]:
        return preprocessing.normalize(pixels), label if outputs == 1 else (label,) * outputs

    workers = os.cpu_count() or 1
    dataset = part.elements
    if shuffle_seed is not None:
        dataset = dataset.shuffle(shuffle_buffer(part), seed=shuffle_seed)
    dataset = dataset.map(load, num_parallel_calls=workers).batch(batch_size)
    dataset = dataset.map(scale, num_parallel_calls=workers).prefetch(2)
    options = tf.data.Options()
    # With TensorFlow 2.21 the autotuner's thread may hold the end of an epoch up for 20 s (seen).
    options.autotune.enabled = False
    return dataset.with_options(options)


def shuffle_buffer(part: Part) -> int:
    """How many elements to shuffle among: all of them, but for decoded images that memory would not hold."""
    element, _ = part.elements.element_spec
    if element.dtype == tf.string:
        return part.count
    return max(1, min(part.count, SHUFFLE_BYTES // (element.shape.num_elements() or UNKNOWN_IMAGE_BYTES)))
