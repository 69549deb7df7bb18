"""Copies of the same picture: encoded again, resized, cropped, brighter or darker.

All pairs are compared by thumbnails, whose correlation brightness and contrast do not change. The most alike
are laid over each other with OpenCV's ECC (Evangelidis and Psarakis, "Parametric Image Alignment Using
Enhanced Correlation Coefficient Maximization", 2008), and are copies where colors then agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from multiprocessing.pool import ThreadPool

import cv2
import numpy as np
from tqdm import tqdm

THUMBNAIL = 32  # pixels a side
COARSE = 16  # pixels a side, of the first comparison
ALIKE = 0.7  # least correlation of two pictures that are laid over each other
MOST_LAID = 30_000  # pairs: half a minute
SEEN_SMALL = 0.9  # least correlation of thumbnails that lie over each other
SEEN = 0.965  # the same of colors at `FINE` pixels a side: photos of one flower reach 0.94, their copies 0.98
SEEN_GREY = 0.99  # the same without colors: outlines of two trousers reach 0.98
SEEN_DETAIL = 0.4  # the same of what a blur by a pixel takes away: smooth skies have no more in common
FINE = 64
LEAST_COVERED = 0.5  # of the first picture by the second
MOST_ZOOM = 3.0  # of areas
FLAT = 2.0  # deviation of 255 below which a thumbnail shows nothing
ROWS = 1024  # of a block of the comparison
STEPS = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 20, 1e-3)

Load = Callable[[int], np.ndarray]


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """A picture, uint8 (height, width, 1 or 3), as grey uint8 (`THUMBNAIL`, `THUMBNAIL`)."""
    return _sized(_grey(pixels), THUMBNAIL)


def near_duplicates(thumbnails: np.ndarray, load: Load) -> list[tuple[int, int]]:
    """Which pictures are copies of each other.

    Args:
        thumbnails: uint8 (pictures, `THUMBNAIL`, `THUMBNAIL`).
        load: The pixels of a picture, uint8 (height, width, 1 or 3), by its index.

    Returns:
        Pairs of indices (first, second), sorted, the smaller one first. Beyond `MOST_LAID` pairs that look
        alike, the least alike are not looked at.
    """

    def is_copy(pair: tuple[int, int]) -> bool:
        first, second = pair
        if not _agree(thumbnails[first], thumbnails[second], SEEN_SMALL):
            return False
        pictures = load(first), load(second)
        side = FINE if min(min(picture.shape[:2]) for picture in pictures) >= FINE else THUMBNAIL
        one, other = (_sized(picture, side) for picture in pictures)
        grey = any(picture.shape[2:] != (3,) for picture in (one, other))
        return _agree(one, other, SEEN_GREY if grey else SEEN, SEEN_DETAIL)

    pairs = most_alike(thumbnails)
    with ThreadPool() as pool:
        found = pool.imap(is_copy, pairs, chunksize=8)
        shown = tqdm(found, "comparing pairs that look alike", len(pairs), leave=False, disable=None)
        return [pair for pair, copy in zip(pairs, shown, strict=True) if copy]


def most_alike(thumbnails: np.ndarray) -> list[tuple[int, int]]:
    """The pairs of indices whose thumbnails correlate by `ALIKE` at least: the best `MOST_LAID`, sorted."""
    coarse = np.stack([_sized(one, COARSE).ravel() for one in thumbnails]).astype(np.float32)
    coarse -= coarse.mean(axis=1, keepdims=True)
    deviation = coarse.std(axis=1, keepdims=True)
    coarse *= (deviation >= FLAT) / np.maximum(deviation, FLAT) / COARSE
    best, pairs, least = np.empty(0, np.float32), np.empty((0, 2), np.int64), ALIKE
    for start in tqdm(range(0, len(coarse), ROWS), "comparing all pairs", leave=False, disable=None):
        correlation = coarse[start : start + ROWS] @ coarse[start:].T
        rows, columns = np.nonzero(correlation >= least)
        rows, columns = rows[columns > rows], columns[columns > rows]
        best = np.concatenate([best, correlation[rows, columns]])
        pairs = np.concatenate([pairs, np.stack([rows, columns], axis=1) + start])
        if len(best) > MOST_LAID:
            kept = np.argpartition(-best, MOST_LAID)[:MOST_LAID]
            best, pairs, least = best[kept], pairs[kept], float(best[kept].min())
    return sorted((int(first), int(second)) for first, second in pairs)


def grouped(count: int, pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    """A number for each of `count` pictures, (count,), which those share that pairs connect."""
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
    """Whether two pictures of one size correlate by so much once the second is laid over the first."""
    warp = np.eye(2, 3, dtype=np.float32)
    greys = _grey(first), _grey(second)
    blur = 2 * (len(first) // THUMBNAIL) + 1
    try:
        _, warp = cv2.findTransformECC(*greys, warp, cv2.MOTION_AFFINE, STEPS, None, blur)
    except cv2.error:  # it does not converge, or a picture is flat
        return False
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = first.shape[1::-1]
    laid = cv2.warpAffine(second, warp, size, flags=flags)
    covered = cv2.warpAffine(np.ones(greys[1].shape, np.uint8), warp, size, flags=flags) > 0
    zoom = abs(float(np.linalg.det(warp[:, :2])))
    if covered.mean() < LEAST_COVERED or not 1 / MOST_ZOOM <= zoom <= MOST_ZOOM:
        return False  # a small patch of anything agrees with some other
    one, other = _colored(first), _colored(laid)
    if _correlation(one[covered], other[covered]) < least:
        return False
    one, other = (picture - cv2.GaussianBlur(picture, (0, 0), 1) for picture in (one, other))
    return _correlation(one[covered], other[covered]) >= of_detail


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    one, other = (one - one.mean()).ravel(), (other - other.mean()).ravel()
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / lengths if lengths else 0.0


def _grey(pixels: np.ndarray) -> np.ndarray:
    colored = pixels.shape[2:] == (3,)
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if colored else pixels.reshape(pixels.shape[:2])


def _colored(pixels: np.ndarray) -> np.ndarray:
    """float32 (height, width, 3)."""
    return np.broadcast_to(pixels.reshape(*pixels.shape[:2], -1), (*pixels.shape[:2], 3)).astype(np.float32)


def _sized(pixels: np.ndarray, side: int) -> np.ndarray:
    """The whole picture at another size; its aspect changes."""
    smaller = min(pixels.shape[:2]) >= side
    return cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
