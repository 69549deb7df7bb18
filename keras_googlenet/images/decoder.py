"""Chooses what decodes images: TensorFlow, or NumPy and OpenCV if it is not installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np

from keras_googlenet.images.spec import WHITE


def has_tensorflow() -> bool:
    """Whether TensorFlow is installed."""
    return importlib.util.find_spec("tensorflow") is not None


def decoder(*, turns: bool = True, background: int | None = WHITE) -> Callable[[bytes, int], np.ndarray]:
    """The function (encoded image, channels) -> pixels that training uses on this machine.

    With `turns`, images are turned upright by their EXIF; transparent pixels are composed on `background`. It
    returns uint8 (height, width, channels). It raises ValueError unless the bytes are a complete image file
    of a format that training decodes.
    """
    if not has_tensorflow():
        from keras_googlenet.images.numpy import decode

        return partial(decode, turns=turns, background=background)
    import tensorflow as tf

    from keras_googlenet.images.tensorflow import read_image

    @lru_cache
    def graph(channels: int) -> Callable[[bytes], Any]:  # faster than its operations one by one
        signature = [tf.TensorSpec((), tf.string)]
        return tf.function(
            lambda encoded: read_image(encoded, channels, turns=turns, background=background),
            input_signature=signature,
        )

    def decode_with_tensorflow(encoded: bytes, channels: int) -> np.ndarray:
        try:
            return graph(channels)(encoded).numpy()
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(error.message) from None

    return decode_with_tensorflow
