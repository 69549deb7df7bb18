"""Near-duplicates: copies of an image that were re-encoded, resized, cropped or changed in brightness.

Compares all pairs by the correlation of thumbnails, which ignores brightness and contrast. Aligns the most
similar pairs with OpenCV's ECC (Evangelidis and Psarakis, "Parametric Image Alignment Using Enhanced
Correlation Coefficient Maximization", 2008) and then compares their colors and detail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import cv2
import numpy as np
from tqdm import tqdm

from keras_googlenet.data.threads import in_threads

THUMBNAIL = 32  # pixels per side, of the first alignment
COARSE = 16  # pixels per side, of the comparison of all pairs
FINE = 64  # pixels per side, of the second alignment
MIN_COARSE = 0.5  # correlation of a pair to align
MAX_ALIGNED = 30_000  # pairs: half a minute on two cores
MIN_THUMBNAILS = 0.9  # correlation of aligned thumbnails
MIN_COLORS = 0.965  # correlation of aligned colors: different photos of a flower reach 0.94, copies 0.98
MIN_GRAY = 0.99  # the same for gray images: the outlines of two trousers reach 0.98
MIN_DETAIL = 0.4  # correlation of the detail that a blur removes: two clear skies share nothing else
MIN_OVERLAP = 0.5  # share of the first image that the second covers
MAX_ZOOM = 3.0  # ratio of areas
MIN_DEVIATION = 2.0  # of 255: a thumbnail with less contrast is flat
ROWS = 1024  # of the correlation matrix at a time
STEPS = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 20, 1e-3)

Load = Callable[[int], np.ndarray]


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """An image, uint8 (height, width, 1 or 3), as gray uint8 (`THUMBNAIL`, `THUMBNAIL`)."""
    return _sized(_gray(pixels), THUMBNAIL)


def near_duplicates(thumbnails: np.ndarray, load: Load) -> list[tuple[int, int]]:
    """Find images that are copies of each other.

    Args:
        thumbnails: uint8 (images, `THUMBNAIL`, `THUMBNAIL`).
        load: Returns the pixels of an image, uint8 (height, width, 1 or 3), by its index.

    Returns:
        Sorted pairs of indices (first, second), first < second. Checks the `MAX_ALIGNED` most similar pairs.
    """

    def is_copy(pair: tuple[int, int]) -> bool:
        first, second = pair
        if not _agree(thumbnails[first], thumbnails[second], MIN_THUMBNAILS):
            return False
        pictures = load(first), load(second)
        side = FINE if min(min(picture.shape[:2]) for picture in pictures) >= FINE else THUMBNAIL
        one, other = (_sized(picture, side) for picture in pictures)
        gray = any(picture.shape[2:] != (3,) for picture in (one, other))
        return _agree(one, other, MIN_GRAY if gray else MIN_COLORS, MIN_DETAIL)

    pairs = most_alike(thumbnails)
    found = in_threads(is_copy, pairs, "comparing similar pairs")
    return [pair for pair, copy in zip(pairs, found, strict=True) if copy]


def most_alike(thumbnails: np.ndarray) -> list[tuple[int, int]]:
    """The `MAX_ALIGNED` pairs whose thumbnails correlate most, and by at least `MIN_COARSE`; sorted."""
    coarse = np.stack([_sized(one, COARSE).ravel() for one in thumbnails]).astype(np.float32)
    coarse -= coarse.mean(axis=1, keepdims=True)
    deviation = coarse.std(axis=1, keepdims=True)
    coarse *= (deviation >= MIN_DEVIATION) / np.maximum(deviation, MIN_DEVIATION) / COARSE
    best, pairs, least = np.empty(0, np.float32), np.empty((0, 2), np.int64), MIN_COARSE
    for start in tqdm(range(0, len(coarse), ROWS), "comparing all pairs", leave=False, disable=None):
        correlation = coarse[start : start + ROWS] @ coarse[start:].T
        rows, columns = np.nonzero(correlation >= least)
        rows, columns = rows[columns > rows], columns[columns > rows]
        best = np.concatenate([best, correlation[rows, columns]])
        pairs = np.concatenate([pairs, np.stack([rows, columns], axis=1) + start])
        if len(best) > MAX_ALIGNED:
            kept = np.argpartition(-best, MAX_ALIGNED)[:MAX_ALIGNED]
            best, pairs, least = best[kept], pairs[kept], float(best[kept].min())
    return sorted((int(first), int(second)) for first, second in pairs)


def grouped(count: int, pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    """Number the connected components: int64 (count,), equal for images that pairs connect."""
    parent = list(range(count))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for first, second in pairs:
        low, high = sorted((root(first), root(second)))
        parent[high] = low
    return np.array([root(index) for index in range(count)], np.int64)


def _agree(first: np.ndarray, second: np.ndarray, least: float, of_detail: float = -1) -> bool:
    """Whether two images of the same size correlate enough after aligning the second with the first."""
    warp = np.eye(2, 3, dtype=np.float32)
    grays = _gray(first), _gray(second)
    blur = 2 * (len(first) // THUMBNAIL) + 1
    try:
        _, warp = cv2.findTransformECC(*grays, warp, cv2.MOTION_AFFINE, STEPS, None, blur)
    except cv2.error:  # no convergence, or a flat image
        return False
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = first.shape[1::-1]
    laid = cv2.warpAffine(second, warp, size, flags=flags)
    covered = cv2.warpAffine(np.ones(grays[1].shape, np.uint8), warp, size, flags=flags) > 0
    zoom = abs(float(np.linalg.det(warp[:, :2])))
    if covered.mean() < MIN_OVERLAP or not 1 / MAX_ZOOM <= zoom <= MAX_ZOOM:
        return False  # small patches of unrelated images can match
    one, other = _colored(first), _colored(laid)
    if _correlation(one[covered], other[covered]) < least:
        return False
    one, other = (picture - cv2.GaussianBlur(picture, (0, 0), 1) for picture in (one, other))
    return _correlation(one[covered], other[covered]) >= of_detail


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    one, other = (one - one.mean()).ravel(), (other - other.mean()).ravel()
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / lengths if lengths else 0.0


def _gray(pixels: np.ndarray) -> np.ndarray:
    colored = pixels.shape[2:] == (3,)
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if colored else pixels.reshape(pixels.shape[:2])


def _colored(pixels: np.ndarray) -> np.ndarray:
    """float32 (height, width, 3)."""
    return np.broadcast_to(pixels.reshape(*pixels.shape[:2], -1), (*pixels.shape[:2], 3)).astype(np.float32)


def _sized(pixels: np.ndarray, side: int) -> np.ndarray:
    """Resize to a square; changes the aspect ratio."""
    smaller = min(pixels.shape[:2]) >= side
    return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
