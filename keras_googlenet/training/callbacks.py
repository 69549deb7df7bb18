"""What happens between the steps of a run: checkpoints, its table, and reasons to stop."""

from __future__ import annotations

import csv
import io
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_googlenet.errors import Interrupted, UserError
from keras_googlenet.files import write_text
from keras_googlenet.names import main_accuracy
from keras_googlenet.run import checkpoint
from keras_googlenet.run import folder as run_folder
from keras_googlenet.run.checkpoint import Progress

Logs = dict[str, Any] | None


class StopSignals:
    """Holds SIGTERM and SIGINT until the current step is done."""

    def __init__(self) -> None:
        self.received: int | None = None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Catch the signals; a second signal has its usual effect."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

        def remember(number: int, _: Any) -> None:
            self.received = number
            signal.signal(number, before[signal.Signals(number)])

        for number in before:
            signal.signal(number, remember)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class KeepProgress(keras.callbacks.Callback):
    """Checkpoints within and after epochs, `metrics.csv`, early stopping, and the stop on a signal.

    Args:
        run: The run's folder.
        progress: Where training stands; kept up to date.
        running_means: The metrics' variables of an epoch that is resumed in its middle.
        steps: Number of steps per epoch.
        minutes: Minutes between checkpoints within an epoch.
        patience: Stop after this many epochs without a better validation accuracy.
        stop: Signals received.
        last_rate: The learning rate of an epoch's last step.
        writes: Whether this process writes files: one of several does.
    """

    def __init__(
        self,
        run: Path,
        progress: Progress,
        running_means: dict[str, np.ndarray],
        *,
        steps: int,
        minutes: float,
        patience: int | None,
        stop: StopSignals,
        last_rate: Callable[[int], float],
        writes: bool = True,
    ) -> None:
        super().__init__()
        self.run = run
        self.progress = progress
        self.running_means = running_means
        self.steps = steps
        self.interval = 60 * minutes
        self.patience = patience
        self.stop = stop
        self.last_rate = last_rate
        self.writes = writes
        self.entered = (progress.cursor.epoch, progress.cursor.step)
        self.saved = self.counted = time.monotonic()
        if writes:
            write_metrics(run / run_folder.METRICS, progress.rows)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        step = self.entered[1] if epoch == self.entered[0] else 0
        self.progress.cursor.epoch, self.progress.cursor.step = epoch, step
        if step:
            checkpoint.restore_running_means(self.model, self.running_means)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        epoch = self.progress.cursor.epoch
        skipped = self.entered[1] if epoch == self.entered[0] else 0
        self.progress.cursor.step = skipped + batch + 1
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            rate = float(self.model.optimizer.learning_rate)
            raise UserError(
                f"the loss is no longer finite in epoch {epoch + 1}, step {self.progress.cursor.step}: "
                f"lower the learning rate (it was {rate:g})"
            )
        if self.progress.cursor.step == self.steps:
            # The epoch is about to end, with its own checkpoint. An epoch resumed in its middle has fewer
            # steps than `fit` expects: this ends it, and `on_epoch_end` lets training continue.
            self.model.stop_training = skipped > 0
            return
        if self.stop.received is not None:
            self._save()
            self._end()
        if time.monotonic() - self.saved >= self.interval:
            self._save()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        row = {name: float(value) for name, value in (logs or {}).items()}
        self.progress.rows.append(row | {"learning_rate": self.last_rate(epoch)})
        self.progress.cursor.epoch, self.progress.cursor.step = epoch + 1, 0
        if self.patience is not None and best_epoch(self.progress.rows) == epoch:
            self._save(checkpoint.BEST)  # first: a process killed here does this epoch again
        self._save()
        if self.writes:
            write_metrics(self.run / run_folder.METRICS, self.progress.rows)
        self.model.stop_training = is_exhausted(self.progress.rows, self.patience)
        if self.stop.received is not None:
            self._end()

    def _save(self, name: str = checkpoint.LAST) -> None:
        self.saved = time.monotonic()
        self.progress.seconds += self.saved - self.counted
        self.counted = self.saved
        if self.writes:
            checkpoint.save(self.run / checkpoint.FOLDER / name, self.model, self.progress)

    def _end(self) -> None:
        cursor = self.progress.cursor
        raise Interrupted(
            f"stopped after {cursor.epoch} epochs and {cursor.step} steps: resume with "
            f"keras-googlenet train --run {self.run} --resume",
            self.stop.received or 0,
        )


def validation_accuracy(row: dict[str, float]) -> float:
    """The main head's, of one output or of several."""
    found = main_accuracy(row, "val_")
    if found is None:
        raise KeyError("val_accuracy")
    return found


def best_epoch(rows: list[dict[str, float]]) -> int:
    """The first epoch (from 0) of the highest validation accuracy."""
    return int(np.argmax([validation_accuracy(row) for row in rows]))


def is_exhausted(rows: list[dict[str, float]], patience: int | None) -> bool:
    """Whether the last `patience` epochs brought no better validation accuracy."""
    return bool(rows) and patience is not None and len(rows) - 1 - best_epoch(rows) >= patience


def write_metrics(path: Path, rows: list[dict[str, float]]) -> None:
    """The table of epochs, counted from 1, as CSV, which is replaced at once or not at all."""
    if not rows:
        return
    table = io.StringIO()
    names = [name for name in rows[0] if name != "epoch"]  # earlier versions kept it in the rows, from 0
    writer = csv.DictWriter(table, ["epoch", *names])
    writer.writeheader()
    writer.writerows(row | {"epoch": number} for number, row in enumerate(rows, 1))
    write_text(path, table.getvalue())
