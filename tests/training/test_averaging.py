"""Batch statistics of averaged weights."""

import keras
import numpy as np
import pytest

from keras_googlenet.data.parts import Part
from keras_googlenet.images.spec import Preprocessing
from keras_googlenet.training import averaging
from keras_googlenet.training.averaging import AverageStatistics


@pytest.mark.parametrize("count", [1, 30, 100])
def test_statistics_are_of_the_measured_images_alone(count, random, monkeypatch):
    """However few the batches, nothing is left of the statistics of the last weights."""
    monkeypatch.setattr(averaging, "BATCH", 40)
    images = random.integers(0, 256, (count, 8, 8, 3), dtype="uint8")
    normalization = keras.layers.BatchNormalization(momentum=0.9)
    frozen = keras.layers.BatchNormalization(trainable=False)
    model = keras.Sequential([keras.Input((8, 8, 3)), normalization, frozen])
    for layer in (normalization, frozen):
        layer.moving_mean.assign(np.full(3, 100.0))
    statistics = AverageStatistics(Part(images, np.zeros(count, "int32")), Preprocessing(8, 8, 3), seed=0)
    statistics.set_model(model)
    pixels = images / np.float32(127.5) - 1

    statistics.on_test_begin()
    np.testing.assert_allclose(normalization.moving_mean, pixels.mean(axis=(0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(normalization.moving_variance, pixels.var(axis=(0, 1, 2)), rtol=0.02)
    np.testing.assert_array_equal(frozen.moving_mean, [100, 100, 100])
    assert normalization.momentum == 0.9
    statistics.on_test_end()
    np.testing.assert_array_equal(normalization.moving_mean, [100, 100, 100])
