"""Calibrated probabilities: one temperature, fitted on held-out images.

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks" (arXiv 1706.04599), section 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_googlenet.errors import UserError
from keras_googlenet.evaluation.metrics import calibration, cross_entropy, expected_calibration_error

# Images that are all classified correctly, or at random, would have an infinite optimum.
LOWEST, HIGHEST = 0.1, 10.0
HALVINGS = 50


@dataclass(frozen=True)
class Calibration:
    """A temperature and its effect, on the images that it was fitted on.

    Attributes:
        temperature: Divisor of the logits.
        images: Number of images.
        nll: Mean of -ln of the true class's probability, before and after.
        ece: Expected calibration error, before and after.
    """

    temperature: float
    images: int
    nll: tuple[float, float]
    ece: tuple[float, float]

    def __str__(self) -> str:
        return (
            f"temperature {self.temperature:.3f} on {self.images} images: negative log-likelihood "
            f"{self.nll[0]:.4f} -> {self.nll[1]:.4f}, expected calibration error "
            f"{self.ece[0]:.4f} -> {self.ece[1]:.4f}"
        )


def calibrate(logits: np.ndarray, labels: np.ndarray) -> Calibration:
    """Fit a temperature.

    Args:
        logits: (images, classes).
        labels: (images,).

    Raises:
        UserError: A logit is NaN or infinite.
    """
    if not np.isfinite(logits).all():
        raise UserError("expected finite logits: the network gives NaN or infinity for some images")
    temperature = fit_temperature(logits, labels)
    before, after = softmax(logits), softmax(logits / temperature)

    def ece(probabilities: np.ndarray) -> float:
        return expected_calibration_error(calibration(labels, probabilities))

    return Calibration(
        temperature,
        len(labels),
        (cross_entropy(labels, before), cross_entropy(labels, after)),
        (ece(before), ece(after)),
    )


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature with the lowest negative log-likelihood, between 0.1 and 10.

    Args:
        logits: (images, classes).
        labels: (images,).
    """
    logits = logits.astype("float64")
    of_truth = logits[np.arange(len(labels)), labels]

    def slope(inverse: float) -> float:
        """Of the mean negative log-likelihood by 1 / temperature, in which it is convex."""
        return float(np.mean((softmax(logits * inverse) * logits).sum(axis=1) - of_truth))

    low, high = 1 / HIGHEST, 1 / LOWEST
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return 2 / (low + high)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities (images, classes), float64."""
    powers = np.exp(logits.astype("float64") - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
