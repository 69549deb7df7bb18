"""The paper's test protocols, which average probabilities over 10 or 144 crops: positions of the crops."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

PAPER_SIZE = 224  # the paper's network; for another size, all sides change alike
TEN_CROP_SIDE = 256
SHORTER_SIDES = (256, 288, 320, 352)  # paper, section 7

PROTOCOLS = {
    1: "one crop, prepared as for training",
    10: "10 crops: the 4 corners and the center of the resized image, and their mirror images",
    144: "144 crops: 4 scales x 3 squares x (4 corners, the center, the whole square) x mirror images",
}


class Crop(NamedTuple):
    """A square cut out of a resized image; in pixels of that image."""

    height: int  # of the resized image
    width: int
    top: int
    left: int
    side: int  # then resized to the network's size, where it is another
    mirrored: bool


def crop_table(height: int, width: int, size: int, crops: int) -> list[Crop]:
    """The crops of one image.

    Args:
        height: The image's height in pixels.
        width: The image's width in pixels.
        size: Side of the network's input, in pixels.
        crops: 10 or 144.

    Returns:
        A row for each crop; each is followed by its mirror image.
    """
    rows = _ten(height, width, size) if crops == 10 else _hundred_and_forty_four(height, width, size)
    return [Crop(*row, mirrored) for row, mirrored in product(rows, (False, True))]


Box = tuple[int, int, int, int, int]  # a Crop before it is mirrored


def _ten(height: int, width: int, size: int) -> Iterator[Box]:
    height, width = _resized(height, width, TEN_CROP_SIDE, size)
    for top, left in _corners_and_center(height, width, size):
        yield height, width, top, left, size


def _hundred_and_forty_four(height: int, width: int, size: int) -> Iterator[Box]:
    for shorter_side in SHORTER_SIDES:
        tall, wide = _resized(height, width, shorter_side, size)
        side = min(tall, wide)
        for place in range(3):  # left, center, right; or top, center, bottom
            top, left = (tall - side) * place // 2, (wide - side) * place // 2
            for down, right in _corners_and_center(side, side, size):
                yield tall, wide, top + down, left + right, size
            yield tall, wide, top, left, side


def _resized(height: int, width: int, shorter_side: int, size: int) -> tuple[int, int]:
    """Height and width that just cover a square of the paper's `shorter_side`, at this network's size."""
    side = round(shorter_side * size / PAPER_SIZE)
    short = min(height, width)
    return max(side, round(height * side / short)), max(side, round(width * side / short))


def _corners_and_center(height: int, width: int, size: int) -> list[tuple[int, int]]:
    down, right = height - size, width - size
    return [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
