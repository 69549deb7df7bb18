"""Runs side by side: a table, and their curves in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from keras_googlenet.errors import UserError
from keras_googlenet.evaluation.plots import AS_WRITTEN, DPI, shortened
from keras_googlenet.files import replacing
from keras_googlenet.names import main_accuracy
from keras_googlenet.run import folder as run_folder
from keras_googlenet.text import text_table

PANELS = (("loss", "Training loss (all heads, weighted)"), ("accuracy", "Accuracy (main head)"))


@dataclass(frozen=True)
class RunRow:
    """A run, finished or not.

    Attributes:
        history: The columns of its `metrics.csv`.
        test_accuracy: `None` until it is finished.
        seconds: Training time; `None` until it is finished.
    """

    name: str
    variant: str
    width: float
    image_size: int
    history: dict[str, list[float]]
    test_accuracy: float | None
    seconds: float | None

    @property
    def epochs(self) -> int:
        """Number of epochs so far."""
        return len(self.history["loss"])

    def accuracy(self, prefix: str = "") -> list[float]:
        """The main head's accuracy by epoch; of validation with `prefix` "val_"."""
        return main_accuracy(self.history, prefix) or []


def read_run(run: Path) -> RunRow:
    """Read a run's folder.

    Raises:
        UserError: It is not a run's folder, or no epoch is finished.
    """
    config = run_folder.load_config(run)
    if not (run / run_folder.METRICS).is_file():
        raise UserError(f"{run} has no finished epoch: expected {run_folder.METRICS} in it")
    summary = run_folder.summary(run) or {}
    return RunRow(
        str(run),
        Path(config.variant).stem,
        config.width,
        run_folder.load_preprocessing(run).height,
        run_folder.read_metrics(run),
        summary.get("test_accuracy"),
        summary.get("train_seconds"),
    )


def table(rows: Sequence[RunRow]) -> str:
    """The runs as text, one per line."""
    header = ("run", "variant", "width", "input", "epochs", "seconds", "validation", "test")
    lines = [
        (
            row.name,
            row.variant,
            f"{row.width:g}",
            str(row.image_size),
            str(row.epochs),
            "-" if row.seconds is None else f"{row.seconds:.0f}",
            f"{max(row.accuracy('val_')):.4f}" if row.accuracy("val_") else "-",
            "-" if row.test_accuracy is None else f"{row.test_accuracy:.4f}",
        )
        for row in rows
    ]
    return text_table(header, lines)


def plot_runs(rows: Sequence[RunRow], path: Path) -> None:
    """Draw the runs' losses and accuracies by epoch: of validation, if any, and of training (dashed).

    Args:
        rows: The runs.
        path: PNG file to write.
    """
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    for axes, (metric, title) in zip(figure.subplots(1, 2), PANELS, strict=True):
        for number, row in enumerate(rows):
            color, label = f"C{number % 10}", shortened(Path(row.name).name)
            epochs = range(1, row.epochs + 1)
            if metric == "loss":
                axes.plot(epochs, row.history["loss"], ".-", color=color, label=label)
                continue
            validation = row.accuracy("val_")
            axes.plot(epochs, validation or row.accuracy(), ".-", color=color, label=label)
            if validation:
                axes.plot(epochs, row.accuracy(), "--", color=color, alpha=0.5)
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        for text in axes.legend().get_texts():
            text.set(**AS_WRITTEN)
    figure.axes[1].set_ylabel("validation if any, else training; dashed: training")
    with replacing(path) as unfinished:
        figure.savefig(unfinished, dpi=DPI, format="png")
