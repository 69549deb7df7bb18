"""A training run's whole state in one file, so that it can go on as if it had never stopped."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_googlenet.data.order import Cursor
from keras_googlenet.errors import UserError

FOLDER = "checkpoints"
LAST = "last.npz"
BEST = "best.npz"
PROGRESS = "progress"
UNFINISHED = ".unfinished"  # suffix of files that are being written


@dataclass
class Progress:
    """What is known of a run beside its variables."""

    cursor: Cursor = field(default_factory=Cursor)
    rows: list[dict[str, float]] = field(default_factory=list)  # of metrics.csv, an epoch each
    seconds: float = 0.0  # of training so far

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Progress:
        """The inverse of `dataclasses.asdict`."""
        return cls(Cursor(**fields["cursor"]), fields["rows"], fields["seconds"])


def variables(model: keras.Model) -> dict[str, Any]:
    """All variables of a training model by a name of their own.

    Weights, batch statistics and seeds of dropout; momentum, averages, accumulated gradients and the
    step; and the running means of the epoch's losses and metrics.
    """
    groups = {
        "model": model.variables,
        "optimizer": model.optimizer.variables,
        "metrics": model.metrics_variables,
    }
    return {
        f"{group}/{number:04}": variable  # their own names depend on what else the process has built
        for group, members in groups.items()
        for number, variable in enumerate(members)
    }


def save(path: Path, model: keras.Model, progress: Progress) -> None:
    """Write the state to a file, which is replaced at once or not at all."""
    arrays = {name: keras.ops.convert_to_numpy(value) for name, value in variables(model).items()}
    arrays[PROGRESS] = np.array(json.dumps(asdict(progress)))
    unfinished = path.with_name(f".{path.name}{UNFINISHED}")
    path.parent.mkdir(exist_ok=True)
    try:
        with unfinished.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def restore(path: Path, model: keras.Model) -> tuple[Progress, dict[str, np.ndarray]]:
    """Put the state of a file into a model of the same network and optimizer.

    Returns:
        The progress, and the metrics' variables, which `Model.fit` resets when it begins.

    Raises:
        UserError: The file is corrupt, or of another network.
    """
    try:
        with np.load(path) as stored:
            arrays = {name: stored[name] for name in stored.files}
        progress = Progress.from_dict(json.loads(str(arrays.pop(PROGRESS))))
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(f"cannot read the checkpoint {path}: {error!r}") from None
    running_means = {name: arrays.pop(name) for name in list(arrays) if name.startswith("metrics/")}
    targets = {name: value for name, value in variables(model).items() if not name.startswith("metrics/")}
    shapes = {name: tuple(value.shape) for name, value in targets.items()}
    stored_shapes = {name: value.shape for name, value in arrays.items()}
    if shapes != stored_shapes:
        first = min(shapes.items() ^ stored_shapes.items())[0]
        raise UserError(
            f"the checkpoint {path} is of another network or optimizer: {first} has shape "
            f"{stored_shapes.get(first)}, expected {shapes.get(first)}"
        )
    for name, value in arrays.items():
        targets[name].assign(value)
    return progress, running_means


def restore_weights(path: Path, model: keras.Model) -> None:
    """Put the weights of a file, as the last step left them, into a model of the same network.

    Raises:
        UserError: The file is missing, corrupt, or of another network.
    """
    try:
        with np.load(path) as stored:
            arrays = [stored[name] for name in sorted(stored.files) if name.startswith("model/")]
        if [array.shape for array in arrays] != [tuple(variable.shape) for variable in model.variables]:
            raise ValueError("it is of another network")
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"cannot read the checkpoint {path}: {error}") from None
    for variable, value in zip(model.variables, arrays, strict=True):
        variable.assign(value)


def restore_running_means(model: keras.Model, running_means: dict[str, np.ndarray]) -> None:
    """Put back the metrics of an epoch that is entered in its middle."""
    if len(model.metrics_variables) < len(running_means):
        _build_metrics(model)
    targets = variables(model)
    for name, value in running_means.items():
        targets[name].assign(value)


def _build_metrics(model: keras.Model) -> None:
    """Make the metrics' variables, as the first training step else does."""
    predicted = [keras.ops.zeros((1, *output.shape[1:])) for output in model.outputs]
    predictions = predicted if len(predicted) > 1 else predicted[0]
    model.compute_loss(y=predictions, y_pred=predictions)
    model.compute_metrics(None, predictions, predictions)
