"""Views of an image at test time, whose probabilities are averaged: its mirror image, one-pixel shifts.

Source: Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", arXiv 2404.00498, section 3.5.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

VIEWS = {
    1: "the unchanged image",
    2: "the image and its mirror image",
    6: "the image, its shifts by a pixel up and left and down and right (each half as much), and the mirror "
    "images of all three",
}


def views_of(images: np.ndarray, count: int) -> Iterator[tuple[float, np.ndarray]]:
    """The views of prepared images, the images themselves first, with weights whose sum is 1.

    Args:
        images: (batch, height, width, channels).
        count: A key of `VIEWS`.
    """
    if count == 1:
        yield 1.0, images
        return
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    shifts = [(0.25, padded[:, :height, :width]), (0.25, padded[:, 2:, 2:])] if count == 6 else []
    for weight, view in [(1.0 - 0.25 * len(shifts), images), *shifts]:
        yield weight / 2, view
        yield weight / 2, view[:, :, ::-1]
