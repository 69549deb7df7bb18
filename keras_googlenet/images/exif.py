"""The orientation in a photo's EXIF, and pixels turned upright, in NumPy.

Source: JEITA CP-3451C (EXIF 2.32), tag 0x0112, and TIFF 6.0 for its directory. `images.exif_graph` does the
same in TensorFlow's operations.
"""

from __future__ import annotations

import struct

import numpy as np

from keras_googlenet.images.headers import is_webp
from keras_googlenet.images.spec import JPEG_MAGIC, PNG_MAGIC

UPRIGHT = 1
ORIENTATIONS = range(1, 9)
# To turn pixels upright: from this orientation on, rows become columns; then rows or columns are reversed.
TRANSPOSED, REVERSED_ROWS, REVERSED_COLUMNS = 5, (3, 4, 7, 8), (2, 3, 6, 7)
TAG, SHORT = 0x0112, 3  # of the orientation, and of its type
SAMPLES = 0x0115  # the tag of a TIFF that counts the values of a pixel
EXTRA_SAMPLES = 0x0152  # the tag of a TIFF that says what its alpha is
EXIF = b"Exif\0\0"  # what a JPEG's segment of it begins with
PNG_KIND, WEBP_KIND = b"eXIf", b"EXIF"  # of the chunks of it
WEBP_FIRST = 12  # where the chunks of a WebP begin
MOST_SEGMENTS = 256  # of a JPEG, or chunks of another file, that are looked at
MOST_ENTRIES = 512  # of a directory
SOS, APP1 = 0xDA, 0xE1  # markers: the first scan, and EXIF's


def orientation(encoded: bytes) -> int:
    """The orientation of an encoded image, 1 to 8; 1 if it has none, or its EXIF is damaged."""
    try:
        found = short(_exif(encoded), TAG)
    except (struct.error, IndexError):
        return UPRIGHT
    return found if found in ORIENTATIONS else UPRIGHT


def upright(pixels: np.ndarray, turned: int) -> np.ndarray:
    """Pixels (height, width, channels) of an image of that orientation, turned upright."""
    if turned >= TRANSPOSED:
        pixels = pixels.swapaxes(0, 1)
    if turned in REVERSED_ROWS:
        pixels = pixels[::-1]
    if turned in REVERSED_COLUMNS:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _exif(encoded: bytes) -> bytes:
    """The TIFF structure of an image's EXIF; empty where there is none."""
    if encoded.startswith(JPEG_MAGIC):
        return _of_jpeg(encoded)
    if encoded.startswith(PNG_MAGIC):
        return chunk(encoded, len(PNG_MAGIC), ">", PNG_KIND)
    if is_webp(encoded):
        return chunk(encoded, WEBP_FIRST, "<", WEBP_KIND).removeprefix(EXIF)
    return b""


def _of_jpeg(encoded: bytes) -> bytes:
    at = 2
    for _ in range(MOST_SEGMENTS):
        mark, code, length = struct.unpack_from(">BBH", encoded, at)
        if mark != 0xFF or code == SOS:
            break
        if code == 0xFF:  # a byte that fills up
            at += 1
            continue
        content = encoded[at + 4 : at + 2 + length]
        if code == APP1 and content.startswith(EXIF):
            return content.removeprefix(EXIF)
        at += 2 + length
    return b""


def chunk(encoded: bytes, at: int, order: str, kind: bytes) -> bytes:
    """The first chunk of a kind, or nothing: PNG's are length, kind, content, checksum (order `">"`);
    RIFF's are kind, length, content (`"<"`)."""
    for _ in range(MOST_SEGMENTS):
        if at + 8 > len(encoded):
            break
        if order == ">":
            length, name = struct.unpack_from(">I4s", encoded, at)
            following = at + 12 + length
        else:
            name, length = struct.unpack_from("<4sI", encoded, at)
            following = at + 8 + length + length % 2
        if name == kind:
            return encoded[at + 8 : at + 8 + length]
        at = following
    return b""


def short(tiff: bytes, wanted: int) -> int:
    """The value of a tag of one 16-bit number in the first directory of a TIFF structure; else 0.

    Raises:
        struct.error: The structure is damaged.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 0
    (at,) = struct.unpack_from(f"{order}I", tiff, 4)
    (entries,) = struct.unpack_from(f"{order}H", tiff, at)
    for entry in range(min(entries, MOST_ENTRIES)):
        tag, kind, count, value = struct.unpack_from(f"{order}HHIH", tiff, at + 2 + 12 * entry)
        if tag == wanted:
            return int(value) if kind == SHORT and count == 1 else 0
    return 0
