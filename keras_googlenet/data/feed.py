"""Batches from tf.data, or from NumPy if TensorFlow is not installed."""

from __future__ import annotations

from collections.abc import Sequence

from keras_googlenet.data.augmentations import check_numpy
from keras_googlenet.images.decoder import has_tensorflow

if has_tensorflow():
    from keras_googlenet.data.loading import batches as evaluation_batches
    from keras_googlenet.data.training_batches import training_batches
else:
    from keras_googlenet.data.numpy_batches import batches as evaluation_batches
    from keras_googlenet.data.numpy_batches import training_batches

__all__ = ["check_augmentations", "evaluation_batches", "training_batches"]


def check_augmentations(names: Sequence[str]) -> None:
    """Refuse augmentations that are not available on this machine.

    Raises:
        UserError: There are some.
    """
    if not has_tensorflow():
        check_numpy(names)
