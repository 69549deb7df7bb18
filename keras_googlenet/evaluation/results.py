"""The results of an evaluation: figures, tables, and the worst mistakes, as JSON data."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keras_googlenet.evaluation import metrics
from keras_googlenet.evaluation.metrics import CalibrationBin
from keras_googlenet.evaluation.page import escape
from keras_googlenet.names import TOP_K

WORST = 24  # mistakes that are shown
FIGURES = ("top1", "one_view_top1", "top5", "loss", "ece", "published_top1", "published_top5")


@dataclass(frozen=True)
class ModelRow:
    """An evaluated network: its origin, its description, and the size of its input in pixels."""

    name: str
    variant: str
    height: int
    width: int
    channels: int


@dataclass(frozen=True)
class ClassRow:
    """A class; precision is `None` if it was never predicted, recall if it has no image."""

    name: str
    images: int
    precision: float | None
    recall: float | None


@dataclass(frozen=True)
class Mistake:
    """An image given to a wrong class, with the probability of that class."""

    index: int  # in the part that was evaluated
    file: str | None  # where it is a file
    true: str
    predicted: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """An evaluation's result.

    `loss` is the mean cross-entropy, `ece` the expected calibration error, `seconds` the networks' time for
    all images. `one_view_top1` is the accuracy without the views. `confusion` counts images, rows of true
    classes; `mistakes` are the worst ones, the most confident first.
    """

    models: list[ModelRow]
    data: str
    part: str
    crops: int
    protocol: str
    command: str = field(repr=False)
    images: int
    seconds: float
    top1: float
    top5: float
    loss: float
    ece: float
    published_top1: float | None
    published_top5: float | None
    classes: list[ClassRow] = field(repr=False)
    calibration: list[CalibrationBin] = field(repr=False)
    mistakes: list[Mistake] = field(repr=False)
    confusion: list[list[int]] = field(repr=False)
    views: int = 1
    one_view_top1: float | None = None

    def _repr_html_(self) -> str:
        """For notebooks: the figures, and each class's precision and recall."""
        figures = "".join(
            f"<tr><td>{name}</td><td>{getattr(self, name):.4f}</td></tr>"
            for name in FIGURES
            if getattr(self, name) is not None
        )
        classes = "".join(
            f"<tr><td>{escape(row.name)}</td><td>{row.images}</td><td>{_share(row.precision)}</td>"
            f"<td>{_share(row.recall)}</td></tr>"
            for row in self.classes
        )
        header = "<tr><th>class</th><th>images</th><th>precision</th><th>recall</th></tr>"
        about = escape(
            f"{', '.join(model.name for model in self.models)} on {self.images} {self.part} images"
        )
        return f"<p>{about}</p><table>{figures}</table><table>{header}{classes}</table>"

    def to_json(self) -> str:
        """JSON, a line for each field or row of a table."""
        lines = [f"  {json.dumps(name)}: {_json_rows(value)}" for name, value in asdict(self).items()]
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_json(cls, text: str) -> Evaluation:
        """The inverse of `to_json`."""
        fields = json.loads(text)
        for name, row_type in ROW_TYPES.items():
            fields[name] = [row_type(**row) for row in fields[name]]
        return cls(**fields)


ROW_TYPES: dict[str, type] = {
    "models": ModelRow,
    "classes": ClassRow,
    "calibration": CalibrationBin,
    "mistakes": Mistake,
}


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _json_rows(value: Any) -> str:
    if not isinstance(value, list) or not value:
        return json.dumps(value)
    return "[\n    " + ",\n    ".join(json.dumps(row) for row in value) + "\n  ]"


def measure(
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    *,
    files: Sequence[str] | None = None,
    **about: Any,
) -> Evaluation:
    """All figures of networks' predictions.

    Args:
        labels: True classes, (images,).
        probabilities: (images, classes).
        class_names: In label order.
        files: The images' files, if they have any.
        about: The fields of `Evaluation` that describe what was evaluated, and how.
    """
    matrix = metrics.confusion_matrix(labels, probabilities.argmax(axis=1), len(class_names))
    bins = metrics.calibration(labels, probabilities)
    return Evaluation(
        images=len(labels),
        top1=metrics.top_k_accuracy(labels, probabilities, 1),
        top5=metrics.top_k_accuracy(labels, probabilities, TOP_K),
        loss=metrics.cross_entropy(labels, probabilities),
        ece=metrics.expected_calibration_error(bins),
        classes=_class_rows(matrix, class_names),
        calibration=bins,
        mistakes=_worst_mistakes(labels, probabilities, class_names, files),
        confusion=matrix.tolist(),
        **about,
    )


def _class_rows(matrix: np.ndarray, class_names: Sequence[str]) -> list[ClassRow]:
    precision, recall = (
        [None if np.isnan(share) else float(share) for share in shares]
        for shares in metrics.precision_and_recall(matrix)
    )
    images = matrix.sum(axis=1).tolist()
    return [ClassRow(*row) for row in zip(class_names, images, precision, recall, strict=True)]


def _worst_mistakes(
    labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str], files: Sequence[str] | None
) -> list[Mistake]:
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:WORST]
    return [
        Mistake(
            index=int(i),
            file=None if files is None else files[i],
            true=class_names[labels[i]],
            predicted=class_names[predicted[i]],
            probability=float(confidence[i]),
        )
        for i in worst
    ]


def confusions(evaluation: Evaluation, most: int) -> list[tuple[str, str, int]]:
    """The most frequent confusions: (true class, predicted class, images), the most frequent first."""
    matrix = np.array(evaluation.confusion)
    np.fill_diagonal(matrix, 0)
    best = np.argsort(-matrix, axis=None, kind="stable")[:most]
    pairs = [np.unravel_index(flat, matrix.shape) for flat in best]
    names = [row.name for row in evaluation.classes]
    return [(names[i], names[j], int(matrix[i, j])) for i, j in pairs if matrix[i, j]]


def command_line(
    models: Sequence[str],
    variant: str | None,
    data: str | None,
    part: str | None,
    crops: int = 1,
    views: int = 1,
    *,
    recorded_split: bool = False,
    tfds_manual_dir: Path | None = None,
) -> str:
    """The command that repeats such an evaluation.

    Args:
        models: Folders of runs, the first of which may be `"imagenet"`.
        variant: The variant of the published weights.
        data: What `--data` was, if given.
        part: What `--part` was, if given.
        crops: Of an image.
        views: Of a crop.
        recorded_split: Whether `--recorded-split` was given.
        tfds_manual_dir: What `--tfds-manual-dir` was, if given.
    """
    words = ["keras-googlenet", "evaluate"]
    words += ["--weights", "imagenet", "--variant", str(variant)] if models[0] == "imagenet" else [models[0]]
    given = {
        "--data": data,
        "--part": part,
        "--crops": crops,
        "--views": views,
        "--tfds-manual-dir": tfds_manual_dir,
    }
    for option, value in given.items():
        words += [option, str(value)] if value not in (None, 1) else []
    words += ["--recorded-split"] * recorded_split
    words += ["--ensemble", *models[1:]] if models[1:] else []
    return shlex.join(words)
