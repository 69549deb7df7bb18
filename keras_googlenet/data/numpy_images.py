"""Decoding and resizing in NumPy and OpenCV: what `images.py` does, where TensorFlow is absent."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from keras_googlenet.preprocessing import JPEG_MAGIC, LUMA, MAX_PIXELS, PNG_MAGIC, Preprocessing

JPEG_SCAN = b"\xff\xda"  # begins compressed data, which holds neither this marker nor the next
JPEG_END = b"\xff\xd9"
PNG_COLOUR_TYPE = 25  # its place in the file
PNG_GREY_ALPHA = 4


def decode(encoded: bytes, channels: int) -> np.ndarray:
    """Decode JPEG or PNG bytes.

    Args:
        encoded: The image.
        channels: 3 for RGB, 1 for luma. Transparency is dropped; EXIF orientation is not applied.

    Returns:
        Pixels, uint8, (height, width, channels).

    Raises:
        ValueError: The bytes are neither JPEG nor PNG, are corrupt, or make more than `MAX_PIXELS`.
    """
    pixels = decode_as_stored(encoded)
    if pixels.shape[0] * pixels.shape[1] > MAX_PIXELS:
        raise ValueError(f"expected an image of up to {MAX_PIXELS} pixels")
    return to_channels(pixels, channels)


def decode_as_stored(encoded: bytes) -> np.ndarray:
    """Decode JPEG or PNG bytes of any size: grey stays grey, all else is as in `decode`.

    Returns:
        Pixels, uint8, (height, width, 1 or 3).

    Raises:
        ValueError: The bytes are neither JPEG nor PNG, or are corrupt.
    """
    is_jpeg = encoded.startswith(JPEG_MAGIC)
    if not is_jpeg and not encoded.startswith(PNG_MAGIC):
        raise ValueError("neither JPEG nor PNG")
    # OpenCV before 5 fills the part that is missing with grey.
    cut_short = is_jpeg and encoded.rfind(JPEG_END) < encoded.rfind(JPEG_SCAN)
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = None if cut_short else cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    except cv2.error:  # of more than 2**30 pixels
        pixels = None
    if pixels is None:
        raise ValueError("corrupt")
    if pixels.ndim == 2:
        return pixels[..., np.newaxis]
    if not is_jpeg and encoded[PNG_COLOUR_TYPE] == PNG_GREY_ALPHA:
        return pixels[..., :1]
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def to_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Pixels (height, width, 1 or 3), uint8, as colour (3) or luma (1)."""
    if pixels.shape[-1] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=-1)
    return np.rint(pixels.astype("float32") @ np.array(LUMA, "float32")).astype("uint8")[..., np.newaxis]


def resize(pixels: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Resize and crop (height, width, channels) to the specification; float32 in 0..255."""
    size = preprocessing.resized
    if preprocessing.keep_aspect:
        scale = max(new / old for new, old in zip(size, pixels.shape, strict=False))
        height, width = (
            max(new, int(np.rint(old * scale))) for new, old in zip(size, pixels.shape, strict=False)
        )
    else:
        height, width = size
    rows, columns = _weights(pixels.shape[0], height), _weights(pixels.shape[1], width)
    resized = np.einsum("hi,iwc->hwc", rows, pixels.astype("float32"), optimize=True)
    resized = np.einsum("wj,hjc->hwc", columns, resized, optimize=True)
    top, left = (height - preprocessing.height) // 2, (width - preprocessing.width) // 2
    return resized[top : top + preprocessing.height, left : left + preprocessing.width]


@lru_cache(maxsize=256)
def _weights(old: int, new: int) -> np.ndarray:
    """Bilinear, antialiased resizing of `old` pixels to `new`, as a matrix (new, old)."""
    scale = old / new
    centres = (np.arange(new)[:, np.newaxis] + 0.5) * scale
    distance = np.abs(np.arange(old) + 0.5 - centres) / max(scale, 1)
    weights = np.maximum(1 - distance, 0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype("float32")
