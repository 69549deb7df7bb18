"""Figures of a classifier's predictions, from labels and probabilities, in NumPy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CALIBRATION_BINS = 15  # Guo et al. 2017
EPSILON = 1e-7  # keras.config.epsilon(): what Keras's cross-entropy takes for a probability of 0


@dataclass(frozen=True)
class CalibrationBin:
    """The images, at least one, whose highest probability is above `low` and at most `high`."""

    low: float
    high: float
    count: int
    confidence: float  # mean of the highest probability
    accuracy: float


def interval(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95% interval of an accuracy on `count` images."""
    z = 1.96
    center = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    return center - half, center + half


def confusion_matrix(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count of images, (classes, classes): rows are true classes, columns predicted ones."""
    counts = np.bincount(truth * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes)


def top_k_accuracy(labels: np.ndarray, probabilities: np.ndarray, k: int) -> float:
    """Share of images whose true class is among the `k` most probable.

    Args:
        labels: (images,).
        probabilities: (images, classes).
        k: Number of classes to consider; at most all.
    """
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]  # the first of equals, as argmax
    return float(np.mean((best == labels[:, np.newaxis]).any(axis=1)))


def cross_entropy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean of -ln of the true class's probability, as `keras.losses.SparseCategoricalCrossentropy`.

    Args:
        labels: (images,).
        probabilities: (images, classes).
    """
    of_truth = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.clip(of_truth, EPSILON, 1), dtype="float64").mean())


def precision_and_recall(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall of each class.

    Args:
        matrix: The result of `confusion_matrix`.

    Returns:
        Two arrays (classes,); NaN for a class never predicted, or without images.
    """
    right = np.diag(matrix).astype("float64")
    with np.errstate(invalid="ignore"):
        return right / matrix.sum(axis=0), right / matrix.sum(axis=1)


def calibration(
    labels: np.ndarray, probabilities: np.ndarray, bins: int = CALIBRATION_BINS
) -> list[CalibrationBin]:
    """The points of a reliability diagram: accuracy against confidence, in equal bins of confidence.

    Args:
        labels: (images,).
        probabilities: (images, classes).
        bins: Number of bins that divide 0..1; empty bins are omitted.
    """
    confidence = probabilities.max(axis=1).astype("float64")
    right = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    of_image = np.clip(np.digitize(confidence, edges, right=True) - 1, 0, bins - 1)
    return [
        CalibrationBin(
            low=float(edges[index]),
            high=float(edges[index + 1]),
            count=int((of_image == index).sum()),
            confidence=float(confidence[of_image == index].mean()),
            accuracy=float(right[of_image == index].mean()),
        )
        for index in np.unique(of_image)
    ]


def expected_calibration_error(rows: list[CalibrationBin]) -> float:
    """Mean distance of accuracy from confidence, each bin weighted by its images (Guo et al. 2017)."""
    images = sum(row.count for row in rows)
    return sum(row.count * abs(row.accuracy - row.confidence) for row in rows) / images
