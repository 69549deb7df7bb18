"""Augmentation with TensorFlow.

Each image's changes depend only on its place in the run, so a run can resume. Seeds are int64 (2,) tensors:
the run's seed and the image's (or batch's) number in the run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_googlenet.data.augmentations import CUTOUT, GRAY, Turn, of_batches, of_images, takes_elements
from keras_googlenet.data.loading import pixels, rounded
from keras_googlenet.images import exif_graph
from keras_googlenet.images.headers_graph import announced_size, is_jpeg
from keras_googlenet.images.spec import Preprocessing
from keras_googlenet.images.tensorflow import antialiased, resize, to_channels

Tensor = Any
ASPECT = (3 / 4, 4 / 3)  # paper, section 6
INTERPOLATIONS = ("bilinear", "nearest", "bicubic", "area")
RANDAUGMENT_CHANGES = 2  # changes to an image: Cubuk et al. (2020), N
RANDAUGMENT_STRENGTH = (0.0, 0.5)  # Keras's own range for each


class Seeds(keras.random.SeedGenerator):
    """Seeds of Keras's random layers, derived from one tensor, so there is no state to restore."""

    def __init__(self, seed: Tensor, turn: Turn | None = None) -> None:  # no variable, so not the parent's
        self._seed, self._drawn, self.turn = seed, 0, turn

    def next(self, ordered: bool = True) -> Tensor:
        self._drawn += 1
        return tf.random.experimental.stateless_fold_in(self._seed, self._drawn)


def image_function(
    names: Sequence[str], preprocessing: Preprocessing, min_area: float
) -> Callable[[Tensor, Tensor, Turn], Tensor]:
    """The function (element of `loading.loader`, seed, turn) -> pixels, uint8 (height, width, channels).

    Args:
        names: Augmentations; only those of single images are applied.
        preprocessing: The size and channels.
        min_area: The least share of an image that a crop of `paper` keeps.
    """
    chosen = of_images(names)
    changes = [each.tensorflow(preprocessing, min_area) for each in chosen]

    def load(element: Tensor, seed: Tensor, turn: Turn) -> Tensor:
        draws = Seeds(seed, turn)
        image = element if takes_elements(names) else _at_size(element, preprocessing)
        for change in changes:
            image = change(image, draws)
        return image

    return load


def _at_size(element: Tensor, preprocessing: Preprocessing) -> Tensor:
    """The same uint8 pixels, whether they come from `loading.in_memory` or are decoded here."""
    if element.shape == (preprocessing.height, preprocessing.width, preprocessing.channels):
        return element
    return rounded(resize(pixels(element, preprocessing), preprocessing))


def batch_function(names: Sequence[str]) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The function (images, one-hot labels, seed) -> both, changed by one of the chosen augmentations."""
    changes = [each.tensorflow() for each in of_batches(names)]

    def change(images: Tensor, labels: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        if not changes:
            return images, labels
        chosen = tf.random.stateless_uniform((), seed, maxval=len(changes), dtype=tf.int32)
        return tf.switch_case(chosen, [partial(each, images, labels, seed) for each in changes])

    return change


def mixing(layer: keras.Layer) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The function (images, labels, seed) -> both, mixed by a layer of Keras's.

    Zhang et al. (2018), mixup; Yun et al. (2019), CutMix.
    """

    def mix(images: Tensor, labels: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
        change = layer.get_random_transformation(images, training=True, seed=Seeds(seed))
        mixed = layer.transform_images(images, change, training=True)
        mixed_labels = layer.transform_labels(labels, change, training=True)
        return tf.ensure_shape(mixed, images.shape), tf.ensure_shape(mixed_labels, labels.shape)

    return mix


def pad_and_crop(image: Tensor, seed: Tensor, share: int = 8, mode: str = "CONSTANT") -> Tensor:
    """Shift by up to an eighth of the side and fill with zeros: He et al. (2015), section 4.2.

    Args:
        image: (height, width, channels).
        seed: int64 (2,).
        share: Shift by at most this part of the side.
        mode: How to fill, as in `tf.pad`.
    """
    height, width, _ = image.shape
    top, left = height // share, width // share
    padded = tf.pad(image, [[top, top], [left, left], [0, 0]], mode)
    return tf.image.stateless_random_crop(padded, image.shape, seed)


def cut_out(image: Tensor, seed: Tensor) -> Tensor:
    """A square of a quarter of the side of (height, width, channels) in gray: DeVries and Taylor (2017)."""
    height, width, _ = image.shape
    inside = []
    for side, each in ((height, 0), (width, 1)):
        draw = tf.random.experimental.stateless_fold_in(seed, each)
        first = tf.random.stateless_uniform((), draw, maxval=side - side // CUTOUT + 1, dtype=tf.int32)
        place = tf.range(side) - first
        inside.append((place >= 0) & (place < side // CUTOUT))
    square = inside[0][:, tf.newaxis, tf.newaxis] & inside[1][tf.newaxis, :, tf.newaxis]
    return tf.where(square, tf.constant(GRAY, image.dtype), image)


def random_crop_and_distort(
    element: Tensor, preprocessing: Preprocessing, min_area: float, draws: Seeds
) -> Tensor:
    """The paper's: a crop of 8% to 100% of the area, photometric distortion, any interpolation."""
    image = _random_crop(element, preprocessing, min_area, draws.next())
    size = (preprocessing.height, preprocessing.width)

    def resized(method: str) -> Callable[[], Tensor]:
        if method in ("bilinear", "bicubic"):
            return lambda: antialiased(image, size, method)
        return lambda: tf.cast(tf.image.resize(image, size, method), tf.float32)

    chosen = tf.random.stateless_uniform((), draws.next(), maxval=len(INTERPOLATIONS), dtype=tf.int32)
    resized_image = tf.switch_case(chosen, [resized(method) for method in INTERPOLATIONS])
    resized_image = tf.ensure_shape(resized_image, (*size, preprocessing.channels))
    return distort_colors(tf.clip_by_value(resized_image, 0.0, 255.0), draws)


def _random_crop(element: Tensor, preprocessing: Preprocessing, min_area: float, seed: Tensor) -> Tensor:
    """A window of an image. Of a JPEG, only the window is decoded, then turned upright."""
    channels, turns = preprocessing.channels, preprocessing.turns
    encoded = element.dtype == tf.string
    if encoded:
        of_file = is_jpeg(element)
        decoded = tf.cond(
            of_file,
            lambda: tf.zeros((1, 1, channels), tf.uint8),
            lambda: pixels(element, preprocessing),
        )
        size = tf.cond(of_file, lambda: announced_size(element), lambda: tf.shape(decoded)[:2])
        shape = tf.concat([size, [channels]], axis=0)
    else:
        decoded, shape = to_channels(element, channels), tf.shape(element)
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape,
        bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed=seed,
        aspect_ratio_range=ASPECT,
        area_range=(min_area, 1.0),
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    top, left, height, width = begin[0], begin[1], size[0], size[1]

    def of_jpeg() -> Tensor:
        window = tf.stack([top, left, height, width])
        crop = tf.io.decode_and_crop_jpeg(element, window, channels=3, dct_method="INTEGER_ACCURATE")
        crop = to_channels(crop, channels)
        return exif_graph.upright(crop, exif_graph.orientation(element)) if turns else crop

    def of_decoded() -> Tensor:
        return decoded[top : top + height, left : left + width]

    return tf.cond(of_file, of_jpeg, of_decoded) if encoded else of_decoded()


def distort_colors(image: Tensor, draws: Seeds) -> Tensor:
    """Brightness, contrast and, of color images, saturation and hue, in one of two orders.

    Source: Howard (2013), cited by the paper, as implemented in TensorFlow's Inception models.
    """
    image = image / 255.0
    brightness, saturation, hue, contrast, order = (draws.next() for _ in range(5))

    def bright(image: Tensor) -> Tensor:
        return tf.image.stateless_random_brightness(image, 32 / 255, brightness)

    def contrasted(image: Tensor) -> Tensor:
        return tf.image.stateless_random_contrast(image, 0.5, 1.5, contrast)

    def colored(image: Tensor) -> Tensor:
        if image.shape[-1] == 1:
            return image
        image = tf.image.stateless_random_saturation(image, 0.5, 1.5, saturation)
        return tf.image.stateless_random_hue(image, 0.2, hue)

    image = tf.cond(
        tf.random.stateless_uniform((), order) < 0.5,
        lambda: contrasted(colored(bright(image))),
        lambda: colored(contrasted(bright(image))),
    )
    return rounded(tf.clip_by_value(image, 0.0, 1.0) * 255.0)


def randaugment_layers(channels: int) -> tuple[keras.Layer, ...]:
    """The Keras layers that `randaugment` draws from: Cubuk et al. (2020), Table 1."""
    factor = RANDAUGMENT_STRENGTH
    common = {"value_range": (0, 255), "dtype": "float32"}
    layers = (
        keras.layers.RandomShear(factor, factor, dtype="float32"),
        keras.layers.RandomTranslation(factor, factor, dtype="float32"),
        keras.layers.RandomRotation(factor, dtype="float32"),
        keras.layers.RandomBrightness(factor, **common),
        keras.layers.RandomContrast(factor, **common),
        keras.layers.RandomSharpness(factor, **common),
        keras.layers.Solarization(factor, factor, **common),
        keras.layers.RandomPosterization(4, **common),
        keras.layers.AutoContrast(**common),
        keras.layers.Equalization(**common),
    )
    if channels == 1:
        return layers
    return (*layers, keras.layers.RandomColorDegeneration(factor, **common))


def randaugment(image: Tensor, changes: Sequence[keras.Layer], draws: Seeds) -> Tensor:
    """Pixels, uint8 (height, width, channels), after some changes drawn from `changes`.

    `keras.layers.RandAugment` computes all changes to use a few; here only those drawn are computed.
    """
    batch = tf.cast(image, tf.float32)[tf.newaxis]  # some of the layers take batches alone

    def change(layer: keras.Layer, seed: Tensor) -> Callable[[], Tensor]:
        def call() -> Tensor:
            drawn = layer.get_random_transformation(batch, training=True, seed=Seeds(seed))
            return tf.ensure_shape(layer.transform_images(batch, drawn, training=True), batch.shape)

        return call

    for _ in range(RANDAUGMENT_CHANGES):
        chosen = tf.random.stateless_uniform((), draws.next(), maxval=len(changes), dtype=tf.int32)
        seed = draws.next()
        batch = tf.switch_case(chosen, [change(layer, seed) for layer in changes])
    return rounded(tf.clip_by_value(batch[0], 0.0, 255.0))


def smooth(labels: Tensor, smoothing: float) -> Tensor:
    """One-hot labels (batch, classes) with `smoothing` spread evenly: Szegedy et al. (2016), section 7."""
    classes = np.float32(labels.shape[-1])
    return labels * (1 - smoothing) + smoothing / classes
