"""What `train` prints while it trains: a row per epoch, and a progress bar in terminals and notebooks."""

from __future__ import annotations

import time
import warnings
from datetime import timedelta
from typing import Any

import keras
from tqdm import TqdmWarning

with warnings.catch_warnings():
    # In a notebook without ipywidgets, where only the progress bar is missing.
    warnings.simplefilter("ignore", TqdmWarning)
    from tqdm.auto import tqdm

from keras_googlenet.names import main_accuracy
from keras_googlenet.run.checkpoint import Progress
from keras_googlenet.text import say

Logs = dict[str, Any] | None
COLUMNS = ("epoch", "time", "loss", "training", "validation", "best", "time left")
WIDTH = 10  # of a column, so that a row fits in 80 characters


class EpochTable(keras.callbacks.Callback):
    """Prints a row per epoch: time, total loss, accuracies of the main head, and the time left.

    Args:
        epochs: Number of epochs.
        steps: Training steps per epoch.
        progress: The epochs so far, and the step at which training resumes.
    """

    def __init__(self, epochs: int, steps: int, progress: Progress) -> None:
        super().__init__()
        self.epochs = epochs
        self.steps = steps
        self.entered = (progress.cursor.epoch, progress.cursor.step)
        self.best = max(
            (validation for row in progress.rows if (validation := main_accuracy(row, "val_"))), default=None
        )
        self.seconds_per_step: list[float] = []
        self.bar: Any = None

    def on_train_begin(self, logs: Logs = None) -> None:
        say(row(COLUMNS), flush=True)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self.began = time.monotonic()
        self.first_step = self.entered[1] if epoch == self.entered[0] else 0
        self.bar = tqdm(
            total=self.steps,
            initial=self.first_step,
            desc=f"epoch {epoch + 1}/{self.epochs}",
            unit="step",
            leave=False,
            disable=None,  # where standard error is not a terminal
        )

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self.bar.set_postfix_str(f"loss {(logs or {}).get('loss', 0.0):.3f}", refresh=False)
        self.bar.update()

    def on_test_begin(self, logs: Logs = None) -> None:
        if self.bar is not None:
            self.bar.set_description_str("validating")

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self.bar.close()
        figures = logs or {}
        seconds = time.monotonic() - self.began
        self.seconds_per_step.append(seconds / max(self.steps - self.first_step, 1))
        validation = main_accuracy(figures, "val_")
        if validation is not None:
            self.best = max(validation, self.best or 0.0)
        # The first epoch compiles the network: the last ones are more typical.
        recent = self.seconds_per_step[-3:]
        left = (self.epochs - epoch - 1) * self.steps * sum(recent) / len(recent)
        cells = (
            f"{epoch + 1}/{self.epochs}",
            clock(seconds),
            f"{figures.get('loss', float('nan')):.4f}",
            shown(main_accuracy(figures)),
            shown(validation),
            shown(self.best),
            clock(left),
        )
        say(row(cells), flush=True)

    def on_train_end(self, logs: Logs = None) -> None:
        self.bar.close()


def shown(share: float | None) -> str:
    """An accuracy as text, or a dash."""
    return "-" if share is None else f"{share:.4f}"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    return str(timedelta(seconds=round(seconds)))


def row(cells: tuple[str, ...]) -> str:
    """A line of the table."""
    return " ".join(f"{cell:>{WIDTH}}" for cell in cells)
