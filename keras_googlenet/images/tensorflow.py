"""Decoding and resizing in TensorFlow graphs: for tf.data and for the exported model alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_googlenet.images import exif_graph
from keras_googlenet.images.exif import TRANSPOSED
from keras_googlenet.images.headers_graph import announced_size, head, is_jpeg, is_png, starts
from keras_googlenet.images.numpy import decode
from keras_googlenet.images.spec import (
    BMP_MAGIC,
    LUMA,
    MAX_PIXELS,
    PNG_COLOR_TYPE,
    WHITE,
    Preprocessing,
)

Tensor = Any  # a tf.Tensor; TensorFlow's own types are not exported

# From a filter's name in `tf.image.resize` to its name in the kernel.
KERNELS = {"bilinear": "triangle", "bicubic": "keyscubic"}
PNG_ALPHA = (4, 6)  # color types with alpha
COMPOSED_AT_ONCE = 2**20  # pixels
ELONGATED = 4  # how many times as wide as what is kept of it an image is whose width is resized first


def read_image(
    encoded: Tensor, channels: int, *, turns: bool = True, background: int | None = WHITE
) -> Tensor:
    """`decode_image` of JPEG and PNG, and `images.numpy.decode` of other formats.

    Training and evaluation thus read every BMP, the first frame of an animation, and GIF, of which
    TensorFlow's operation would decode all frames. It calls Python, so it cannot be part of an exported
    graph.

    Args:
        encoded: As in `decode_image`, like all that follow.
        channels: 3 or 1.
        turns: Whether the image is turned upright.
        background: What transparent pixels are composed on.

    Raises:
        tf.errors.InvalidArgumentError: As `decode_image` or `images.numpy.decode`.
    """

    def by_tensorflow() -> Tensor:
        return decode_image(encoded, channels, turns=turns, background=background)

    def by_python() -> Tensor:
        def read(one: Any) -> Any:
            data = one if isinstance(one, bytes) else one.item()  # an array, where it is called eagerly
            return decode(data, channels, turns=turns, background=background)

        return tf.ensure_shape(tf.numpy_function(read, [encoded], tf.uint8), (None, None, channels))

    return tf.cond(is_jpeg(encoded) | is_png(encoded), by_tensorflow, by_python)


def decode_image(
    encoded: Tensor,
    channels: int,
    max_pixels: int = MAX_PIXELS,
    *,
    turns: bool = True,
    background: int | None = WHITE,
) -> Tensor:
    """Decode JPEG, PNG, BMP or WebP bytes, told apart by their first bytes.

    Args:
        encoded: Scalar string tensor.
        channels: 3 for RGB, 1 for luma.
        max_pixels: The largest height x width.
        turns: Whether the image is turned upright by its EXIF orientation.
        background: Level of the gray that transparent pixels are composed on; `None` drops transparency.

    Returns:
        Pixels, uint8, (height, width, channels).

    Raises:
        tf.errors.InvalidArgumentError: As `announced_size`, or the bytes are corrupt.
    """
    with tf.control_dependencies([announced_size(encoded, max_pixels)]):
        return _decode(tf.identity(encoded), channels, turns, background)


def _decode(encoded: Tensor, channels: int, turns: bool, background: int | None) -> Tensor:
    """Decode an image that `announced_size` has accepted."""

    def jpeg() -> Tensor:
        # The default method differs from libjpeg's (and OpenCV's) by up to 6 levels.
        return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")

    def png() -> Tensor:
        def opaque() -> Tensor:
            return tf.io.decode_png(encoded, channels=3)

        if background is None:
            return opaque()
        return tf.cond(
            _png_has_alpha(encoded),
            lambda: composed(tf.io.decode_png(encoded, channels=4), background),
            opaque,
        )

    def webp() -> Tensor:
        (pixels,) = tf.unstack(tf.raw_ops.DecodeWebP(contents=encoded, channels=0), 1)  # frames
        if background is None:
            opaque = pixels[..., :3]
        else:
            has_alpha = tf.shape(pixels)[-1] == 4
            opaque = tf.cond(has_alpha, lambda: composed(pixels, background), lambda: pixels[..., :3])
        return tf.ensure_shape(opaque, (None, None, 3))

    def bmp_or_webp() -> Tensor:
        # Of 32 bits a pixel, 8 are unused.
        return tf.cond(starts(encoded, BMP_MAGIC), lambda: tf.io.decode_bmp(encoded, channels=3), webp)

    def not_jpeg() -> Tensor:
        return tf.cond(is_png(encoded), png, bmp_or_webp)

    pixels = to_channels(tf.cond(is_jpeg(encoded), jpeg, not_jpeg), channels)
    return exif_graph.upright(pixels, exif_graph.orientation(encoded)) if turns else pixels


def _png_has_alpha(encoded: Tensor) -> Tensor:
    color_type = tf.io.decode_raw(head(encoded, PNG_COLOR_TYPE, PNG_COLOR_TYPE + 1), tf.uint8)
    has_channel = tf.reduce_any(color_type == tf.constant(PNG_ALPHA, tf.uint8))
    return has_channel | (tf.size(tf.strings.split(encoded, b"tRNS", maxsplit=1)) > 1)


def composed(pixels: Tensor, background: int) -> Tensor:
    """RGBA pixels, uint8 (height, width, 4), on a gray of that level: uint8 (height, width, 3), rounded.

    Works on a million pixels at a time, so the largest image is never in memory in 16 bits.
    """
    height, width, _ = tf.unstack(tf.shape(pixels))
    rows = tf.maximum(COMPOSED_AT_ONCE // width, 1)
    full, half, eight = (tf.constant(value, tf.uint16) for value in (255, 128, 8))

    def compose(first: Tensor, parts: tf.TensorArray) -> tuple[Tensor, tf.TensorArray]:
        part = tf.cast(pixels[first * rows : (first + 1) * rows], tf.uint16)
        alpha = part[..., 3:]
        value = part[..., :3] * alpha + tf.constant(background, tf.uint16) * (full - alpha) + half
        # Divided by 255, and rounded.
        value = tf.bitwise.right_shift(value + tf.bitwise.right_shift(value, eight), eight)
        return first + 1, parts.write(first, tf.cast(value, tf.uint8))

    count = (height + rows - 1) // rows
    parts = tf.TensorArray(tf.uint8, count, infer_shape=False, element_shape=(None, None, 3))
    _, parts = tf.while_loop(
        lambda first, parts: first < count, compose, (tf.constant(0), parts), parallel_iterations=1
    )
    return tf.ensure_shape(parts.concat(), (None, None, 3))


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
    target = _covering(tf.shape(pixels)[-3:-1], size) if preprocessing.keep_aspect else size
    top, left = (target[0] - kept[0]) // 2, (target[1] - kept[1]) // 2
    # Where nothing shrinks, antialiasing changes nothing.
    if all(old is not None and old <= new for old, new in zip(sides, size, strict=True)):
        pixels = tf.image.resize(pixels, target, method="bilinear")
        pixels = pixels[..., top : top + kept[0], left : left + kept[1], :]
    elif preprocessing.crop_fraction == 1 and not preprocessing.keep_aspect:
        return antialiased(pixels, size)
    else:
        # Only the kept part is computed: the rest of a long image could fill the memory.
        pixels = _antialiased(pixels, target, (top, left), kept, "bilinear")
    return tf.ensure_shape(pixels, (*pixels.shape[:-3], *kept, pixels.shape[-1]))


def antialiased(pixels: Tensor, size: Sequence[Any], method: str = "bilinear") -> Tensor:
    """`tf.image.resize(pixels, size, method, antialias=True)`, in half the time.

    TensorFlow's kernel resizes rows pixel by pixel, but columns by whole rows. So both axes are resized as
    columns here, the width along with the channels. The result equals TensorFlow's bit for bit, unless the
    width shrinks more than `ELONGATED` times as much as the height: then the width is resized first, to keep
    the intermediate image small.
    """
    return _antialiased(tf.convert_to_tensor(pixels), size, (0, 0), size, method)


def _antialiased(
    pixels: Tensor, size: Sequence[Any], first: Sequence[Any], kept: Sequence[Any], method: str
) -> Tensor:
    """The window of `kept` rows and columns, from the `first` on, of the image resized to `size`."""
    *batch, _, _, channels = pixels.shape

    def as_it_is() -> Tensor:
        top, left = first
        part = tf.cast(pixels[..., top : top + kept[0], left : left + kept[1], :], tf.float32)
        return tf.ensure_shape(part, (*batch, *map(tf.get_static_value, kept), channels))

    def rows(of: Tensor, axis: int) -> Tensor:
        return _resize_height(of, size[axis], first[axis], kept[axis], method)

    def height_first() -> Tensor:
        return _transposed(rows(_transposed(rows(pixels, 0)), 1))

    def width_first() -> Tensor:
        return rows(_transposed(rows(_transposed(pixels), 1)), 0)

    height, width = tf.unstack(tf.cast(tf.shape(pixels)[-3:-1], tf.int64))
    wide = width * tf.cast(kept[0], tf.int64) > ELONGATED * height * tf.cast(kept[1], tf.int64)
    fits = tf.reduce_all(tf.shape(pixels)[-3:-1] == tf.convert_to_tensor(size))
    return tf.cond(fits, as_it_is, lambda: tf.cond(wide, width_first, height_first))


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


def _covering(sides: Tensor, size: Sequence[int]) -> Tensor:
    """The smallest size with the image's aspect ratio that covers `size`."""
    sides = tf.cast(sides, tf.float64)
    scale = tf.reduce_max(tf.constant(size, tf.float64) / sides)
    return tf.maximum(tf.cast(tf.round(sides * scale), tf.int32), size)


def seen_regions(encoded: Tensor, preprocessing: Preprocessing) -> Tensor:
    """The region of each upright image that the network sees, as `Preprocessing.region`.

    Args:
        encoded: String tensor (batch,), of images that `load_images` takes.
        preprocessing: The size, and how the image is cropped to it.

    Returns:
        Top, left, bottom and right as fractions, float32 (batch, 4).
    """
    size, kept = preprocessing.resized, (preprocessing.height, preprocessing.width)

    def region(target: Tensor) -> Tensor:
        first = (target - kept) // 2
        return tf.cast(tf.concat([first / target, (first + kept) / target], 0), tf.float32)

    def one_region(one: Tensor) -> Tensor:
        sides = announced_size(one)
        if preprocessing.turns:
            sides = tf.where(exif_graph.orientation(one) >= TRANSPOSED, sides[::-1], sides)
        return region(_covering(sides, size))

    if not preprocessing.keep_aspect:
        return tf.tile(region(tf.constant(size))[tf.newaxis], [tf.size(encoded), 1])
    return tf.map_fn(one_region, encoded, fn_output_signature=tf.TensorSpec((4,), tf.float32))


def load_images(encoded: Tensor, preprocessing: Preprocessing, max_pixels: int = MAX_PIXELS) -> Tensor:
    """A batch of encoded images to pixels in 0..255, float32, (batch, height, width, channels).

    `max_pixels` also bounds the decoded pixels in memory at any time: if a batch has more, its images are
    decoded one at a time, each resized before the next. So no image is rejected because of another client's,
    where a server merges requests.

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
        return resize(
            _decode(one, preprocessing.channels, preprocessing.turns, preprocessing.background), preprocessing
        )

    def load_all(at_once: int | None) -> Tensor:
        return tf.map_fn(
            load, encoded, parallel_iterations=at_once, fn_output_signature=tf.TensorSpec(shape, tf.float32)
        )

    return tf.cond(pixels <= max_pixels, lambda: load_all(None), lambda: load_all(1))
