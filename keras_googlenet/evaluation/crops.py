"""The paper's test protocols: 1, 10 or 144 crops of an image, whose probabilities are averaged."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, product
from typing import Any, NamedTuple

import tensorflow as tf

from keras_googlenet.data import pipeline
from keras_googlenet.data.parts import Part
from keras_googlenet.preprocessing import Preprocessing

PAPER_SIZE = 224  # the paper's network; for another size, all sides change alike
TEN_CROP_SIDE = 256
SHORTER_SIDES = (256, 288, 320, 352)  # paper, section 7

PROTOCOLS = {
    1: "one crop, prepared as for training",
    10: "10 crops: the 4 corners and the centre of the resized image, and their mirror images",
    144: "144 crops: 4 scales x 3 squares x (4 corners, the centre, the whole square) x mirror images",
}


class Crop(NamedTuple):
    """A square cut out of a resized image; in pixels of that image."""

    height: int  # of the resized image
    width: int
    top: int
    left: int
    side: int  # then resized to the network's size, where it is another
    mirrored: bool


def crop_table(height: int, width: int, size: int, crops: int) -> list[Crop]:
    """Where the crops of one image are.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        size: Side of the network's input, in pixels.
        crops: 10 or 144.

    Returns:
        A row for each crop; each is followed by its mirror image.
    """
    rows = _ten(height, width, size) if crops == 10 else _hundred_and_forty_four(height, width, size)
    return [Crop(*row, mirrored) for row, mirrored in product(rows, (False, True))]


Box = tuple[int, int, int, int, int]  # a Crop before it is mirrored


def _ten(height: int, width: int, size: int) -> Iterator[Box]:
    height, width = _resized(height, width, TEN_CROP_SIDE, size)
    for top, left in _corners_and_centre(height, width, size):
        yield height, width, top, left, size


def _hundred_and_forty_four(height: int, width: int, size: int) -> Iterator[Box]:
    for shorter_side in SHORTER_SIDES:
        tall, wide = _resized(height, width, shorter_side, size)
        side = min(tall, wide)
        for place in range(3):  # left, centre, right; or top, centre, bottom
            top, left = (tall - side) * place // 2, (wide - side) * place // 2
            for down, right in _corners_and_centre(side, side, size):
                yield tall, wide, top + down, left + right, size
            yield tall, wide, top, left, side


def _resized(height: int, width: int, shorter_side: int, size: int) -> tuple[int, int]:
    """Height and width that just cover a square of the paper's `shorter_side`, at this network's size."""
    side = round(shorter_side * size / PAPER_SIZE)
    short = min(height, width)
    return max(side, round(height * side / short)), max(side, round(width * side / short))


def _corners_and_centre(height: int, width: int, size: int) -> list[tuple[int, int]]:
    down, right = height - size, width - size
    return [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]


def crop_batches(part: Part, preprocessing: Preprocessing, crops: int, batch_size: int) -> tf.data.Dataset:
    """The crops of images, in order, cut while the network computes.

    Args:
        part: The images.
        preprocessing: Side (height and width are the same), channels and range of the network's input.
        crops: Of each image; 10 or 144.
        batch_size: Crops in a batch; the last batch may be smaller.

    Returns:
        Batches float32 (batch, side, side, channels).
    """
    element, size, channels = pipeline.loader(part), preprocessing.height, preprocessing.channels

    def cut(pixels: Any) -> Any:
        return take_crops(pixels, crop_table(pixels.shape[0], pixels.shape[1], size, crops), size)

    def load(index: Any) -> Any:
        taken = tf.py_function(cut, [pipeline.pixels(element(index), channels)], tf.float32)
        return preprocessing.normalize(tf.ensure_shape(taken, (crops, size, size, channels)))

    images = tf.data.Dataset.range(part.count).map(load, num_parallel_calls=pipeline.workers())
    return pipeline.with_options(images.rebatch(batch_size).prefetch(2))


def take_crops(pixels: Any, table: list[Crop], size: int) -> Any:
    """Cut the crops of a table out of an image.

    Args:
        pixels: Eager tensor or array (height, width, channels), of numbers in 0..255.
        table: Of `crop_table`, for that height and width.
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
    # Where nothing shrinks, antialiasing changes nothing and costs several times as much.
    antialias = pixels.shape[0] > height or pixels.shape[1] > width
    return tf.image.resize(pixels, (height, width), method="bilinear", antialias=antialias)
