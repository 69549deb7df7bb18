"""The crops of images, cut with TensorFlow."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import tensorflow as tf

from keras_googlenet.data import loading
from keras_googlenet.data.parts import Part
from keras_googlenet.evaluation.crops import Crop, crop_table
from keras_googlenet.images.spec import Preprocessing
from keras_googlenet.images.tensorflow import antialiased


def crop_batches(part: Part, preprocessing: Preprocessing, crops: int, batch_size: int) -> tf.data.Dataset:
    """The crops of images, in order, cut while the network computes.

    Args:
        part: The images.
        preprocessing: Side (height and width are the same), channels and range of the network's input.
        crops: Number of crops per image; 10 or 144.
        batch_size: Number of crops per batch; the last batch may be smaller.

    Returns:
        Batches float32 (batch, side, side, channels).
    """
    element, size, channels = loading.loader(part), preprocessing.height, preprocessing.channels

    def cut(pixels: Any) -> Any:
        return take_crops(pixels, crop_table(pixels.shape[0], pixels.shape[1], size, crops), size)

    def load(index: Any) -> Any:
        taken = tf.py_function(cut, [loading.pixels(element(index), preprocessing)], tf.float32)
        return preprocessing.normalize(tf.ensure_shape(taken, (crops, size, size, channels)))

    images = tf.data.Dataset.range(part.count).map(load, num_parallel_calls=loading.workers())
    return loading.with_options(images.rebatch(batch_size).prefetch(2))


def take_crops(pixels: Any, table: list[Crop], size: int) -> Any:
    """Cut the crops of a table out of an image.

    Args:
        pixels: Eager tensor or array (height, width, channels), of numbers in 0..255.
        table: The result of `crop_table` for that height and width.
        size: Side of the network's input, in pixels.

    Returns:
        float32 tensor (crops, size, size, channels), in 0..255.
    """
    pixels = tf.cast(pixels, tf.float32)
    taken = []
    for (height, width), crops in groupby(table, key=lambda crop: (crop.height, crop.width)):
        resized = _resize(pixels, height, width)
        for (top, left, side), twins in groupby(crops, key=lambda crop: (crop.top, crop.left, crop.side)):
            square = _resize(resized[top : top + side, left : left + side], size, size)
            taken += [square[:, ::-1] if twin.mirrored else square for twin in twins]
    return tf.stack(taken)


def _resize(pixels: Any, height: int, width: int) -> Any:
    if pixels.shape[0] <= height and pixels.shape[1] <= width:  # antialiasing would change nothing
        return tf.image.resize(pixels, (height, width), method="bilinear")
    return antialiased(pixels, (height, width))
