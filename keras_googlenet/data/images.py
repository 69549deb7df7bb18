"""Decoding and resizing in TensorFlow graphs: for tf.data and for the exported model alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_googlenet.preprocessing import JPEG_MAGIC, LUMA, MAX_PIXELS, PNG_MAGIC, Preprocessing

Tensor = Any  # a tf.Tensor; TensorFlow's own types are not exported

PNG_SIZE_OFFSET = 16  # width and height, big-endian int32, in the IHDR chunk


def decode_image(encoded: Tensor, channels: int) -> Tensor:
    """Decode JPEG or PNG bytes, told apart by their first bytes.

    Args:
        encoded: Scalar string tensor.
        channels: 3 for RGB, 1 for luma. Transparency is dropped; EXIF orientation is not applied.

    Returns:
        Pixels, uint8, (height, width, channels).

    Raises:
        tf.errors.InvalidArgumentError: The bytes are neither JPEG nor PNG, are corrupt, or their
            header announces more than `MAX_PIXELS`.
    """
    is_jpeg = tf.equal(tf.strings.substr(encoded, 0, len(JPEG_MAGIC)), JPEG_MAGIC)
    is_png = tf.equal(tf.strings.substr(encoded, 0, len(PNG_MAGIC)), PNG_MAGIC)
    known = tf.debugging.Assert(is_jpeg | is_png, ["Expected the bytes of a JPEG or PNG image"])
    with tf.control_dependencies([known]):
        rgb = tf.cond(is_jpeg, lambda: _decode_jpeg(encoded), lambda: _decode_png(encoded))
    return to_channels(rgb, channels)


def to_channels(pixels: Tensor, channels: int) -> Tensor:
    """Pixels (height, width, 1 or 3), uint8, as colour (3) or luma (1)."""
    if pixels.shape[-1] == channels:
        return pixels
    if channels == 3:
        return tf.image.grayscale_to_rgb(pixels)
    # Not TensorFlow's own grey: its PNG decoder swaps the weights of green and blue.
    luma = tf.tensordot(tf.cast(pixels, tf.float32), tf.constant(LUMA), axes=1)
    return tf.cast(tf.round(luma), tf.uint8)[..., tf.newaxis]


def _decode_jpeg(encoded: Tensor) -> Tensor:
    shape = tf.io.extract_jpeg_shape(encoded)
    with tf.control_dependencies([_assert_bounded(shape[0], shape[1])]):
        # The default method differs from libjpeg's (and OpenCV's) by up to 6 levels.
        return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")


def _decode_png(encoded: Tensor) -> Tensor:
    padded = tf.strings.join([encoded, b"\0" * (PNG_SIZE_OFFSET + 8)])  # a header may be cut short
    header = tf.strings.substr(padded, PNG_SIZE_OFFSET, 8)
    size = tf.io.decode_raw(header, tf.int32, little_endian=False)
    with tf.control_dependencies([_assert_bounded(size[1], size[0])]):
        return tf.io.decode_png(encoded, channels=3)


def _assert_bounded(height: Tensor, width: Tensor) -> Any:
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    fine = (height > 0) & (width > 0) & (pixels <= MAX_PIXELS)
    message = f"Expected an image of 1 to {MAX_PIXELS} pixels; received height and width:"
    return tf.debugging.Assert(fine, [message, height, width])


def resize(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Resize and crop (..., height, width, channels) to the specification; float32 in 0..255."""
    size = list(preprocessing.resized)
    sides = pixels.shape[-3:-1]
    target = _covering(pixels, size) if preprocessing.keep_aspect else size
    # Where nothing shrinks, antialiasing changes nothing.
    if all(old is not None and old <= new for old, new in zip(sides, size, strict=True)):
        pixels = tf.image.resize(pixels, target, method="bilinear")
    else:
        pixels = antialiased(pixels, target)
    if preprocessing.crop_fraction == 1 and not preprocessing.keep_aspect:
        return pixels
    height, width = tf.shape(pixels)[-3], tf.shape(pixels)[-2]
    top, left = (height - preprocessing.height) // 2, (width - preprocessing.width) // 2
    pixels = pixels[..., top : top + preprocessing.height, left : left + preprocessing.width, :]
    return tf.ensure_shape(
        pixels, (*pixels.shape[:-3], preprocessing.height, preprocessing.width, pixels.shape[-1])
    )


def antialiased(pixels: Tensor, size: Sequence[Any], method: str = "bilinear") -> Tensor:
    """`tf.image.resize(pixels, size, method, antialias=True)`, bit for bit, in half of its time.

    Its kernel goes pixel by pixel along a row, but takes whole rows at once down a column. So both axes
    are resized down a column here, the other one beside the channels.
    """
    pixels = _transposed(_resize_height(tf.convert_to_tensor(pixels), size[0], method))
    return _transposed(_resize_height(pixels, size[1], method))


def _resize_height(pixels: Tensor, height: Any, method: str) -> Tensor:
    *batch, _, width, channels = pixels.shape
    *counts, rows, columns, _ = tf.unstack(tf.shape(pixels))
    narrow = tf.reshape(pixels, (*counts, rows, 1, columns * channels))
    resized = tf.reshape(
        tf.image.resize(narrow, (height, 1), method, antialias=True), (*counts, height, columns, channels)
    )
    return tf.ensure_shape(resized, (*batch, tf.get_static_value(height), width, channels))


def _transposed(pixels: Tensor) -> Tensor:
    *batch, rows, columns, channels = range(len(pixels.shape))
    return tf.transpose(pixels, (*batch, columns, rows, channels))


def _covering(pixels: Tensor, size: list[int]) -> Tensor:
    """The size, of the image's own aspect, that just covers `size`."""
    sides = tf.cast(tf.shape(pixels)[-3:-1], tf.float64)
    scale = tf.reduce_max(tf.constant(size, tf.float64) / sides)
    return tf.maximum(tf.cast(tf.round(sides * scale), tf.int32), size)


def load_images(encoded: Tensor, preprocessing: Preprocessing) -> Tensor:
    """A batch of encoded images to pixels in 0..255, float32, (batch, height, width, channels)."""

    def load(one: Tensor) -> Tensor:
        return resize(decode_image(one, preprocessing.channels), preprocessing)

    shape = (preprocessing.height, preprocessing.width, preprocessing.channels)
    return tf.map_fn(load, encoded, fn_output_signature=tf.TensorSpec(shape, tf.float32))
