"""What a client sends: image files, bytes and arrays as encoded JPEG or PNG."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_googlenet.errors import UserError
from keras_googlenet.preprocessing import JPEG_MAGIC, PNG_MAGIC

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}

Image = str | Path | bytes | np.ndarray


class Encoded(NamedTuple):
    """An image as it is sent: what to call it in a message, and its bytes."""

    name: str
    data: bytes


def find_files(images: Sequence[Path]) -> list[Path]:
    """The files named, and the image files in the folders named."""
    files: list[Path] = []
    for path in images:
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            if not found:
                raise UserError(f"no image in folder {path}")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise UserError(f"no image file or folder at {path}")
    if not files:
        raise UserError("expected at least one image file or folder")
    return files


def batches(images: Image | Iterable[Image], size: int) -> Iterator[list[Encoded]]:
    """Encode one image or several, `size` at a time, each read when its batch is asked for."""
    if isinstance(images, str | Path | bytes) or (isinstance(images, np.ndarray) and images.ndim < 4):
        images = [images]
    encoded = (encode(image, f"image {index}") for index, image in enumerate(images))
    while batch := list(islice(encoded, size)):
        yield batch


def encode(image: Image, name: str) -> Encoded:
    """An image as JPEG or PNG.

    Args:
        image: A file's path; the bytes of a file; or pixels as OpenCV has them, uint8, (height, width, 3)
            in the order blue, green, red, or (height, width). Files other than JPEG and PNG, and pixels, are
            sent as PNG, which changes no pixel.
        name: What to call it where it has no path.

    Raises:
        UserError: There is no such file, or it is no image.
    """
    if isinstance(image, str | Path):
        path = Path(image)
        if not path.is_file():
            raise UserError(f"no image file at {path}")
        return Encoded(str(path), _as_jpeg_or_png(path.read_bytes(), str(path)))
    if isinstance(image, bytes):
        return Encoded(name, _as_jpeg_or_png(image, name))
    if isinstance(image, np.ndarray):
        return Encoded(name, _png(_checked(image, name)))
    raise UserError(f"{name}: expected a path, bytes or an array of pixels; received {type(image).__name__}")


def unreadable(name: str) -> str:
    """The message that names an image at fault."""
    return f"cannot read {name}: expected a JPEG or PNG image, whole and not corrupt"


def _as_jpeg_or_png(data: bytes, name: str) -> bytes:
    if data.startswith((JPEG_MAGIC, PNG_MAGIC)):
        return data
    cv2 = _opencv()
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if pixels is None:
        raise UserError(unreadable(name))
    return _png(pixels)


def _checked(pixels: np.ndarray, name: str) -> np.ndarray:
    shaped = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] == 3)
    if pixels.dtype != np.uint8 or not shaped or not pixels.size:
        raise UserError(
            f"{name}: expected uint8 pixels of shape (height, width, 3), blue, green, red, or of shape "
            f"(height, width); received {pixels.dtype} of shape {pixels.shape}"
        )
    return pixels


def _png(pixels: np.ndarray) -> bytes:
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
