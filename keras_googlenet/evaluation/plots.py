"""Pictures of a run and of an evaluation, by matplotlib's objects: without a window or global state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.ticker import MaxNLocator, PercentFormatter

from keras_googlenet.evaluation.metrics import CalibrationBin
from keras_googlenet.evaluation.results import ClassRow, Mistake
from keras_googlenet.text import printable

DPI = 120
CELL_INCHES = 0.55
MAX_ANNOTATED_CLASSES = 25  # beyond, the counts would not be legible
MAX_NAMED_CLASSES = 60
UNNAMED_INCHES = 12.0  # then a pixel at least for each of 1000 classes
MAX_NAME_LENGTH = 24
MAX_CAPTION_LENGTH = 20  # of a name under a picture
MISTAKES_IN_ROW, MOST_MISTAKES = 4, 12
AS_WRITTEN: dict[str, Any] = {"parse_math": False}  # dollar signs in a name start no formula


def plot_curves(history: dict[str, list[float]], path: Path) -> None:
    """Loss and main accuracy by epoch, in training and, if there was any, in validation.

    Args:
        history: The history of `keras.Model.fit`, with one output or three.
        path: PNG file to write.
    """
    accuracy = "main_accuracy" if "main_accuracy" in history else "accuracy"
    epochs = range(1, len(history["loss"]) + 1)
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, metric, title in zip(
        figure.subplots(1, 2),
        ("loss", accuracy),
        ("Loss (all heads, weighted)", "Accuracy (main head)"),
        strict=True,
    ):
        axes.plot(epochs, history[metric], "o-", label="training")
        if f"val_{metric}" in history:
            axes.plot(epochs, history[f"val_{metric}"], "s-", label="validation")
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=DPI)


def plot_confusion(matrix: np.ndarray, class_names: Sequence[str], path: Path) -> None:
    """Confusion matrix: rows are true classes, colored by the share of the row.

    Args:
        matrix: Counts, (classes, classes).
        class_names: In label order.
        path: PNG file to write.
    """
    classes = len(class_names)
    side = max(4.0, classes * CELL_INCHES) + 2 if classes <= MAX_NAMED_CLASSES else UNNAMED_INCHES
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(side + 0.5, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"Accuracy {np.trace(matrix) / max(matrix.sum(), 1):.1%} ({matrix.sum():,} images)")
    if classes <= MAX_NAMED_CLASSES:
        names = [shortened(name) for name in class_names]
        axes.set_xticks(range(classes), names, rotation=45, ha="right", **AS_WRITTEN)
        axes.set_yticks(range(classes), names, **AS_WRITTEN)
    if classes <= MAX_ANNOTATED_CLASSES:
        for (row, column), count in np.ndenumerate(matrix):
            color = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, count or "", ha="center", va="center", color=color, fontsize=9)
    figure.savefig(path, dpi=DPI)


def plot_calibration(bins: Sequence[CalibrationBin], ece: float, path: Path) -> None:
    """Reliability diagram: accuracy against confidence, and the images in each bin below it.

    Args:
        bins: The result of `metrics.calibration`.
        ece: Expected calibration error.
        path: PNG file to write.
    """
    figure = Figure(figsize=(6, 6.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    centers = [(row.low + row.high) / 2 for row in bins]
    width = bins[0].high - bins[0].low
    accuracy = [row.accuracy for row in bins]
    gap = [row.confidence - row.accuracy for row in bins]
    above.bar(centers, accuracy, width, edgecolor="white", label="accuracy")
    marked = {"color": "none", "edgecolor": "tab:red", "hatch": "//"}
    above.bar(centers, gap, width, accuracy, label="gap to confidence", **marked)
    above.plot([0, 1], [0, 1], "--", color="black", label="as confident as accurate")
    above.set_ylabel("share of right answers")
    above.set_title(f"Expected calibration error {ece:.3f}")
    above.set_xlim(0, 1)
    above.set_ylim(0, 1)
    above.legend(loc="upper left")
    below.bar(centers, [row.count for row in bins], width, color="gray", edgecolor="white")
    below.set_ylabel("images")
    below.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    below.set_xlabel("confidence: the highest probability")
    for axes in (above, below):
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    figure.savefig(path, dpi=DPI)


def plot_classes(rows: Sequence[ClassRow], path: Path) -> None:
    """Recall of each class as a bar and its precision as a dot, the lowest recall on top.

    Args:
        rows: The classes; if there are more than `MAX_NAMED_CLASSES`, those with the lowest recall are drawn.
        path: PNG file to write.
    """
    chosen = by_recall(rows)[:MAX_NAMED_CLASSES]
    places = range(len(chosen))
    figure = Figure(figsize=(8, 1.6 + 0.3 * len(chosen)), layout="constrained")
    axes = figure.subplots()
    axes.barh(places, [row.recall or 0 for row in chosen], label="recall", color="tab:blue", alpha=0.6)
    precision = [math.nan if row.precision is None else row.precision for row in chosen]
    axes.plot(precision, places, "o", color="tab:orange", label="precision")
    axes.set_yticks(places, [f"{shortened(row.name)} ({row.images})" for row in chosen], **AS_WRITTEN)
    axes.set_ylim(len(chosen) - 0.4, -0.6)
    axes.set_xlim(0, 1.02)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_axisbelow(True)
    axes.grid(alpha=0.3, axis="x")
    axes.set_title(
        f"The {len(chosen)} of {len(rows)} classes of the lowest recall"
        if len(chosen) < len(rows)
        else "Classes (images)"
    )
    figure.legend(loc="outside lower center", ncols=2)
    figure.savefig(path, dpi=DPI)


def by_recall(rows: Sequence[ClassRow]) -> list[ClassRow]:
    """Classes, the lowest recall first, those without images last."""
    return sorted(rows, key=lambda row: math.inf if row.recall is None else row.recall)


def plot_mistakes(mistakes: Sequence[Mistake], pictures: Sequence[np.ndarray], path: Path) -> None:
    """The most confident mistakes: each image above the wrong class, its probability, and the true class.

    Args:
        mistakes: The most confident first; `MOST_MISTAKES` are drawn.
        pictures: Their uint8 pixels, (height, width, 1 or 3).
        path: PNG file to write.
    """
    shown = mistakes[:MOST_MISTAKES]
    lines = max(1, math.ceil(len(shown) / MISTAKES_IN_ROW))
    figure = Figure(figsize=(2.5 * MISTAKES_IN_ROW, 3.1 * lines + 0.6))
    edge = 3.1 * lines + 0.6  # inches
    figure.subplots_adjust(left=0.02, right=0.98, top=1 - 0.7 / edge, bottom=0.6 / edge, hspace=0.3)
    grid = figure.subplots(lines, MISTAKES_IN_ROW, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    title = f"The most confident mistakes ({len(shown)}): the predicted class is red"
    figure.suptitle(title if shown else "No mistakes", fontsize=15)
    for axes, mistake, picture in zip(grid, shown, pictures, strict=False):
        axes.imshow(picture.squeeze(-1) if picture.shape[-1] == 1 else picture, cmap="gray", vmin=0, vmax=255)
        true, predicted = (shortened(name, MAX_CAPTION_LENGTH) for name in (mistake.true, mistake.predicted))
        place = {"ha": "center", "va": "top", "transform": axes.transAxes, "fontsize": 12}
        axes.text(
            0.5, -0.03, f"{predicted} {mistake.probability:.0%}", color="tab:red", **place, **AS_WRITTEN
        )
        axes.text(0.5, -0.14, f"true: {true}", **place, **AS_WRITTEN)
    figure.savefig(path, dpi=DPI)


def legend_as_written(legend: Legend) -> None:
    """Show a legend's names unchanged: they may hold dollar signs."""
    for text in legend.get_texts():
        text.set_parse_math(False)


def shortened(name: str, length: int = MAX_NAME_LENGTH) -> str:
    """A name that fits a picture: in one line, without its middle if it is too long."""
    name, half = " ".join(printable(name).split()), length // 2
    return name if len(name) <= length else f"{name[: half - 1]}…{name[-half:]}"
