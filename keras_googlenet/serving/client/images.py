"""What a client sends: image files, bytes and arrays as encoded JPEG or PNG."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_googlenet.errors import UserError
from keras_googlenet.images.exif import orientation, upright
from keras_googlenet.images.files import READ, visible_files, with_suffix
from keras_googlenet.images.headers import is_other
from keras_googlenet.images.spec import JPEG_MAGIC, MAX_SIDE, PNG_MAGIC

# Maximum per batch. Base64 adds a third, which stays well below the 256 MB that a server accepts over REST.
BATCH_BYTES = 64 * 2**20

EXPECTED = (
    "expected a JPEG, PNG, BMP, WebP or GIF image, or another that OpenCV reads (PPM, TIFF of 8 bits), "
    "whole and not corrupt"
)

Image = str | Path | bytes | bytearray | memoryview | np.ndarray


class Encoded(NamedTuple):
    """An image to send: its name in messages, and its bytes."""

    name: str
    data: bytes


def find_files(images: Sequence[Path]) -> list[Path]:
    """The files named, and the image files in the folders named."""
    files: list[Path] = []
    for path in images:
        if os.path.isdir(path):  # unlike Path's, it takes a name of any length
            found = with_suffix(visible_files(Path(path)), READ)
            if not found:
                raise UserError(f"no image in folder {path}")
            files += found
        elif os.path.isfile(path):
            files.append(path)
        else:
            raise UserError(f"no image file or folder at {path}")
    if not files:
        raise UserError("expected at least one image file or folder")
    return files


def batches(images: Image | Iterable[Image], size: int) -> Iterator[list[Encoded]]:
    """Encode images in batches of up to `size` and `BATCH_BYTES`; reads each batch when it is needed."""
    alone = images.ndim < 4 if isinstance(images, np.ndarray) else isinstance(images, Image)
    several: Iterable[Any] = images if isinstance(images, Iterable) and not alone else [images]
    batch: list[Encoded] = []
    for index, image in enumerate(several):
        encoded = encode(image, f"image {index}")
        held = sum(len(one.data) for one in batch)
        if len(batch) == size or (batch and held + len(encoded.data) > BATCH_BYTES):
            yield batch
            batch = []
        batch.append(encoded)
    if batch:
        yield batch


def encode(image: Image, name: str) -> Encoded:
    """An image as JPEG or PNG.

    Args:
        image: A file's path; the bytes of a file; or pixels as in OpenCV, uint8, (height, width, 3) in the
            order blue, green, red, or (height, width) or (height, width, 1). Pixels and files other than JPEG
            and PNG are sent as PNG, which changes no pixel and which every export accepts; of an animation,
            the first frame is sent. Those files are first turned upright by their EXIF, as the model does
            with JPEG and PNG. Transparency is sent, for the model to compose; TIFF is composed on white.
        name: The image's name in messages, if it has no path.

    Raises:
        UserError: The file does not exist, is not an image, or cannot be sent.
    """
    if isinstance(image, str | Path):
        path = Path(image)
        if not os.path.isfile(path):
            raise UserError(f"no image file at {path}")
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(unreadable(str(path), error.strerror)) from None
        return Encoded(str(path), _as_jpeg_or_png(data, str(path)))
    if isinstance(image, bytes | bytearray | memoryview):
        return Encoded(name, _as_jpeg_or_png(bytes(image), name))
    if isinstance(image, np.ndarray):
        return Encoded(name, _png(_checked(image, name), name))
    raise UserError(f"{name}: expected a path, bytes or an array of pixels; received {type(image).__name__}")


def unreadable(name: str, reason: str | None = None) -> str:
    """The message that names an unreadable image."""
    return f"cannot read {name}: {reason or EXPECTED}"


def _as_jpeg_or_png(data: bytes, name: str) -> bytes:
    if data.startswith((JPEG_MAGIC, PNG_MAGIC)):
        return data
    pixels = _decoded(data)
    if pixels is None:
        raise UserError(unreadable(name))
    return _png(upright(pixels, orientation(data)), name)


def _decoded(data: bytes) -> np.ndarray | None:
    """Pixels of another format in OpenCV's order, with their transparency; `None` if it cannot be read."""
    _opencv()
    from keras_googlenet.images.numpy import decode_converted, decode_with_alpha  # imports OpenCV

    try:
        pixels = decode_with_alpha(data) if is_other(data) else decode_converted(data)
    except ValueError:
        return None
    return pixels[..., [2, 1, 0, 3][: pixels.shape[-1]]] if pixels.shape[-1] > 1 else pixels


def _checked(pixels: np.ndarray, name: str) -> np.ndarray:
    shaped = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] in (1, 3))
    if pixels.dtype != np.uint8 or not shaped or not pixels.size:
        raise UserError(
            f"{name}: expected uint8 pixels of shape (height, width, 3), blue, green, red, or of shape "
            f"(height, width) or (height, width, 1); received {pixels.dtype} of shape {pixels.shape}"
        )
    return pixels


def _png(pixels: np.ndarray, name: str) -> bytes:
    height, width = pixels.shape[:2]
    if max(height, width) > MAX_SIDE:  # an export refuses longer ones
        raise UserError(f"{name}: expected at most {MAX_SIDE} pixels a side; got {height} x {width}")
    encoded: bytes = _opencv().imencode(".png", pixels)[1].tobytes()
    return encoded


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise UserError(
            f"OpenCV does not load ({error}): install its libraries (on Debian: apt-get install "
            "libgl1 libglib2.0-0), or pip install opencv-python-headless in its place"
        ) from None
    return cv2
