"""Pictures of a run. They use matplotlib's objects, so no window and no global state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

CELL_INCHES = 0.55
MAX_ANNOTATED_CLASSES = 25  # beyond, the counts would not be legible
MAX_NAMED_CLASSES = 60


def plot_curves(history: dict[str, list[float]], path: Path) -> None:
    """Loss and main accuracy by epoch, training and validation.

    Args:
        history: Of `keras.Model.fit`, one output or three.
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
        axes.plot(epochs, history[f"val_{metric}"], "s-", label="validation")
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)


def plot_confusion(matrix: np.ndarray, class_names: Sequence[str], path: Path) -> None:
    """Confusion matrix: rows are true classes, coloured by the share of the row.

    Args:
        matrix: Counts, (classes, classes).
        class_names: In label order.
        path: PNG file to write.
    """
    classes = len(class_names)
    side = max(4.0, min(classes, MAX_NAMED_CLASSES) * CELL_INCHES) + 2
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(side + 0.5, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"{np.trace(matrix) / max(matrix.sum(), 1):.1%} of {matrix.sum()} images right")
    if classes <= MAX_NAMED_CLASSES:
        axes.set_xticks(range(classes), class_names, rotation=45, ha="right")
        axes.set_yticks(range(classes), class_names)
    if classes <= MAX_ANNOTATED_CLASSES:
        for (row, column), count in np.ndenumerate(matrix):
            colour = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, count or "", ha="center", va="center", color=colour, fontsize=9)
    figure.savefig(path, dpi=120)
