"""What a training batch holds, whichever runtime makes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class BatchSpec:
    """How the images of a batch are changed, and what comes with them."""

    classes: int
    outputs: int = 1
    """Of the network: labels (and weights) are repeated for each."""
    augment: Sequence[str] = ()
    """Names of `augmentations.AUGMENTATIONS`."""
    min_area: float = 0.08
    """The least share of an image that a crop of `paper` keeps."""
    label_smoothing: float = 0.0
    """Share of each label spread evenly over the classes."""
    class_weights: np.ndarray | None = None
    """float32 (classes,): weight of each image's loss, by its class."""
