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
        f"{group}/{number:04}/{variable.path}": variable
        for group, members in groups.items()
        for number, variable in enumerate(members)
    }


def save(path: Path, model: keras.Model, progress: Progress) -> None:
    """Write the state to a file, which is replaced at once or not at all."""
    arrays = {name: keras.ops.convert_to_numpy(value) for name, value in variables(model).items()}
    arrays[PROGRESS] = np.array(json.dumps(asdict(progress)))
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
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
    targets = variables(model)
    try:
        with np.load(path) as stored:
            arrays = {name: stored[name] for name in stored.files}
        progress = Progress.from_dict(json.loads(str(arrays.pop(PROGRESS))))
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(f"cannot read the checkpoint {path}: {error!r}") from None
    shapes = {name: tuple(value.shape) for name, value in targets.items()}
    if shapes != {name: value.shape for name, value in arrays.items()}:
        different = sorted(shapes.items() ^ {name: value.shape for name, value in arrays.items()}.items())
        raise UserError(f"the checkpoint {path} is of another network or optimizer: see {different[0][0]}")
    for name, value in arrays.items():
        targets[name].assign(value)
    return progress, {name: value for name, value in arrays.items() if name.startswith("metrics/")}
