"""Averaged weights (Polyak) need new batch statistics: the model has those of the last weights."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_googlenet.data.feed import evaluation_batches
from keras_googlenet.data.parts import Part
from keras_googlenet.images.spec import Preprocessing

IMAGES = 4096  # to measure statistics on
BATCH = 128


class AverageStatistics(keras.callbacks.Callback):
    """Validates averaged weights with their own batch statistics. Place it after `SwapEMAWeights`.

    Args:
        part: Training images.
        preprocessing: The network's.
        seed: Random seed of the sample of images.
    """

    def __init__(self, part: Part, preprocessing: Preprocessing, seed: int) -> None:
        super().__init__()
        chosen = np.random.default_rng(seed).permutation(part.count)[:IMAGES]
        self.images = evaluation_batches(part.take(chosen), preprocessing, batch_size=min(BATCH, len(chosen)))
        self.kept: list[np.ndarray] = []

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.kept = [keras.ops.convert_to_numpy(value) for value in _statistics(self.model)]
        self.measure(self.model)

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        for variable, value in zip(_statistics(self.model), self.kept, strict=True):
            variable.assign(value)

    def measure(self, model: keras.Model) -> None:
        """Set `model`'s batch statistics to their mean over the batches, with its current weights."""
        layers = _normalizations(model)
        if not layers:
            return
        momenta = [layer.momentum for layer in layers]
        seen = 0
        try:
            for images, _ in self.images:
                for layer in layers:  # the mean so far and this batch, by their numbers of images
                    layer.momentum = seen / (seen + len(images))
                model(images, training=True)
                seen += len(images)
        finally:
            for layer, momentum in zip(layers, momenta, strict=True):
                layer.momentum = momentum


def _normalizations(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    return [layer for layer in layers if layer.trainable]


def _statistics(model: keras.Model) -> list[Any]:
    return [variable for layer in _normalizations(model) for variable in layer.non_trainable_variables]
