"""Counts of right and wrong, as NumPy arrays."""

from __future__ import annotations

import numpy as np


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count of images, (classes, classes): rows are true classes, columns predicted ones."""
    counts = np.bincount(truth * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes)


def top_k_accuracy(labels: np.ndarray, probabilities: np.ndarray, k: int) -> float:
    """Share of images whose true class is among the `k` most probable.

    Args:
        labels: (images,).
        probabilities: (images, classes).
        k: How many; at most the number of classes.
    """
    best = np.argsort(probabilities, axis=1)[:, -k:]
    return float(np.mean((best == labels[:, np.newaxis]).any(axis=1)))
