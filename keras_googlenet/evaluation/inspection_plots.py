"""Pictures of a data set: some images of each class, and their features on a plane."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage

from keras_googlenet.data.inspection import pixels
from keras_googlenet.data.parts import ImageData
from keras_googlenet.evaluation.plots import AS_WRITTEN, legend_as_written, shortened

DPI = 120
TILE = 84  # pixels
POINT = 40  # of a picture on its point
FITTING = 17, 13  # pictures across and down the scatter
GAP = 6
COLUMNS = 10
MAX_ROWS = 40
NAMED_CLASSES = 20  # as many colors as can be told apart


def plot_contact_sheet(data: ImageData, title: str, path: Path, seed: int = 0) -> None:
    """Some training images of each class, a row a class.

    Args:
        data: The data set. If it has more than `MAX_ROWS` classes, the first ones are shown.
        title: Above the picture.
        path: PNG file to write.
        seed: Random seed of the choice of images.
    """
    random = np.random.default_rng(seed)
    names = data.class_names[:MAX_ROWS]
    sheet = np.full((len(names) * (TILE + GAP) - GAP, COLUMNS * (TILE + GAP) - GAP, 3), 255, np.uint8)
    for row in range(len(names)):
        members = np.flatnonzero(data.train.labels == row)
        chosen = np.sort(random.permutation(members)[:COLUMNS])
        for column, index in enumerate(chosen):
            top, left = row * (TILE + GAP), column * (TILE + GAP)
            sheet[top : top + TILE, left : left + TILE] = thumbnail(pixels(data.train, int(index)))
    if len(names) < len(data.class_names):
        title += f" (the first {len(names)} of {len(data.class_names)} classes)"

    height, width = sheet.shape[:2]
    figure = Figure(figsize=(width / DPI, height / DPI))
    axes = figure.add_axes((0, 0, 1, 1))  # a pixel of the sheet is one of the picture
    axes.imshow(sheet, interpolation="none")
    centers = np.arange(len(names)) * (TILE + GAP) + TILE / 2
    axes.set_yticks(centers, [shortened(name) for name in names], **AS_WRITTEN)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(title, loc="left", **AS_WRITTEN)
    figure.savefig(path, dpi=DPI, bbox_inches="tight")  # the names are next to the figure


def thumbnail(image: np.ndarray, side: int = TILE) -> np.ndarray:
    """An image (height, width, 1 or 3), enlarged or reduced to fit, centered on a light tile (side, side,
    3)."""
    scale = side / max(image.shape[:2])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    small = np.atleast_3d(cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=method))
    tile = np.full((side, side, 3), 235, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    tile[top : top + height, left : left + width] = small
    return tile


def spaced(points: np.ndarray) -> list[int]:
    """Indices of points (points, 2) whose pictures do not cover those of points before them."""
    extent = np.maximum(points.max(axis=0) - points.min(axis=0), 1e-12)
    places = points / extent * FITTING
    chosen: list[int] = []
    for index, place in enumerate(places):
        if (np.abs(places[chosen] - place).max(axis=1) >= 1).all():
            chosen.append(index)
    return chosen


def plot_scatter(
    points: np.ndarray,
    groups: np.ndarray,
    names: Sequence[str],
    axis_names: tuple[str, str],
    title: str,
    path: Path,
    pictures: Sequence[np.ndarray] = (),
) -> None:
    """Points of a plane, a color a group, and some of their pictures.

    Args:
        points: (points, 2).
        groups: Group of each, int (points,).
        names: Of the groups. All but the largest `NAMED_CLASSES` share a mark.
        axis_names: Of the two axes.
        title: Above the picture.
        path: PNG file to write.
        pictures: uint8 (`POINT`, `POINT`, 3) of each point; as many are shown as do not cover each other.
    """
    scatter_figure(points, groups, names, axis_names, title, pictures).savefig(path, dpi=DPI)


def scatter_figure(
    points: np.ndarray,
    groups: np.ndarray,
    names: Sequence[str],
    axis_names: tuple[str, str],
    title: str,
    pictures: Sequence[np.ndarray] = (),
) -> Figure:
    """The figure of `plot_scatter`."""
    counts = np.bincount(groups, minlength=len(names))
    found = np.count_nonzero(counts)
    largest = np.sort(np.argsort(-counts, kind="stable")[: min(found, NAMED_CLASSES)])
    colors = matplotlib.color_sequences["tab10" if len(largest) <= 10 else "tab20"]
    figure = Figure(figsize=(9.5, 6.5), layout="constrained")
    axes = figure.subplots()
    edges = {}
    for color, group in zip(colors, largest, strict=False):
        x, y = points[groups == group].T
        label = f"{shortened(names[group])} ({len(x)})"
        axes.scatter(x, y, s=18, alpha=0.7, linewidths=0, color=color, label=label)
        edges[group] = color
    x, y = points[~np.isin(groups, largest)].T
    if len(x):
        label = f"{found - len(largest)} more classes ({len(x)})"
        axes.scatter(x, y, s=18, facecolors="none", edgecolors="lightgray", label=label, zorder=0)
    for index in spaced(points) if pictures else ():
        edge = {"edgecolor": edges.get(groups[index], "lightgray"), "linewidth": 2}
        picture = OffsetImage(pictures[index], zoom=0.6)
        axes.add_artist(AnnotationBbox(picture, points[index], pad=0, bboxprops=edge))
    axes.set_title(title, **AS_WRITTEN)
    axes.set_xlabel(axis_names[0])
    axes.set_ylabel(axis_names[1])
    axes.grid(alpha=0.3)
    legend_as_written(figure.legend(loc="outside right upper", frameon=False, markerscale=1.5))
    return figure
