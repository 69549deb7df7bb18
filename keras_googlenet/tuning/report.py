"""The results of a search, from its folder alone: the table of trials, the best network, pictures."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from keras_googlenet.errors import UserError
from keras_googlenet.files import replacing, write_text
from keras_googlenet.tuning.plots import plot_importance, plot_pareto
from keras_googlenet.tuning.results import (
    BEST,
    FAILED,
    IMPORTANCE,
    PARETO,
    TABLE,
    Trial,
    best_trial,
    load,
    read_trials,
)


def report(folder: Path) -> list[Trial]:
    """Write `trials.csv`, `best.json`, `pareto.png` and `importance.png` to a search's folder, from its
    trials.

    Args:
        folder: The search's, finished or not.

    Returns:
        The trials, in their order.

    Raises:
        UserError: There is no search, or none of its trials ended with a score.
    """
    search = load(folder)
    trials = read_trials(folder, search)
    write_table(trials, folder / TABLE)
    done = [trial for trial in trials if trial.is_done]
    if not done:
        errors = [f"trial {trial.name}: {trial.error}" for trial in trials if trial.status == FAILED]
        raise UserError(
            f"no trial of {folder} ended with a score"
            + (f": all {len(errors)} failed, the last was {errors[-1]}" if errors else "")
        )
    best = best_trial(trials)
    if best is not None and best.architecture is not None:
        write_text(folder / BEST, best.architecture.to_json())
    with replacing(folder / PARETO) as unfinished:
        plot_pareto(done, best, search.budget, unfinished)
    with replacing(folder / IMPORTANCE) as unfinished:
        plot_importance(done, unfinished)
    return trials


def write_table(trials: Sequence[Trial], path: Path) -> None:
    """The trials as CSV: a row each, with the channels of each block in Table 1's order."""
    blocks = next((trial.architecture.blocks for trial in trials if trial.architecture), ())
    parameters = list(dict.fromkeys(name for trial in trials for name in trial.values))
    with replacing(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                *("trial", "status", "val_main_accuracy", "epochs", "seconds"),
                *("parameters", "multiply_adds", "latency_ms", "within_budget"),
                *parameters,
                *(f"block {block.name}" for block in blocks),
                *("val_main_accuracy_by_epoch", "error"),
            ]
        )
        for trial in trials:
            rows = trial.architecture.blocks if trial.architecture else ()
            writer.writerow(
                [
                    *(trial.name, trial.status, _rounded(trial.score, 4), len(trial.by_epoch)),
                    *(_rounded(trial.seconds, 1), *(trial.cost or ("", "")), _rounded(trial.latency_ms, 2)),
                    trial.within_budget,
                    *(trial.values.get(name, "") for name in parameters),
                    *(" ".join(map(str, row.channels)) for row in rows),
                    *("" for _ in blocks[len(rows) :]),
                    " ".join(f"{score:.4f}" for score in trial.by_epoch),
                    trial.error,
                ]
            )


def _rounded(value: float | None, digits: int) -> float | str:
    return "" if value is None else round(value, digits)
