"""The result of `train`: a run's figures, its model and history, and its pictures in a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import keras

from keras_googlenet.evaluation.page import data_uri, escape
from keras_googlenet.run import folder as run_folder

SHOWN = ("variant", "test_accuracy", "test_images", "train_images", "epochs", "train_seconds")
PICTURES = ("plots/curves.png", "plots/confusion.png")


class TrainingResult(dict[str, Any]):
    """A finished run. As a dictionary it is `summary.json`: `test_accuracy`, `train_seconds` and more.

    Attributes:
        run: The run's folder.
    """

    def __init__(self, run: Path, figures: Mapping[str, Any]) -> None:
        super().__init__(figures)
        self.run = run

    @cached_property
    def model(self) -> keras.Model:
        """The trained network with its heads, as `model.keras` holds it."""
        return run_folder.load(self.run).model

    @property
    def history(self) -> dict[str, list[float]]:
        """The columns of `metrics.csv`: a value per epoch for each name."""
        return run_folder.read_metrics(self.run)

    def __repr__(self) -> str:
        return f"<TrainingResult {self.run}: test accuracy {self.get('test_accuracy', float('nan')):.4f}>"

    def _repr_html_(self) -> str:
        """For notebooks: the figures, and the run's pictures."""
        rows = "".join(
            f"<tr><td>{name}</td><td>{escape(str(self[name]))}</td></tr>" for name in SHOWN if name in self
        )
        files = [self.run / name for name in PICTURES]
        pictures = "".join(
            f'<img src="{data_uri("png", file.read_bytes())}" alt="{file.stem}">'
            for file in files
            if file.is_file()
        )
        return f"<table>{rows}</table>{pictures}"
