"""Decoding and resizing in TensorFlow graphs: for tf.data and for the exported model alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_googlenet.images import exif_graph
from keras_googlenet.images.spec import (
    JPEG_MAGIC,
    JPEG_SCAN,
    LARGEST_SCANS,
    LUMA,
    MAX_PIXELS,
    MAX_SCANS,
    MAX_SIDE,
    PNG_HEADER,
    PNG_MAGIC,
    Preprocessing,
)

Tensor = Any  # a tf.Tensor; TensorFlow's own types are not exported

# Of a filter's name in `tf.image.resize`, the name in its kernel.
KERNELS = {"bilinear": "triangle", "bicubic": "keyscubic"}
ELONGATED = 4  # how many times as wide as what is kept of it an image is whose width is resized first


def decode_image(
    encoded: Tensor, channels: int, max_pixels: int = MAX_PIXELS, *, turns: bool = True
) -> Tensor:
    """Decode JPEG or PNG bytes; the first bytes select the decoder.

    Args:
        encoded: Scalar string tensor.
        channels: 3 for RGB, 1 for luma. Transparency is dropped.
        max_pixels: The largest height x width.
        turns: Whether the image is turned upright by its EXIF orientation.

    Returns:
        Pixels, uint8, (height, width, channels).

    Raises:
        tf.errors.InvalidArgumentError: As `announced_size`, or the bytes are corrupt.
    """
    with tf.control_dependencies([announced_size(encoded, max_pixels)]):
        return _decode(tf.identity(encoded), channels, turns)


def announced_size(encoded: Tensor, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Height and width from an image's header, int32 (2,). Nothing is decoded.

    Args:
        encoded: Scalar string tensor.
        max_pixels: The largest height x width.

    Raises:
        tf.errors.InvalidArgumentError: The bytes are neither JPEG nor PNG; the header is corrupt, or
            announces more than `max_pixels` or a side of more than `MAX_SIDE` pixels; or a JPEG has more
            than `MAX_SCANS` scans, or more than `LARGEST_SCANS` x `max_pixels` by its own pixels.
    """
    known = tf.debugging.Assert(
        _is_jpeg(encoded) | tf.equal(tf.strings.substr(encoded, 0, len(PNG_MAGIC)), PNG_MAGIC),
        ["Expected the bytes of a JPEG or PNG image"],
    )
    with tf.control_dependencies([known]):
        size, scans = tf.cond(
            _is_jpeg(encoded), lambda: _jpeg_size_and_scans(encoded), lambda: (_png_size(encoded), 1)
        )
    pixels = tf.reduce_prod(tf.cast(size, tf.int64))
    fine = tf.reduce_all((size > 0) & (size <= MAX_SIDE)) & (pixels <= max_pixels)
    message = (
        f"Expected an image of 1 to {max_pixels} pixels, at most {MAX_SIDE} a side; "
        "received height and width:"
    )
    fast = (scans <= MAX_SCANS) & (tf.cast(scans, tf.int64) * pixels <= LARGEST_SCANS * max_pixels)
    limits = (
        f"Expected an image of at most {MAX_SCANS} JPEG scans, {LARGEST_SCANS} where it has {max_pixels} "
        "pixels; received scans and pixels:"
    )
    checks = [  # the client reads these messages, two numbers each
        tf.debugging.Assert(fine, [message, size[0], size[1]]),
        tf.debugging.Assert(fast, [limits, scans, pixels]),
    ]
    with tf.control_dependencies(checks):
        return tf.identity(size)


def _is_jpeg(encoded: Tensor) -> Tensor:
    return tf.equal(tf.strings.substr(encoded, 0, len(JPEG_MAGIC)), JPEG_MAGIC)


def _jpeg_size_and_scans(encoded: Tensor) -> tuple[Tensor, Tensor]:
    # libjpeg refuses a scan whose first bytes are others. Thumbnails inside of the file count as well.
    scans = tf.size(tf.strings.split(encoded, JPEG_SCAN, maxsplit=MAX_SCANS + 1)) - 1
    # libjpeg's own reading of the header, by which `decode_jpeg` makes room, too.
    return tf.io.extract_jpeg_shape(encoded)[:2], scans


def _png_size(encoded: Tensor) -> Tensor:
    # libpng skips a chunk of another kind before IHDR, whose size would then not be read here.
    starts = tf.equal(tf.strings.substr(encoded, 0, len(PNG_HEADER)), PNG_HEADER)
    first = tf.debugging.Assert(starts, ["Expected a PNG image whose first chunk is IHDR"])
    with tf.control_dependencies([first]):
        padded = tf.strings.join([encoded, bytes(8)])  # a header may be cut short
    size = tf.io.decode_raw(tf.strings.substr(padded, len(PNG_HEADER), 8), tf.int32, little_endian=False)
    return tf.reverse(size, [0])


def _decode(encoded: Tensor, channels: int, turns: bool) -> Tensor:
    """Decode an image that `announced_size` has let pass."""

    def jpeg() -> Tensor:
        # The default method differs from libjpeg's (and OpenCV's) by up to 6 levels.
        return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")

    rgb = tf.cond(_is_jpeg(encoded), jpeg, lambda: tf.io.decode_png(encoded, channels=3))
    pixels = to_channels(rgb, channels)
    return exif_graph.upright(pixels, exif_graph.orientation(encoded)) if turns else pixels


def to_channels(pixels: Tensor, channels: int) -> Tensor:
    """Pixels (height, width, 1 or 3), uint8, as color (3) or luma (1)."""
    if pixels.shape[-1] == channels:
        return pixels
    if channels == 3:
        return tf.image.grayscale_to_rgb(pixels)
    # Not TensorFlow's own gray: its PNG decoder swaps the weights of green and blue.
    luma = tf.tensordot(tf.cast(pixels, tf.float32), tf.constant(LUMA), axes=1)
    return tf.cast(tf.round(luma), tf.uint8)[..., tf.newaxis]


def resize(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Resize and crop (..., height, width, channels) to the specification; float32 in 0..255."""
    size = list(preprocessing.resized)
    kept = (preprocessing.height, preprocessing.width)
    sides = pixels.shape[-3:-1]
    target = _covering(pixels, size) if preprocessing.keep_aspect else size
    top, left = (target[0] - kept[0]) // 2, (target[1] - kept[1]) // 2
    # Where nothing shrinks, antialiasing changes nothing.
    if all(old is not None and old <= new for old, new in zip(sides, size, strict=True)):
        pixels = tf.image.resize(pixels, target, method="bilinear")
        pixels = pixels[..., top : top + kept[0], left : left + kept[1], :]
    elif preprocessing.crop_fraction == 1 and not preprocessing.keep_aspect:
        return antialiased(pixels, size)
    else:
        # Just what is kept is computed: of a long image the rest could fill the memory.
        pixels = _antialiased(pixels, target, (top, left), kept, "bilinear")
    return tf.ensure_shape(pixels, (*pixels.shape[:-3], *kept, pixels.shape[-1]))


def antialiased(pixels: Tensor, size: Sequence[Any], method: str = "bilinear") -> Tensor:
    """`tf.image.resize(pixels, size, method, antialias=True)`, in half of its time.

    Its kernel goes pixel by pixel along a row, but takes whole rows at once down a column. So both axes
    are resized down a column here, the other one along with the channels. The result is TensorFlow's bit for
    bit, unless the width shrinks more than `ELONGATED` times as much as the height: then it is resized
    first, so that the image between the two steps stays small.
    """
    return _antialiased(tf.convert_to_tensor(pixels), size, (0, 0), size, method)


def _antialiased(
    pixels: Tensor, size: Sequence[Any], first: Sequence[Any], kept: Sequence[Any], method: str
) -> Tensor:
    """The window of `kept` rows and columns, from the `first` on, of the image resized to `size`."""

    def rows(of: Tensor, axis: int) -> Tensor:
        return _resize_height(of, size[axis], first[axis], kept[axis], method)

    def height_first() -> Tensor:
        return _transposed(rows(_transposed(rows(pixels, 0)), 1))

    def width_first() -> Tensor:
        return rows(_transposed(rows(_transposed(pixels), 1)), 0)

    height, width = tf.unstack(tf.cast(tf.shape(pixels)[-3:-1], tf.int64))
    wide = width * tf.cast(kept[0], tf.int64) > ELONGATED * height * tf.cast(kept[1], tf.int64)
    return tf.cond(wide, width_first, height_first)


def _resize_height(pixels: Tensor, height: Any, first: Any, kept: Any, method: str) -> Tensor:
    *batch, _, width, channels = pixels.shape
    *counts, rows, columns, _ = tf.unstack(tf.shape(pixels))
    narrow = tf.reshape(pixels, (-1, rows, 1, columns * channels))
    resized = tf.raw_ops.ScaleAndTranslate(
        images=narrow,
        size=[kept, 1],
        scale=[tf.cast(height, tf.float32) / tf.cast(rows, tf.float32), 1],
        translation=[-tf.cast(first, tf.float32), 0],
        kernel_type=KERNELS[method],
        antialias=True,
    )
    resized = tf.reshape(resized, (*counts, kept, columns, channels))
    return tf.ensure_shape(resized, (*batch, tf.get_static_value(kept), width, channels))


def _transposed(pixels: Tensor) -> Tensor:
    *batch, rows, columns, channels = range(len(pixels.shape))
    return tf.transpose(pixels, (*batch, columns, rows, channels))


def _covering(pixels: Tensor, size: list[int]) -> Tensor:
    """The size, of the image's own aspect, that just covers `size`."""
    sides = tf.cast(tf.shape(pixels)[-3:-1], tf.float64)
    scale = tf.reduce_max(tf.constant(size, tf.float64) / sides)
    return tf.maximum(tf.cast(tf.round(sides * scale), tf.int32), size)


def load_images(encoded: Tensor, preprocessing: Preprocessing, max_pixels: int = MAX_PIXELS) -> Tensor:
    """A batch of encoded images to pixels in 0..255, float32, (batch, height, width, channels).

    `max_pixels` bounds the decoded pixels that are in memory at any moment, whatever the batch: images that
    have more of them together are decoded one at a time, each resized before the next. So no image is
    refused for another's size, where a server merges the requests of several clients.

    Args:
        encoded: String tensor (batch,).
        preprocessing: The size and channels.
        max_pixels: The largest height x width of an image.

    Raises:
        tf.errors.InvalidArgumentError: As `decode_image`, for the whole batch. The headers of all images
            are checked before one is decoded.
    """
    sizes = tf.map_fn(
        lambda one: announced_size(one, max_pixels),
        encoded,
        fn_output_signature=tf.TensorSpec((2,), tf.int32),
    )
    pixels = tf.reduce_sum(tf.reduce_prod(tf.cast(sizes, tf.int64), axis=1))
    shape = (preprocessing.height, preprocessing.width, preprocessing.channels)

    @tf.function(input_signature=[tf.TensorSpec((), tf.string)])
    def load(one: Tensor) -> Tensor:  # traced once for both ways below
        return resize(_decode(one, preprocessing.channels, preprocessing.turns), preprocessing)

    def load_all(at_once: int | None) -> Tensor:
        return tf.map_fn(
            load, encoded, parallel_iterations=at_once, fn_output_signature=tf.TensorSpec(shape, tf.float32)
        )

    return tf.cond(pixels <= max_pixels, lambda: load_all(None), lambda: load_all(1))
