"""The layout of a run's folder: written by training, read by export."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras

from keras_googlenet.errors import UserError
from keras_googlenet.preprocessing import Preprocessing
from keras_googlenet.training import checkpoint
from keras_googlenet.training.config import RunConfig

CONFIG = "config.json"
LABELS = "labels.txt"
METRICS = "metrics.csv"
MODEL = "model.keras"
SUMMARY = "summary.json"


@dataclass(frozen=True)
class Run:
    """A finished run."""

    model: keras.Model
    preprocessing: Preprocessing
    class_names: tuple[str, ...]


def create(folder: Path, config: dict[str, Any], class_names: Sequence[str]) -> None:
    """Make a run's folder, with what is known before the first step; it appears complete or not at all."""
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed here
    (unfinished / "plots").mkdir(parents=True)
    write_json(unfinished / CONFIG, config)
    write_labels(unfinished / LABELS, class_names)
    unfinished.rename(folder)


def write_labels(path: Path, class_names: Sequence[str]) -> None:
    """Write class names in label order, a name a line."""
    path.write_text("".join(f"{name}\n" for name in class_names))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON for people to read as well."""
    path.write_text(json.dumps(content, indent=2) + "\n")


def recorded(folder: Path) -> dict[str, Any]:
    """All that a run's `config.json` holds: its options, and what was known before its first step."""
    return dict(json.loads((folder / CONFIG).read_text()))


def load_config(folder: Path) -> RunConfig:
    """The options of a run.

    Raises:
        UserError: The run's configuration is missing or corrupt.
    """
    try:
        return RunConfig.from_dict(json.loads((folder / CONFIG).read_text()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / CONFIG} is not a run's configuration ({error!r})") from None


def load(folder: Path, *, weights: Literal["average", "last"] | None = None) -> Run:
    """Read a finished run.

    Args:
        folder: The run's.
        weights: Of a run that averaged them (`RunConfig.average`): the average, which `model.keras`
            holds, or what the last step of the saved epoch left, which its checkpoint holds. By
            default what `model.keras` holds. A run that did not average has the last ones alone.

    Raises:
        UserError: Something of it is missing or corrupt, or it has no such weights.
    """
    if not folder.is_dir():
        raise UserError(f"no run at {folder}: expected the folder that `train` made")
    for name in (CONFIG, LABELS, MODEL):
        if not (folder / name).is_file():
            raise UserError(f"{folder / name} is missing: expected the folder of a finished run")
    model = load_model(folder / MODEL)
    if weights is not None:
        _choose_weights(folder, model, weights)
    return Run(
        model,
        load_preprocessing(folder),
        tuple((folder / LABELS).read_text().splitlines()),
    )


def _choose_weights(folder: Path, model: keras.Model, weights: Literal["average", "last"]) -> None:
    config = load_config(folder)
    if config.average is None:
        if weights == "average":
            raise UserError(
                f"{folder} has no averaged weights, for it was trained without --average: take its last"
            )
        return
    if weights == "last":
        best = folder / checkpoint.FOLDER / checkpoint.BEST
        is_best = config.early_stopping is not None and best.is_file()
        checkpoint.restore_weights(best if is_best else best.with_name(checkpoint.LAST), model)


def load_preprocessing(folder: Path) -> Preprocessing:
    """What a run's model was trained with.

    Raises:
        UserError: The run's configuration is missing or corrupt.
    """
    try:
        config = json.loads((folder / CONFIG).read_text())
        return Preprocessing.from_dict(config["preprocessing"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / CONFIG} is not a run's configuration ({error!r})") from None


def load_model(path: Path) -> keras.Model:
    """Load a `.keras` file.

    Raises:
        UserError: It is corrupt.
    """
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # of zip, JSON, HDF5 or Keras, as the damage has it
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"cannot load {path}, it is corrupt or no Keras model: {reason}") from error
