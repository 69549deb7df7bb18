"""How long a network takes, by a quick measurement."""

from __future__ import annotations

import statistics
import time

import keras
import numpy as np

WARM_UPS = 3
MEASUREMENTS = 15


def latency_ms(model: keras.Model) -> float:
    """Median milliseconds of a prediction for one image, on this machine under its current load.

    Args:
        model: Built for images of a known size.
    """
    image = np.zeros((1, *model.input_shape[1:]), "float32")
    times = []
    for _ in range(WARM_UPS + MEASUREMENTS):
        began = time.perf_counter()
        model.predict_on_batch(image)
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times[WARM_UPS:])
