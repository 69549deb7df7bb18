"""Format and size of image files by their headers, in TensorFlow: checked before anything is decoded.

`images.headers` does the same for BMP, WebP and GIF, in Python.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_googlenet.images.spec import (
    BMP_MAGIC,
    JPEG_MAGIC,
    JPEG_SCAN,
    LARGEST_SCANS,
    MAX_PIXELS,
    MAX_SCANS,
    MAX_SIDE,
    PNG_HEADER,
    PNG_MAGIC,
    RIFF,
    WEBP,
)

Tensor = Any  # a tf.Tensor; TensorFlow's own types are not exported

WEBP_ANIMATION = 2  # a flag


def announced_size(encoded: Tensor, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Height and width from an image's header, int32 (2,). Nothing is decoded.

    Args:
        encoded: Scalar string tensor.
        max_pixels: The largest height x width.

    Raises:
        tf.errors.InvalidArgumentError: The bytes are of no such format; the header is corrupt, or announces
            more than `max_pixels` or a side of more than `MAX_SIDE` pixels; a JPEG has more than `MAX_SCANS`
            scans, or more than `LARGEST_SCANS` x `max_pixels` by its own pixels; a BMP is compressed or has
            not 24 or 32 bits a pixel; or a WebP is animated.
    """

    def of_others() -> tuple[Tensor, int]:
        is_bmp = starts(encoded, BMP_MAGIC)
        expected = ["Expected the bytes of a JPEG, PNG, BMP or WebP image"]
        with tf.control_dependencies([tf.debugging.Assert(is_bmp | is_webp(encoded), expected)]):
            return tf.cond(is_bmp, lambda: _bmp_size(encoded), lambda: _webp_size(encoded)), 1

    def not_jpeg() -> tuple[Tensor, int]:
        return tf.cond(is_png(encoded), lambda: (_png_size(encoded), 1), of_others)

    size, scans = tf.cond(is_jpeg(encoded), lambda: _jpeg_size_and_scans(encoded), not_jpeg)
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


def starts(encoded: Tensor, sign: bytes) -> Tensor:
    """Whether an encoded image begins with these bytes."""
    return tf.equal(tf.strings.substr(encoded, 0, len(sign)), sign)


def head(encoded: Tensor, start: int, end: int) -> Tensor:
    """The bytes from `start` to `end` of a file, zeros where it is cut short."""
    return tf.strings.substr(
        tf.strings.join([tf.strings.substr(encoded, 0, end), bytes(end)]), start, end - start
    )


def is_jpeg(encoded: Tensor) -> Tensor:
    """Whether an encoded image begins as a JPEG does."""
    return starts(encoded, JPEG_MAGIC)


def is_png(encoded: Tensor) -> Tensor:
    """Whether an encoded image begins as a PNG does."""
    return starts(encoded, PNG_MAGIC)


def is_webp(encoded: Tensor) -> Tensor:
    """Whether an encoded image begins as a WebP does."""
    return starts(encoded, RIFF) & tf.equal(head(encoded, 8, 12), WEBP)


def _jpeg_size_and_scans(encoded: Tensor) -> tuple[Tensor, Tensor]:
    # libjpeg refuses a scan whose first bytes are others. Thumbnails inside of the file count as well.
    scans = tf.size(tf.strings.split(encoded, JPEG_SCAN, maxsplit=MAX_SCANS + 1)) - 1
    # libjpeg's own reading of the header, by which `decode_jpeg` makes room, too.
    return tf.io.extract_jpeg_shape(encoded)[:2], scans


def _png_size(encoded: Tensor) -> Tensor:
    # libpng skips a chunk of another kind before IHDR, whose size would then not be read here.
    first = tf.debugging.Assert(
        starts(encoded, PNG_HEADER), ["Expected a PNG image whose first chunk is IHDR"]
    )
    with tf.control_dependencies([first]):
        padded = tf.strings.join([encoded, bytes(8)])  # a header may be cut short
    size = tf.io.decode_raw(tf.strings.substr(padded, len(PNG_HEADER), 8), tf.int32, little_endian=False)
    return tf.reverse(size, [0])


def _bmp_size(encoded: Tensor) -> Tensor:
    numbers = tf.io.decode_raw(head(encoded, 14, 34), tf.int32, little_endian=True)
    length, width, height, planes_and_bits, compression = tf.unstack(tf.ensure_shape(numbers, 5))
    bits = planes_and_bits // 2**16
    plain = (length >= 40) & ((bits == 24) | (bits == 32)) & (compression == 0)
    expected = ["Expected a BMP image of 24 or 32 bits a pixel, not compressed"]
    with tf.control_dependencies([tf.debugging.Assert(plain, expected)]):
        return tf.stack([tf.abs(height), width])  # a negative height: the rows go from top to bottom


def _webp_size(encoded: Tensor) -> Tensor:
    kind = head(encoded, 12, 16)
    content = tf.cast(tf.io.decode_raw(head(encoded, 20, 30), tf.uint8), tf.int32)
    flags, *_ = byte = tf.unstack(tf.ensure_shape(content, 10))
    is_extended = tf.equal(kind, b"VP8X")
    # Given more than one frame, TensorFlow's operation writes past the end of its memory (2.20 and 2.21).
    moves = is_extended & (flags & WEBP_ANIMATION != 0)
    still = tf.debugging.Assert(~moves, ["Expected a WebP image that is not animated"])
    bits = byte[1] + 2**8 * byte[2] + 2**16 * byte[3] + 2**24 * (byte[4] & 0xF)
    lossless = [1 + bits // 2**14, 1 + bits % 2**14]
    lossy = [(byte[8] + 2**8 * byte[9]) % 2**14, (byte[6] + 2**8 * byte[7]) % 2**14]
    extended = [1 + sum(byte[at + i] * 2 ** (8 * i) for i in range(3)) for at in (7, 4)]  # libwebp demands it
    with tf.control_dependencies([still]):
        return tf.case(
            [
                (is_extended, lambda: tf.stack(extended)),
                (tf.equal(kind, b"VP8L"), lambda: tf.stack(lossless)),
                (tf.equal(kind, b"VP8 "), lambda: tf.stack(lossy)),
            ],
            default=lambda: tf.zeros(2, tf.int32),  # which is refused
        )
