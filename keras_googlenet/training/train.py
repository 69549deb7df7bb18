"""`train(config)`: from images to a run folder."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_googlenet import __version__
from keras_googlenet.data.feed import check_augmentations, evaluation_batches
from keras_googlenet.data.order import Cursor, Order
from keras_googlenet.data.parts import ImageData
from keras_googlenet.errors import UserError, checked_names
from keras_googlenet.evaluation.metrics import confusion_matrix, interval
from keras_googlenet.evaluation.plots import plot_confusion, plot_curves
from keras_googlenet.files import held, remove_unfinished, replacing, write_json
from keras_googlenet.images.decoder import has_tensorflow
from keras_googlenet.images.spec import Preprocessing
from keras_googlenet.network.surgery import strip_aux, with_dtype_policy
from keras_googlenet.run import checkpoint, division
from keras_googlenet.run import folder as run_folder
from keras_googlenet.run.checkpoint import Progress
from keras_googlenet.run.config import CLASSICS, RunConfig, check_new
from keras_googlenet.run.folder import read_metrics
from keras_googlenet.run.inputs import open_data, run_preprocessing
from keras_googlenet.storage.place import Place, address
from keras_googlenet.text import say, shown
from keras_googlenet.training import distribution, machine, memory
from keras_googlenet.training.averaging import AverageStatistics
from keras_googlenet.training.batch_size import with_largest_batch
from keras_googlenet.training.callbacks import (
    KeepProgress,
    StopSignals,
    best_epoch,
    is_exhausted,
    write_metrics,
)
from keras_googlenet.training.inputs import EVALUATION_BATCH, epoch_order, fit_data
from keras_googlenet.training.kernels import with_keras_layers
from keras_googlenet.training.network import (
    architecture,
    build_for_training,
    start_weights,
)
from keras_googlenet.training.optimizer import rate_schedule
from keras_googlenet.training.precision import dtype_policy
from keras_googlenet.training.remote import working_copy
from keras_googlenet.training.result import TrainingResult
from keras_googlenet.training.start import start
from keras_googlenet.training.table import EpochTable

FEW = 500  # validation images: the confidence interval is several points wide


@checked_names
def train(
    config: RunConfig,
    *,
    data: ImageData | None = None,
    resume: bool = False,
    recorded_split: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> TrainingResult:
    """Train a GoogLeNet and leave a run folder.

    The folder, `config.run`, holds `config.json`, `labels.txt`, `metrics.csv` (a row an epoch),
    `model.keras` (float32, with its auxiliary heads), `summary.json`, `plots/`, `tensorboard/` and
    `checkpoints/`. Losses, momentum and decay follow the paper's sections 5 and 6. The test images are used
    once, at the end. A run at an address such as `s3://bucket/run` has its folder in the cache, and is
    uploaded after each checkpoint and at the end.

    Args:
        config: The run's options.
        data: The images, in place of `config.data`; see `ImageData.from_arrays`.
        resume: Resume the run in `config.run` from its last checkpoint, to the same figures as if
            it had not stopped; start it if there is none; do nothing if it is finished.
        recorded_split: If the data has changed, resume with the recorded files that still exist, in their
            recorded parts.
        callbacks: Further Keras callbacks, called in the first process only.

    Returns:
        The run. As a dictionary it is `summary.json`: `test_accuracy`, `test_images`, `train_seconds` and
        more. It has the trained network as `model` and the epochs as `history`, and a notebook shows its
        pictures.

    Raises:
        UserError: The run's folder exists, the data cannot be used or has changed since the run began, the
            input is too small for the network, or the loss became NaN or infinite.
        Interrupted: SIGTERM or SIGINT came; the run can be resumed.
    """
    if (there := address(config.run)) is not None:
        with working_copy(Place(there), resume=resume) as (folder, upload):
            return train(
                replace(config, run=folder),
                data=data,
                resume=resume,
                recorded_split=recorded_split,
                callbacks=[*callbacks, upload],
            )
    with ExitStack() as stack:
        stack.enter_context(memory.guarded())
        if resume and (config.run / run_folder.CONFIG).is_file():
            if distribution.is_first():
                stack.enter_context(held(config.run, run_folder.WORK))
            config = _check_same(config)
            finished = _finished(config.run)
            if finished is not None:
                say(f"{config.run}: finished already")
                return TrainingResult(config.run, finished)
        else:
            check_new(config.run)
        return TrainingResult(config.run, _train(config, data, stack, recorded_split, callbacks))


def _train(
    config: RunConfig,
    data: ImageData | None,
    stack: ExitStack,
    recorded_split: bool,
    others: Sequence[keras.callbacks.Callback],
) -> dict[str, Any]:
    """Train from the last checkpoint or from the start, test and save; `stack` holds the run's folder."""
    check_augmentations(config.augment)
    keras.utils.set_random_seed(config.seed)
    if data is None:
        data = open_data(config)
    if (config.run / run_folder.CONFIG).is_file():
        data = _as_it_was(config, data, recorded_split)
        preprocessing = run_folder.load_preprocessing(config.run)
    else:
        if config.freeze is not None and config.weights is None:
            raise UserError("expected `weights` with `freeze`, which keeps them: random weights would stay")
        preprocessing = run_preprocessing(config, data)
    if not data.test.count:
        raise UserError("expected test images, and there is none of these classes: divide the data otherwise")
    if config.early_stopping is not None and not data.validation.count:
        raise UserError("expected no `early_stopping` without validation images, which it goes by")
    facts: dict[str, Any] = {}
    if config.batch_size == "auto":
        config, facts["bytes_per_image"] = with_largest_batch(config, preprocessing, data)
    policy = dtype_policy(config.precision)
    order = epoch_order(config, data)
    with distribution.scope():
        model = build_for_training(config, preprocessing, len(data.class_names), policy, order.steps)
        fresh: list[str] = []
        if not checkpoint.files(config.run):  # which has all weights; those of the start may be gone by now
            fresh = start_weights(model, config)
            start(model, config, data.train, preprocessing)
        model.optimizer.build(model.trainable_variables)
    if distribution.is_first():
        if not (config.run / run_folder.CONFIG).is_file():
            stack.enter_context(_created(config, data, preprocessing, facts | {"dtype_policy": policy}))
        remove_unfinished(config.run)  # of a process that was killed as it wrote
        (config.run / "plots").mkdir(exist_ok=True)
        size = preprocessing.height
        say(
            f"{config.run}: {config.variant}, {data.train.count} training images of {size} x {size} in "
            f"{len(data.class_names)} classes, computing in {policy.removeprefix('mixed_')} "
            f"({keras.backend.backend()}{distribution.description()})"
        )
        _warn_of_few(config.run, data.validation.count)
        if fresh:
            say(f"{config.run}: from {config.weights}, except new weights in {', '.join(fresh)}")

    progress = _fit(model, config, preprocessing, data, order, others)
    distribution.end()
    if not distribution.is_first():
        return {}
    # A process killed after its last checkpoint may not have written the last row.
    write_metrics(config.run / run_folder.METRICS, progress.rows)
    model = with_dtype_policy(with_keras_layers(model), "float32")
    summary = {
        "variant": config.variant,
        "precision": policy.removeprefix("mixed_"),
        "backend": keras.backend.backend(),
        "devices": distribution.devices(),
        "machine": machine.description(),
        "versions": {"keras_googlenet": __version__, "keras": keras.__version__},
        "train_images": data.train.count,
        "train_seconds": round(progress.seconds, 1),
        "batch_size": order.size,
        "peak_resident_bytes": memory.resident_peak(),
        "peak_device_bytes": memory.device_peak(),
        "bytes_per_image": run_folder.recorded(config.run).get("bytes_per_image"),
        "epochs": len(progress.rows),
        "saved_epoch": _saved_epoch(config, progress) + 1,
        "test_images": data.test.count,
    } | _test(model, preprocessing, data, config.run)
    with replacing(config.run / run_folder.MODEL) as unfinished:
        model.save(unfinished)
    with replacing(config.run / "plots/curves.png") as unfinished:
        plot_curves(read_metrics(config.run), unfinished)
    write_json(config.run / run_folder.SUMMARY, summary)
    say(
        f"{config.run}: test accuracy {summary['test_accuracy']:.4f} on {data.test.count} images, "
        f"trained in {progress.seconds:.0f} s"
    )
    say(f"{config.run}: see plots/curves.png and plots/confusion.png; next: {next_command(config.run)}")
    return summary


def _warn_of_few(run: Path, images: int) -> None:
    """Print the confidence interval of the validation accuracy of few images."""
    if 0 < images < FEW:
        low, high = interval(0.9, images)
        say(
            f"{run}: only {images} validation images: an accuracy of 0.90 has a 95% confidence interval of "
            f"{low:.2f} to {high:.2f}"
        )


def _check_same(config: RunConfig) -> RunConfig:
    """The options as recorded, with the number instead of "auto"."""
    recorded = run_folder.load_config(config.run)
    if config.batch_size == "auto":
        config = replace(config, batch_size=recorded.batch_size)
    different = config.differences(recorded)
    if different:
        names = ", ".join(f"`{name}`" for name in different)
        raise UserError(
            f"{config.run} was started with a different {names}: resume it with the options in "
            f"{config.run / run_folder.CONFIG}"
        )
    return config


def _finished(run: Path) -> dict[str, Any] | None:
    """The summary of a finished run; a damaged summary is rebuilt from the last checkpoint."""
    try:
        found = run_folder.summary(run)
    except UserError as error:
        say(f"{error}: rebuilding it", file=sys.stderr)
        return None
    return found if (run / run_folder.MODEL).is_file() else None


def _created(
    config: RunConfig, data: ImageData, preprocessing: Preprocessing, facts: dict[str, Any]
) -> AbstractContextManager[None]:
    options = config.to_dict() | {
        "run": shown(str(config.run)),
        "preprocessing": preprocessing.to_dict(),
        "backend": keras.backend.backend(),
        "skipped_files": [shown(name) for name in data.skipped],
    }
    network = None if config.variant in CLASSICS else architecture(config)
    record = division.encoded(data, config.data)
    return run_folder.created(config.run, options | facts, data.class_names, network, record)


def _as_it_was(config: RunConfig, data: ImageData, recorded_split: bool) -> ImageData:
    """The data of a resumed run, compared with the run's record."""
    if recorded_split:
        return division.as_recorded(config.run, data, config.data)
    if not division.check(config.run, data, config.data) and distribution.is_first():
        say(f"{config.run}: no record of the images (earlier version), so changes to them cannot be detected")
    return data


def _fit(
    model: keras.Model,
    config: RunConfig,
    preprocessing: Preprocessing,
    data: ImageData,
    order: Order,
    others: Sequence[keras.callbacks.Callback],
) -> Progress:
    """Train from the last checkpoint, or from the beginning; leaves the weights to save in `model`."""
    progress = Progress(images=order.count)
    running_means: dict[str, np.ndarray] = {}
    found = checkpoint.restore_last(
        config.run, model, epochs=config.epochs, steps=order.steps, images=order.count
    )
    if found is not None:
        progress, running_means = found
        say(f"{config.run}: resumed after {progress.cursor.epoch} epochs, {progress.cursor.step} steps")
    entered = Cursor(progress.cursor.epoch, progress.cursor.step)
    schedule = rate_schedule(config, order.steps)
    stop = StopSignals()
    averaged = (
        AverageStatistics(data.train, preprocessing, config.seed) if config.average is not None else None
    )
    if entered.epoch < config.epochs and not is_exhausted(progress.rows, config.early_stopping):
        callbacks: list[keras.callbacks.Callback] = []
        if averaged is not None:
            callbacks += [keras.callbacks.SwapEMAWeights(), averaged]  # validation is the average's
        callbacks.append(
            KeepProgress(
                config.run,
                progress,
                running_means,
                steps=order.steps,
                minutes=config.checkpoint_minutes,
                patience=config.early_stopping,
                stop=stop,
                last_rate=lambda epoch: float(schedule((epoch + 1) * order.steps - 1)),
                writes=distribution.is_first(),
            )
        )
        if distribution.is_first():
            callbacks += [EpochTable(config.epochs, order.steps, progress), *others]
        if has_tensorflow() and distribution.is_first():
            callbacks.append(keras.callbacks.TensorBoard(config.run / "tensorboard"))
        with stop.watched():
            model.fit(
                **fit_data(config, preprocessing, data, order, progress.cursor, len(model.outputs)),
                initial_epoch=entered.epoch,
                epochs=config.epochs,
                verbose=0,
                callbacks=callbacks,
            )
    best = config.run / checkpoint.FOLDER / checkpoint.BEST
    if config.early_stopping is not None and best.is_file():
        checkpoint.restore(best, model)
    if averaged is not None:
        model.optimizer.finalize_variable_values(model.trainable_variables)
        averaged.measure(model)
    return progress


def next_command(run: Path) -> str:
    """What to run after a training."""
    name = shlex.quote(run.name)
    return f"keras-googlenet export {shlex.quote(str(run))} --to models/{name} --cam"


def _saved_epoch(config: RunConfig, progress: Progress) -> int:
    return len(progress.rows) - 1 if config.early_stopping is None else best_epoch(progress.rows)


def _test(model: keras.Model, preprocessing: Preprocessing, data: ImageData, run: Path) -> dict[str, float]:
    """Accuracy on the test images, of the saved main head; draws the confusion matrix."""
    main = strip_aux(model)
    images = evaluation_batches(data.test, preprocessing, batch_size=EVALUATION_BATCH)
    predicted = main.predict(images, verbose=0).argmax(axis=1)
    matrix = confusion_matrix(data.test.labels, predicted, len(data.class_names))
    with replacing(run / "plots/confusion.png") as unfinished:
        plot_confusion(matrix, data.class_names, unfinished)
    return {"test_accuracy": float(np.mean(data.test.labels == predicted))}
