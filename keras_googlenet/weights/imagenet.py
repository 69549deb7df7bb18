"""For users of published weights: scales pixels as their network expects, and names classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_googlenet.errors import UserError
from keras_googlenet.images.spec import Preprocessing
from keras_googlenet.weights.published import WEIGHTS


def preprocess_input(images: Any, weights: str | None = None) -> Any:
    """Scale pixels to the range that a network expects.

    Args:
        images: Array or tensor of RGB pixels in 0..255, channels last, of any shape. NumPy integers
            become float32. Never changed in place.
        weights: `None` for -1..1, which training and export use; or the name of published weights
            (`keras_googlenet.weights.published.WEIGHTS`), for what their network was trained with:
            `"bvlc"` and `"bvlc_caffe"` take BGR less a mean, the others -1..1.

    Returns:
        The scaled images, of the same shape.

    Raises:
        UserError: No such weights.
    """
    if weights is not None and weights not in WEIGHTS:
        raise UserError(f"expected `weights` to be None or one of {sorted(WEIGHTS)}, received {weights!r}")
    if isinstance(images, np.ndarray) and not np.issubdtype(images.dtype, np.floating):
        images = images.astype("float32")
    preprocessing = Preprocessing(1, 1) if weights is None else WEIGHTS[weights].preprocessing
    return preprocessing.normalize(images)


def class_names() -> tuple[str, ...]:
    """ImageNet's 1000 names in label order; some classes share one. Keras downloads them once."""
    return tuple(name for ((_, name, _),) in decode_predictions(np.eye(1000, dtype="float32"), top=1))


def decode_predictions(predictions: Any, top: int = 5) -> list[list[tuple[str, str, float]]]:
    """Name the best ImageNet classes of a batch.

    Args:
        predictions: Probabilities (batch, 1000), or (batch, 1001) with TF-Slim's background first.
        top: How many classes to name for each image.

    Returns:
        For each image, (WordNet id, name, probability), best first. Keras downloads the names once.
    """
    import keras

    scores = np.asarray(predictions)
    if scores.ndim == 2 and scores.shape[1] == 1001:
        scores = scores[:, 1:]
    return keras.applications.imagenet_utils.decode_predictions(scores, top=top)
