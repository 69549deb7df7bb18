"""Batches from whichever runtime is here: tf.data, or NumPy where TensorFlow is absent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_googlenet.images.decoder import has_tensorflow


def evaluation_batches(*arguments: Any, **options: Any) -> Any:
    """`pipeline.batches`, or its twin in NumPy."""
    if has_tensorflow():
        from keras_googlenet.data import loading as pipeline

        return pipeline.batches(*arguments, **options)
    from keras_googlenet.data import numpy_batches as numpy_pipeline

    return numpy_pipeline.batches(*arguments, **options)


def training_batches(*arguments: Any, **options: Any) -> Any:
    """`training.training_batches`, or its twin in NumPy."""
    if has_tensorflow():
        from keras_googlenet.data import training_batches as training

        return training.training_batches(*arguments, **options)
    from keras_googlenet.data import numpy_batches as numpy_pipeline

    return numpy_pipeline.training_batches(*arguments, **options)


def check_augmentations(names: Sequence[str]) -> None:
    """Refuse those that `training_batches` could not do here.

    Raises:
        UserError: There are some.
    """
    if not has_tensorflow():
        from keras_googlenet.data import numpy_batches as numpy_pipeline

        numpy_pipeline.check_augmentations(names)
