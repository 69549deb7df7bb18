"""A training run's whole state in one file, so that it can resume as if it had never stopped."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_googlenet.data.order import Cursor
from keras_googlenet.errors import UserError
from keras_googlenet.files import replacing
from keras_googlenet.text import reason, say

FOLDER = "checkpoints"
LAST = "last.npz"
PREVIOUS = "previous.npz"
BEST = "best.npz"
PROGRESS = "progress"
CHECKSUM = "checksum"


@dataclass
class Progress:
    """The state of a run without its variables."""

    cursor: Cursor = field(default_factory=Cursor)
    rows: list[dict[str, float]] = field(default_factory=list)  # of metrics.csv, an epoch each
    seconds: float = 0.0  # of training so far
    images: int = 0  # for training; 0 in checkpoints of earlier versions

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Progress:
        """The inverse of `dataclasses.asdict`."""
        cursor = Cursor(int(fields["cursor"]["epoch"]), int(fields["cursor"]["step"]))
        rows = [dict(row) for row in fields["rows"]]
        return cls(cursor, rows, float(fields["seconds"]), int(fields.get("images", 0)))

    def adapt(self, images: int) -> bool:
        """Start the epoch over if it has other images, in another order, by now; returns whether it has."""
        changed = self.images not in (0, images)
        if changed:
            self.cursor.step = 0
        self.images = images
        return changed

    def check(self, epochs: int, steps: int) -> None:
        """Refuse a state that no run of this many epochs, and steps per epoch, can reach.

        Raises:
            UserError: The state is impossible.
        """
        epoch, step, rows = self.cursor.epoch, self.cursor.step, len(self.rows)
        if not (0 <= epoch <= epochs and 0 <= step < steps and rows == epoch and self.seconds >= 0):
            raise UserError(
                f"the checkpoint is after {epoch} epochs and {step} steps with {rows} rows of metrics, which "
                f"cannot be in a run of {epochs} epochs of {steps} steps"
            )


class Restored(NamedTuple):
    """What a checkpoint holds in addition to the model's variables."""

    progress: Progress
    running_means: dict[str, np.ndarray]
    """The metrics' variables, which `Model.fit` resets when it begins."""


def variables(model: keras.Model) -> dict[str, Any]:
    """All variables of a training model by unique names.

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
    """Write the state to a file, atomically.

    The old `last.npz` is kept as `previous.npz`, in case the new one is damaged later.
    """
    arrays = {name: keras.ops.convert_to_numpy(value) for name, value in variables(model).items()}
    arrays[PROGRESS] = np.array(json.dumps(asdict(progress)))
    arrays[CHECKSUM] = np.array(_checksum(arrays))
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as unfinished:
        with unfinished.open("wb") as file:
            np.savez(file, **arrays)
        if path.name == LAST and path.is_file():
            path.replace(path.with_name(PREVIOUS))  # killed here, a run resumes from that


def files(folder: Path) -> list[Path]:
    """A run's checkpoints, the last one first."""
    return [file for name in (LAST, PREVIOUS) if (file := folder / FOLDER / name).exists()]


def restore_last(
    folder: Path, model: keras.Model, *, epochs: int, steps: int, images: int
) -> Restored | None:
    """Put the state of a run's last checkpoint into its model, or of the previous one if the last is damaged.

    Args:
        folder: The run's.
        model: Of the same network and optimizer.
        epochs: Number of epochs of the whole run.
        steps: Number of steps per epoch.
        images: Number of training images.

    Returns:
        What was restored; `None` if there is no checkpoint.

    Raises:
        UserError: There are checkpoints, but none can be used.
    """
    reasons = []
    for path in files(folder):
        try:
            found = restore(path, model)
            if found.progress.adapt(images):
                model.optimizer._iterations.assign(found.progress.cursor.epoch * steps)
            found.progress.check(epochs, steps)
        except UserError as error:
            reasons.append(str(error))
            continue
        if reasons:
            say(f"{folder}: {reasons[0]}; resuming from {path.name}", file=sys.stderr)
        return found
    if reasons:
        raise UserError(f"{'; '.join(reasons)}: delete {folder / FOLDER} to start the run over")
    return None


def restore(path: Path, model: keras.Model) -> Restored:
    """Put the state of a file into a model of the same network and optimizer.

    Raises:
        UserError: The file is damaged, or of another network; the model is unchanged.
    """
    arrays = _read(path)
    try:
        progress = Progress.from_dict(json.loads(str(arrays.pop(PROGRESS))))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot read the checkpoint {path}: {error!r}") from None
    running_means = {name: arrays.pop(name) for name in list(arrays) if name.startswith("metrics/")}
    targets = {name: value for name, value in variables(model).items() if not name.startswith("metrics/")}
    _check_fits(path, arrays, targets)
    for name, value in arrays.items():
        targets[name].assign(value)
    return Restored(progress, running_means)


def restore_weights(path: Path, model: keras.Model) -> None:
    """Put the weights of a file, as the last step left them, into a model of the same network.

    Raises:
        UserError: The file is missing, damaged, or of another network; the model is unchanged.
    """
    group = "model/"
    arrays = {name: value for name, value in _read(path).items() if name.startswith(group)}
    targets = {f"{group}{number:04}": variable for number, variable in enumerate(model.variables)}
    _check_fits(path, arrays, targets)
    for name, value in arrays.items():
        targets[name].assign(value)


def _read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint that is whole."""
    try:
        with np.load(path) as stored:
            arrays = {name: stored[name] for name in stored.files}
        # Runs of earlier versions have no checksum.
        if CHECKSUM in arrays and str(arrays.pop(CHECKSUM)) != _checksum(arrays):
            raise ValueError("its checksum does not match")
    except Exception as error:  # of zip, NumPy's headers or the system, as the damage has it
        raise UserError(f"cannot read the checkpoint {path}: {reason(error)}") from None
    return arrays


def _checksum(arrays: dict[str, np.ndarray]) -> str:
    digest = blake2b(digest_size=16)
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _check_fits(path: Path, arrays: dict[str, np.ndarray], targets: dict[str, Any]) -> None:
    shapes = {name: tuple(value.shape) for name, value in targets.items()}
    stored = {name: value.shape for name, value in arrays.items()}
    if shapes != stored:
        first = min(name for name, _ in shapes.items() ^ stored.items())
        raise UserError(
            f"the checkpoint {path} is of another network or optimizer: {first} has shape "
            f"{stored.get(first)}, expected {shapes.get(first)}"
        )
    for name, value in arrays.items():
        if value.dtype.kind not in "fiu" or not np.isfinite(value).all():
            raise UserError(f"cannot read the checkpoint {path}: {name} holds values that are not numbers")


def restore_running_means(model: keras.Model, running_means: dict[str, np.ndarray]) -> None:
    """Restore the metrics of an epoch that is resumed in its middle."""
    if len(model.metrics_variables) < len(running_means):
        _build_metrics(model)
    targets = variables(model)
    for name, value in running_means.items():
        targets[name].assign(value)


def _build_metrics(model: keras.Model) -> None:
    """Create the metrics' variables, which otherwise the first training step creates."""
    predicted = [keras.ops.zeros((1, *output.shape[1:])) for output in model.outputs]
    predictions = predicted if len(predicted) > 1 else predicted[0]
    model.compute_loss(y=predictions, y_pred=predictions)
    model.compute_metrics(None, predictions, predictions)
