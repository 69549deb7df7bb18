"""The layout of a run's folder: written by training, read by export."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras

from keras_googlenet.errors import UserError
from keras_googlenet.files import held_new, write_json, write_text
from keras_googlenet.images.spec import Preprocessing
from keras_googlenet.names import ARCHITECTURE, CONFIG, DIVISION, LABELS, METRICS, MODEL, SUMMARY
from keras_googlenet.network.architecture import Architecture
from keras_googlenet.run import checkpoint
from keras_googlenet.run.config import RunConfig
from keras_googlenet.weights.files import load_model
from keras_googlenet.weights.shipped import check_run

WORK = "trains in"  # what a process does that holds the folder


@dataclass(frozen=True)
class Run:
    """A finished run."""

    model: keras.Model
    preprocessing: Preprocessing
    class_names: tuple[str, ...]


@contextmanager
def created(
    folder: Path,
    config: dict[str, Any],
    class_names: Sequence[str],
    architecture: Architecture | None = None,
    division: bytes | None = None,
) -> Iterator[None]:
    """Create a run's folder, with everything known before the first step, and lock it.

    The folder appears complete or not at all.

    Args:
        folder: The new folder.
        config: What its `config.json` holds.
        class_names: In label order.
        architecture: The network, where it is a GoogLeNet.
        division: The content of its `division.DIVISION`, if it gets one.

    Raises:
        UserError: Another process has created it meanwhile.
    """
    with held_new(folder, WORK) as unfinished:
        write_json(unfinished / CONFIG, config)
        write_labels(unfinished / LABELS, class_names)
        if architecture is not None:
            write_text(unfinished / ARCHITECTURE, architecture.to_json())
        if division is not None:
            (unfinished / DIVISION).write_bytes(division)
        try:
            unfinished.rename(folder)
        except OSError:
            if not folder.exists():
                raise
            raise UserError(f"{folder} was made by another process: choose another run folder") from None
        yield


def write_labels(path: Path, class_names: Sequence[str]) -> None:
    """Write class names in label order, a name a line."""
    write_text(path, "".join(f"{name}\n" for name in class_names))


def recorded(folder: Path) -> dict[str, Any]:
    """The content of a run's `config.json`: its options, and everything known before its first step.

    Raises:
        UserError: It is missing or damaged.
    """
    try:
        return dict(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{folder / CONFIG} is not a run's configuration ({error!r})") from None


def summary(folder: Path) -> dict[str, Any] | None:
    """The content of a run's `summary.json`; `None` if the run is not finished.

    Raises:
        UserError: The file is damaged.
    """
    path = folder / SUMMARY
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a run's summary ({error})") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} is not a run's summary: it holds no figures")
    return found


def load_config(folder: Path) -> RunConfig:
    """The options of a run.

    Raises:
        UserError: The run's configuration is missing or corrupt.
    """
    try:
        return RunConfig.from_dict(recorded(folder))
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / CONFIG} is not a run's configuration ({error})") from None


def load(folder: Path, *, weights: Literal["average", "last"] | None = None) -> Run:
    """Read a finished run.

    Args:
        folder: The run's.
        weights: For a run with averaged weights (`RunConfig.average`): the average, in `model.keras`, or the
            last weights of the saved epoch, in its checkpoint. By default those in `model.keras`. A run
            without averaging has only the last weights.

    Raises:
        UserError: A file is missing or corrupt, or the run has no such weights.
    """
    check_run(folder)
    for name in (CONFIG, LABELS, MODEL):
        if not (folder / name).is_file():
            raise UserError(f"{folder / name} is missing: expected the folder of a finished run")
    model = load_model(folder / MODEL)
    if weights is not None:
        _choose_weights(folder, model, weights)
    class_names, classes = load_labels(folder), model.outputs[0].shape[-1]
    if len(class_names) != classes:
        raise UserError(
            f"expected {classes} class names in {folder / LABELS}, as {folder / MODEL} has outputs; got "
            f"{len(class_names)}: restore the file from a copy"
        )
    return Run(model, load_preprocessing(folder), class_names)


def _choose_weights(folder: Path, model: keras.Model, weights: Literal["average", "last"]) -> None:
    config = load_config(folder)
    if config.average is None:
        if weights == "average":
            raise UserError(
                f"{folder} has no averaged weights, for it was trained without `average`: take its last"
            )
        return
    if weights == "last":
        best = folder / checkpoint.FOLDER / checkpoint.BEST
        is_best = config.early_stopping is not None and best.is_file()
        checkpoint.restore_weights(best if is_best else best.with_name(checkpoint.LAST), model)


def load_labels(folder: Path) -> tuple[str, ...]:
    """A run's class names, in label order.

    Raises:
        UserError: The file is missing or damaged.
    """
    return read_labels(folder / LABELS)


def read_labels(path: Path) -> tuple[str, ...]:
    """The class names in a file that `write_labels` wrote.

    Raises:
        UserError: The file is missing or damaged.
    """
    try:
        return tuple(path.read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the class names in {path}: {error}") from None


def load_preprocessing(folder: Path) -> Preprocessing:
    """The preprocessing that a run's model was trained with.

    Raises:
        UserError: The run's configuration is missing or corrupt.
    """
    try:
        return Preprocessing.from_dict(recorded(folder)["preprocessing"])
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder / CONFIG} is not a run's configuration ({error!r})") from None


def read_metrics(run: Path) -> dict[str, list[float]]:
    """The columns of a run's `metrics.csv`.

    Raises:
        UserError: It is missing or damaged.
    """
    table = run / METRICS
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {name: [float(row[name]) for row in rows] for name in rows[0]}
    except (OSError, ValueError, TypeError, IndexError, KeyError, csv.Error) as error:
        raise UserError(f"cannot read the metrics of a run in {table}: {error!r}") from None
