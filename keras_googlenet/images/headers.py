"""Headers of BMP, WebP and GIF files, read in Python: sizes, and where a GIF's first frame ends.

Sources: Microsoft's BITMAPINFOHEADER; RFC 9649 (WebP); CompuServe's GIF89a. `images.tensorflow` reads BMP's
and WebP's in its graph.
"""

from __future__ import annotations

import struct

from keras_googlenet.images.spec import BMP_MAGIC, GIF_MAGICS, RIFF, WEBP

GIF_EXTENSION, GIF_FRAME, GIF_END = 0x21, 0x2C, b"\x3b"
CORRUPT = "corrupt"


def is_webp(encoded: bytes) -> bool:
    """Whether the bytes begin as a WebP does."""
    return encoded.startswith(RIFF) and encoded[8:12] == WEBP


def is_other(encoded: bytes) -> bool:
    """Whether the bytes begin as a BMP, WebP or GIF does."""
    return encoded.startswith((BMP_MAGIC, *GIF_MAGICS)) or is_webp(encoded)


def size_of_other(encoded: bytes) -> tuple[int, int]:
    """Height and width that the header of a BMP, WebP or GIF announces.

    Raises:
        ValueError: The header is truncated or of an unknown kind.
    """
    try:
        if encoded.startswith(BMP_MAGIC):
            return _bmp_size(encoded)
        if is_webp(encoded):
            return _webp_size(encoded)
        width, height = struct.unpack_from("<HH", encoded, 6)
    except struct.error:
        raise ValueError(CORRUPT) from None
    return height, width


def _bmp_size(encoded: bytes) -> tuple[int, int]:
    (header,) = struct.unpack_from("<I", encoded, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", encoded, 18)
    return abs(height), width  # a negative height: the rows go from top to bottom


def _webp_size(encoded: bytes) -> tuple[int, int]:
    kind = encoded[12:16]
    if kind == b"VP8X":  # of the canvas, as libwebp demands
        parts = struct.unpack_from("<HBHB", encoded, 24)
        return 1 + parts[2] + 65536 * parts[3], 1 + parts[0] + 65536 * parts[1]
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", encoded, 21)
        return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", encoded, 26)
        return height & 0x3FFF, width & 0x3FFF
    raise ValueError(CORRUPT)


def first_frame(encoded: bytes) -> bytes:
    """The GIF with its first frame only.

    Raises:
        ValueError: The frame is cut short, or not within the image.
    """
    try:
        at = 13 + _colors(encoded[10])
        while encoded[at] == GIF_EXTENSION:
            at = _after_blocks(encoded, at + 2)
        left, top, width, height, flags = struct.unpack_from("<HHHHB", encoded, at + 1)
        canvas_width, canvas_height = struct.unpack_from("<HH", encoded, 6)
        within = left + width <= canvas_width and top + height <= canvas_height
        if encoded[at] != GIF_FRAME or not within:
            raise ValueError(CORRUPT)
        # Its colors, a byte that says how the pixels are packed, and the pixels.
        end = _after_blocks(encoded, at + 10 + _colors(flags) + 1)
    except (IndexError, struct.error):
        raise ValueError(CORRUPT) from None
    return encoded[:end] + GIF_END


def _colors(flags: int) -> int:
    """Bytes of a table of colors."""
    return 3 << (flags % 8 + 1) if flags & 0x80 else 0


def _after_blocks(encoded: bytes, at: int) -> int:
    while length := encoded[at]:
        at += 1 + length
    return at + 1
