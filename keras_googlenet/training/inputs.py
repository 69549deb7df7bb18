"""What `keras.Model.fit` takes of a run's images, and in what order."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_googlenet.data.batch_spec import BatchSpec
from keras_googlenet.data.feed import evaluation_batches, training_batches
from keras_googlenet.data.order import Cursor, Order
from keras_googlenet.data.parts import ImageData, Part
from keras_googlenet.errors import UserError
from keras_googlenet.images.spec import Preprocessing
from keras_googlenet.run.config import RunConfig
from keras_googlenet.training import distribution

EVALUATION_BATCH = 64


def class_weights(part: Part, classes: int) -> np.ndarray:
    """float32 (classes,): weights that give each class the same total weight, 1 on average over images."""
    counts = np.bincount(part.labels, minlength=classes)
    return (part.count / (classes * np.maximum(counts, 1))).astype("float32")


def fit_data(
    config: RunConfig,
    preprocessing: Preprocessing,
    data: ImageData,
    order: Order,
    cursor: Cursor,
    outputs: int,
) -> dict[str, Any]:
    """What `keras.Model.fit` takes to train on a run's images from `cursor` on, and to validate."""
    classes = len(data.class_names)
    spec = BatchSpec(
        classes=classes,
        outputs=outputs,
        augment=config.augment,
        min_area=config.min_area,
        label_smoothing=config.label_smoothing,
        class_weights=class_weights(data.train, classes) if config.class_weights else None,
    )
    validation = None
    if data.validation.count:
        validation = evaluation_batches(
            distribution.share(data.validation),
            preprocessing,
            batch_size=distribution.divisible(EVALUATION_BATCH),
            outputs=outputs,
            classes=classes,
            keep=True,
        )
    return {
        "x": training_batches(data.train, preprocessing, order, cursor, spec),
        "validation_data": validation,
        "steps_per_epoch": order.steps,
        "shuffle": False,  # the batches are shuffled already
    }


def epoch_order(config: RunConfig, data: ImageData) -> Order:
    """In what order a run takes its training images."""
    process, processes = distribution.this_process()
    if config.batch_size == "auto":
        raise UserError("expected `batch_size` to be a number here: auto is for `train`")
    if min(config.batch_size, data.train.count) < distribution.devices():
        raise UserError(
            f"expected a batch of at least {distribution.devices()} images, one for each device; got "
            f"`batch_size` {config.batch_size} and {data.train.count} images"
        )
    if 0 < data.validation.count < distribution.devices():
        raise UserError(
            f"expected at least {distribution.devices()} validation images, one for each device, or none; "
            f"got {data.validation.count}: choose another `validation_fraction`"
        )
    return Order(
        data.train.count,
        config.batch_size,
        config.seed,
        config.epochs,
        process,
        processes,
        devices=distribution.devices(),
        labels=data.train.labels if config.balance else None,
    )
