"""`train(config)`: from images to a run folder."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_googlenet import GoogLeNet
from keras_googlenet.data.order import Cursor, Order
from keras_googlenet.data.parts import ImageData
from keras_googlenet.data.pipeline import batches
from keras_googlenet.data.sources import load_data
from keras_googlenet.data.training import training_batches
from keras_googlenet.errors import UserError
from keras_googlenet.evaluation.metrics import confusion_matrix
from keras_googlenet.evaluation.plots import plot_confusion, plot_curves
from keras_googlenet.preprocessing import Preprocessing
from keras_googlenet.surgery import freeze, strip_aux, with_dtype_policy
from keras_googlenet.training import run_folder
from keras_googlenet.training.config import RunConfig
from keras_googlenet.training.precision import dtype_policy, using_dtype_policy
from keras_googlenet.weights.specs import imagenet_spec
from keras_googlenet.weights.store import load_imagenet, load_weights

EVALUATION_BATCH = 64


def train(config: RunConfig) -> dict[str, Any]:
    """Train a GoogLeNet and leave a run folder.

    The folder, `config.run`, holds `config.json`, `labels.txt`, `metrics.csv` (a row an epoch),
    `model.keras` (float32, with its auxiliary heads), `summary.json`, `plots/` and `tensorboard/`.
    Losses, momentum and decay follow the paper's sections 5 and 6. The test images are used once,
    at the end.

    Returns:
        What `summary.json` holds: `test_accuracy`, `test_images`, `train_seconds` and more.

    Raises:
        UserError: The run's folder exists, the data cannot be used, the input is too small for the
            network, or the loss is no number any more.
    """
    if config.run.exists():
        raise UserError(f"{config.run} exists: choose another run folder, or delete it")
    keras.utils.set_random_seed(config.seed)
    data = load_data(config.data, validation_fraction=config.validation_fraction, seed=config.seed)
    preprocessing = _preprocessing(config, data)
    size = preprocessing.height
    policy = dtype_policy(config.precision)
    model = build(config, preprocessing, len(data.class_names), policy)

    fresh = _start_weights(model, config)
    frozen = [name for name in fresh if not model.get_layer(name).trainable]
    if frozen:
        raise UserError(
            f"{', '.join(frozen)} does not fit {config.weights} and would be frozen untrained: train on "
            "images of as many channels, or without --freeze"
        )

    run_folder.create(
        config.run,
        config.to_dict()
        | {
            "preprocessing": preprocessing.to_dict(),
            "dtype_policy": policy,
            "backend": keras.backend.backend(),
        },
        data.class_names,
    )
    print(
        f"{config.run}: {config.variant}, {data.train.count} training images of {size} x {size} in "
        f"{len(data.class_names)} classes, computing in {policy.removeprefix('mixed_')} "
        f"({keras.backend.backend()})"
    )
    if fresh:
        print(f"{config.run}: from {config.weights}, but for new weights in {', '.join(fresh)}")
    started = time.perf_counter()
    history = _fit(model, config, preprocessing, data)
    train_seconds = time.perf_counter() - started

    model = with_dtype_policy(model, "float32")
    model.save(config.run / run_folder.MODEL)
    summary = {
        "variant": config.variant,
        "precision": policy.removeprefix("mixed_"),
        "train_images": data.train.count,
        "train_seconds": round(train_seconds, 1),
        "test_images": data.test.count,
    } | _test(model, config, preprocessing, data)
    plot_curves(history, config.run / "plots/curves.png")
    run_folder.write_json(config.run / run_folder.SUMMARY, summary)
    print(
        f"{config.run}: test accuracy {summary['test_accuracy']:.4f} on {data.test.count} images, "
        f"trained in {train_seconds:.0f} s"
    )
    return summary


def build(config: RunConfig, preprocessing: Preprocessing, classes: int, policy: str) -> keras.Model:
    """The compiled network of a run: three cross-entropies, SGD with momentum."""
    with using_dtype_policy(policy):
        try:
            model = GoogLeNet(
                input_shape=_input_shape(preprocessing),
                classes=classes,
                variant=config.variant,
                aux_heads=config.aux_heads,
            )
        except ValueError as error:
            raise UserError(f"{error}: choose another --image-size") from None
    if config.freeze is not None:
        freeze(model, config.freeze)
    heads = len(model.outputs)
    model.compile(
        optimizer=keras.optimizers.SGD(config.learning_rate, momentum=config.momentum),
        loss=[keras.losses.CategoricalCrossentropy() for _ in range(heads)],
        loss_weights=[1.0] + [config.aux_weight] * (heads - 1),
        metrics=[["accuracy"] for _ in range(heads)],
    )
    return model


def _preprocessing(config: RunConfig, data: ImageData) -> Preprocessing:
    """That of the weights to start from, at the run's size and channels."""
    size = config.image_size or data.image_size
    channels = config.channels or data.channels
    base = Preprocessing(size, size, channels)
    if config.weights == "imagenet":
        base = imagenet_spec(config.variant, aux_heads=config.aux_heads).preprocessing
    elif config.weights is not None and Path(config.weights).is_dir():
        base = run_folder.load_preprocessing(Path(config.weights))
    return replace(base, height=size, width=size, channels=channels)


def _start_weights(model: keras.Model, config: RunConfig) -> list[str]:
    """Load the weights to start from; returns the names of the layers left at their initial ones."""
    if config.weights is None:
        return []
    if config.weights == "imagenet":
        return load_imagenet(model, imagenet_spec(config.variant, aux_heads=config.aux_heads))
    return load_weights(model, Path(config.weights))


def step_decay(epoch: int, initial: float, factor: float, every: int) -> float:
    """The rate of `epoch` (from 0): `initial`, times `factor` after every `every` epochs."""
    return initial * factor ** (epoch // every)


class StopOnNaN(keras.callbacks.Callback):
    """End the run as soon as the loss is no number, with a message that says what to change."""

    def __init__(self, learning_rate: float) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            raise UserError(
                f"the loss is not finite any more in epoch {self.epoch + 1}, step {batch + 1}: lower "
                f"the learning rate (it was {self.learning_rate:g})"
            )


def _input_shape(preprocessing: Preprocessing) -> tuple[int, ...]:
    shape = (preprocessing.height, preprocessing.width, preprocessing.channels)
    if keras.config.image_data_format() != "channels_last":
        raise UserError('training needs the image data format "channels_last"')
    return shape


def _fit(
    model: keras.Model, config: RunConfig, preprocessing: Preprocessing, data: ImageData
) -> dict[str, list[float]]:
    outputs = len(model.outputs)

    def rate(epoch: int, _: float) -> float:
        return step_decay(epoch, config.learning_rate, config.decay_rate, config.decay_epochs)

    order = Order(data.train.count, config.batch_size, config.seed, config.epochs)
    return model.fit(
        training_batches(
            data.train, preprocessing, order, Cursor(), classes=len(data.class_names), outputs=outputs
        ),
        steps_per_epoch=order.steps,
        validation_data=batches(
            data.validation,
            preprocessing,
            batch_size=EVALUATION_BATCH,
            outputs=outputs,
            classes=len(data.class_names),
        ),
        epochs=config.epochs,
        shuffle=False,  # the batches are shuffled already
        verbose=1 if sys.stdout.isatty() else 2,
        callbacks=[
            StopOnNaN(config.learning_rate),
            keras.callbacks.LearningRateScheduler(rate),
            keras.callbacks.CSVLogger(config.run / run_folder.METRICS),
            keras.callbacks.TensorBoard(config.run / "tensorboard"),
        ],
    ).history


def _test(
    model: keras.Model, config: RunConfig, preprocessing: Preprocessing, data: ImageData
) -> dict[str, float]:
    """Accuracy on the test images, of the main head as it is saved; draws the confusion matrix."""
    main = strip_aux(model)
    images = batches(data.test, preprocessing, batch_size=EVALUATION_BATCH)
    labels = data.test.labels
    predicted = main.predict(images, verbose=0).argmax(axis=1)
    matrix = confusion_matrix(labels, predicted, len(data.class_names))
    plot_confusion(matrix, data.class_names, config.run / "plots/confusion.png")
    return {"test_accuracy": float(np.mean(labels == predicted))}
