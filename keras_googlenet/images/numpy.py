"""Decoding and resizing in NumPy and OpenCV: the same as `images.tensorflow`, without TensorFlow."""

from __future__ import annotations

import re
import struct
import zlib
from functools import lru_cache

import cv2
import numpy as np

from keras_googlenet.images.exif import EXTRA_SAMPLES, SAMPLES, chunk, orientation, short, upright
from keras_googlenet.images.files import TRAINED_NAMES
from keras_googlenet.images.headers import first_frame, is_other, size_of_other
from keras_googlenet.images.spec import (
    GIF_MAGICS,
    JPEG_MAGIC,
    JPEG_SCAN,
    LARGEST_SCANS,
    LUMA,
    MAX_PIXELS,
    MAX_SCANS,
    MAX_SIDE,
    PNG_COLOR_TYPE,
    PNG_DEPTH,
    PNG_HEADER,
    PNG_MAGIC,
    WHITE,
    Preprocessing,
)

# JPEG markers: 0xff and a code. Within the coded pixels, 0xff00 is a pixel byte, 0xffd0 to 0xffd7 are
# restarts.
JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
JPEG_END = 0xD9
JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # their segments hold the image's size
JPEG_ALONE = (0x01, 0xD8)  # markers without a segment
PNG_GRAY, PNG_GRAY_ALPHA = 0, 4
ASSOCIATED, UNASSOCIATED = 1, 2  # a TIFF's alpha: colors are multiplied by it, or not
CACHED_SIDE = 4096  # pixels: the weights of longer sides are too large to keep


def decode(
    encoded: bytes, channels: int, *, turns: bool = True, background: int | None = WHITE
) -> np.ndarray:
    """Decode an image file: JPEG, PNG, BMP, WebP or GIF, or the first frame of an animation.

    Args:
        encoded: The image.
        channels: 3 for RGB, 1 for luma.
        turns: Whether the image is turned upright by its EXIF orientation.
        background: Level of the gray that transparent pixels are composed on; `None` drops transparency.

    Returns:
        Pixels, uint8, (height, width, channels).

    Raises:
        ValueError: The format is another or the bytes are corrupt; the image has more than `MAX_PIXELS`, a
            side of more than `MAX_SIDE`, or more than `MAX_SCANS` JPEG scans; or scans x pixels exceed
            `LARGEST_SCANS` x `MAX_PIXELS`.
    """
    height, width = _size(encoded)
    if not 1 <= height * width <= MAX_PIXELS or max(height, width) > MAX_SIDE:
        raise ValueError(
            f"expected an image of 1 to {MAX_PIXELS} pixels, at most {MAX_SIDE} a side; "
            f"received height and width: {height} {width}"
        )
    scans = encoded.count(JPEG_SCAN) if encoded.startswith(JPEG_MAGIC) else 1
    if scans * height * width > LARGEST_SCANS * MAX_PIXELS:
        raise ValueError(
            f"expected an image of at most {LARGEST_SCANS} JPEG scans where it has {MAX_PIXELS} pixels; "
            f"received scans and pixels: {scans} {height * width}"
        )
    return to_channels(decode_any_size(encoded, turns=turns, background=background), channels)


def decode_any_size(encoded: bytes, *, turns: bool = True, background: int | None = WHITE) -> np.ndarray:
    """Decode the bytes of an image file of any size: gray stays gray, all else is as in `decode`.

    Returns:
        Pixels, uint8, (height, width, 1 or 3).

    Raises:
        ValueError: The format is another, the bytes are corrupt, or a JPEG has more than `MAX_SCANS` scans.
    """
    pixels = decode_with_alpha(encoded)
    if pixels.shape[-1] == 4:
        is_gray = encoded.startswith(PNG_MAGIC) and encoded[PNG_COLOR_TYPE] in (PNG_GRAY, PNG_GRAY_ALPHA)
        pixels = pixels[..., :3] if background is None else composed(pixels, background)
        pixels = np.ascontiguousarray(pixels[..., :1] if is_gray else pixels)
    return upright(pixels, orientation(encoded)) if turns else pixels


def decode_with_alpha(encoded: bytes) -> np.ndarray:
    """Decode the bytes of an image file as they are stored.

    Returns:
        Pixels, uint8, (height, width, 1, 3 or 4): gray, RGB or RGBA.

    Raises:
        ValueError: As in `decode_any_size`.
    """
    _size(encoded)
    if encoded.startswith(GIF_MAGICS):
        encoded = first_frame(encoded)  # OpenCV would read those that follow, too
    pixels = _opencv(encoded, cv2.IMREAD_UNCHANGED)
    transparent = _transparent_gray(encoded)
    if transparent is not None and pixels.ndim == 2:
        alpha = np.where(pixels == transparent, 0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)
        pixels = np.dstack([pixels] * 3 + [alpha])
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype("uint8")
    if pixels.ndim == 2:
        return pixels[..., np.newaxis]
    return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if pixels.shape[-1] == 4 else cv2.COLOR_BGR2RGB)


def decode_converted(encoded: bytes) -> np.ndarray:
    """Decode a file that `prepare` and the client convert: TIFF, PPM or PGM, composed on white.

    OpenCV turns TIFF upright.

    Returns:
        Pixels, uint8, (height, width, 1 or 3).

    Raises:
        ValueError: It cannot be read, has other than 8 or 16 bits a channel, or is a gray TIFF with alpha,
            which OpenCV ignores.
    """
    pixels = _opencv(encoded, cv2.IMREAD_UNCHANGED)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"expected 8 or 16 bits a channel, got {pixels.dtype}")
    if pixels.ndim == 2 and short(encoded, SAMPLES) == 2:
        raise ValueError("expected a gray TIFF without alpha: save it as PNG")
    if pixels.ndim == 2 or pixels.shape[-1] != 4:
        pixels = np.atleast_3d(_opencv(encoded, cv2.IMREAD_ANYCOLOR))
        return pixels[..., ::-1]
    extra = short(encoded, EXTRA_SAMPLES)
    is_multiplied = extra == ASSOCIATED or (extra == UNASSOCIATED and pixels.dtype == np.uint8)  # by libtiff
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype("uint8")
    pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA)
    if not is_multiplied:
        return composed(pixels, WHITE)
    return cv2.add(pixels[..., :3], 255 - pixels[..., [3, 3, 3]])


def _opencv(encoded: bytes, flags: int) -> np.ndarray:
    try:
        pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # empty, or of more than 2**30 pixels
        pixels = None
    if pixels is None:
        raise ValueError("corrupt")
    return pixels


def _transparent_gray(encoded: bytes) -> int | None:
    """The gray level that a PNG marks as transparent, as OpenCV scales it; OpenCV itself ignores the mark."""
    if not encoded.startswith(PNG_MAGIC) or encoded[PNG_COLOR_TYPE] != PNG_GRAY:
        return None
    level, depth = chunk(encoded, len(PNG_MAGIC), ">", b"tRNS"), encoded[PNG_DEPTH]
    if len(level) != 2:
        return None
    return int.from_bytes(level, "big") * (255 if depth < 8 else 1) // (2**depth - 1 if depth < 8 else 1)


def composed(pixels: np.ndarray, background: int) -> np.ndarray:
    """RGBA pixels, uint8 (height, width, 4), on a gray of that level: uint8 (height, width, 3), rounded."""
    alpha = pixels[..., 3:].astype("uint16")
    value = pixels[..., :3] * alpha + np.uint16(background) * (255 - alpha) + np.uint16(128)
    return ((value + (value >> 8)) >> 8).astype("uint8")  # divided by 255, and rounded


def _size(encoded: bytes) -> tuple[int, int]:
    """Height and width that an image file announces; a JPEG or PNG is checked to be whole."""
    if encoded.startswith(JPEG_MAGIC):
        return _jpeg_size(encoded)
    if encoded.startswith(PNG_MAGIC):
        return _png_size(encoded)
    if is_other(encoded):
        return size_of_other(encoded)
    raise ValueError(f"expected the bytes of a {TRAINED_NAMES} image")


def _jpeg_size(encoded: bytes) -> tuple[int, int]:
    """Height and width of a whole JPEG, found by following its markers to the end.

    OpenCV fills a truncated image with gray. An end marker proves nothing: the thumbnail has one too.
    """
    if encoded.count(JPEG_SCAN) > MAX_SCANS:  # thumbnails count, as in `images.tensorflow`
        raise ValueError(f"expected an image of at most {MAX_SCANS} JPEG scans")
    height = width = at = 0
    while (marker := JPEG_MARKER.search(encoded, at)) is not None:
        code, at = marker[1][0], marker.end()
        if code == JPEG_END:
            return height, width
        if code in JPEG_FRAMES and not height and at + 7 <= len(encoded):
            height, width = struct.unpack_from(">HH", encoded, at + 3)
        if code not in JPEG_ALONE:
            at += int.from_bytes(encoded[at : at + 2], "big")
    raise ValueError("corrupt")


def _png_size(encoded: bytes) -> tuple[int, int]:
    """Height and width of a whole PNG, found by following its chunks to the end.

    OpenCV does not check the last chunk's checksum, nor any of an animation. It allocates memory for the
    pixels that IHDR announces before it reads further, and skips other chunks before IHDR.
    """
    if not encoded.startswith(PNG_HEADER):
        raise ValueError("corrupt: expected a PNG image whose first chunk is IHDR")
    width, height = struct.unpack_from(">II", encoded[len(PNG_HEADER) :].ljust(8, b"\0"))
    at = len(PNG_MAGIC)
    while at + 12 <= len(encoded):
        length, kind = struct.unpack_from(">I4s", encoded, at)
        checksum = struct.pack(">I", zlib.crc32(encoded[at + 4 : at + 8 + length]))
        at += 12 + length
        if kind[:1].isupper() and encoded[at - 4 : at] != checksum:  # others are not needed for the pixels
            break
        if kind == b"IEND":
            return height, width
    raise ValueError("corrupt")


def to_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Pixels (height, width, 1 or 3), uint8, as color (3) or luma (1)."""
    if pixels.shape[-1] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=-1)
    return np.rint(pixels.astype("float32") @ np.array(LUMA, "float32")).astype("uint8")[..., np.newaxis]


def resize(pixels: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Resize and crop (height, width, channels) to the specification; float32 in 0..255."""
    (height, width), (top, left) = preprocessing.window(*pixels.shape[:2])
    if pixels.shape[:2] == (height, width) == (preprocessing.height, preprocessing.width):
        return pixels.astype("float32")  # saves 70 us of an image of 32 x 32
    rows = _weights(pixels.shape[0], height, top, preprocessing.height)
    columns = _weights(pixels.shape[1], width, left, preprocessing.width)
    resized = np.einsum("hi,iwc->hwc", rows, pixels.astype("float32"), optimize=True)
    return np.einsum("wj,hjc->hwc", columns, resized, optimize=True)


def _weights(old: int, new: int, first: int, kept: int) -> np.ndarray:
    """Bilinear, antialiased resizing of `old` pixels to `new`: of these, rows of a matrix (kept, old)."""
    if old > CACHED_SIDE:
        return _computed_weights(old, new, first, kept)
    return _cached_weights(old, new, first, kept)


def _computed_weights(old: int, new: int, first: int, kept: int) -> np.ndarray:
    scale = old / new
    centers = (np.arange(first, first + kept)[:, np.newaxis] + 0.5) * scale
    distance = np.abs(np.arange(old) + 0.5 - centers) / max(scale, 1)
    weights = np.maximum(1 - distance, 0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype("float32")


_cached_weights = lru_cache(maxsize=256)(_computed_weights)
