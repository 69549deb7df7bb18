"""What a search's folder holds: its options and its trials.

Reads the files that keras-tuner and the trials wrote; needs neither keras-tuner nor Keras.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_googlenet.errors import UserError
from keras_googlenet.network.architecture import Architecture
from keras_googlenet.network.cost import Cost, InputSize, cost
from keras_googlenet.tuning.budgets import Budget
from keras_googlenet.tuning.config import TuneConfig

SEARCH, TABLE, BEST = "search.json", "trials.csv", "best.json"
PARETO, IMPORTANCE = "pareto.png", "importance.png"
ARCHITECTURE, EPOCHS, ERROR = "architecture.json", "epochs.csv", "error.txt"  # of a trial
COMPLETED, FAILED, RUNNING = "COMPLETED", "FAILED", "RUNNING"  # keras-tuner's words


@dataclass(frozen=True)
class Search:
    """What `search.json` holds: the options, and what networks are built for."""

    config: TuneConfig
    size: InputSize

    @property
    def budget(self) -> Budget:
        """What the rows show."""
        return Budget(self.config.max_params, self.config.max_macs)


@dataclass(frozen=True)
class Trial:
    """A network of a search."""

    name: str
    status: str
    values: dict[str, Any]  # by parameter; Hyperband's own begin with "tuner/"
    architecture: Architecture | None  # None before its training began
    cost: Cost | None
    score: float | None  # the best epoch's validation accuracy
    by_epoch: tuple[float, ...]
    seconds: float | None
    latency_ms: float | None
    within_budget: bool
    error: str

    @property
    def is_baseline(self) -> bool:
        """Whether it is the unchanged network: the first trial."""
        return int(self.name) == 0

    @property
    def is_done(self) -> bool:
        """Whether it ended with a score."""
        return self.status == COMPLETED and self.score is not None


def record(search: Search) -> None:
    """Create a search's folder; of several simultaneous processes, one does.

    Raises:
        UserError: The folder is not a search's, or the search has other options.
    """
    folder = search.config.training.run
    target = folder / SEARCH
    unfinished = f".{SEARCH}."  # of a process that was killed here
    if (
        folder.exists()
        and not target.is_file()
        and not all(path.name.startswith(unfinished) for path in folder.iterdir())
    ):
        raise UserError(f"{folder} exists and does not hold a search: choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    mine = folder / f"{unfinished}{os.getpid()}"
    content = {"config": search.config.to_dict(), "size": vars(search.size)}
    try:
        mine.write_text(json.dumps(content, indent=2) + "\n")
        os.link(mine, target)
    except FileExistsError:
        found = load(folder)
        different = search.config.differences(found.config)
        if different or found.size != search.size:
            names = ", ".join(f"`{name}`" for name in different) or "data set"
            raise UserError(
                f"{folder} was started with a different {names}: resume with the same "
                "options, or choose another folder"
            ) from None
        if search.config.trials != found.config.trials:
            mine.replace(target)
    finally:
        mine.unlink(missing_ok=True)


def load(folder: Path) -> Search:
    """Read a search's options.

    Raises:
        UserError: There is no search in the folder.
    """
    file = folder / SEARCH
    if not file.is_file():
        raise UserError(f"no search at {folder}: expected the folder that `tune` made")
    try:
        found = json.loads(file.read_text())
        return Search(TuneConfig.from_dict(found["config"]), InputSize(**found["size"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"cannot read {file}: expected what `tune` wrote there ({error!r})") from None


def read_trials(folder: Path, search: Search) -> list[Trial]:
    """All trials of a folder, in their order."""
    files = folder.glob("trial_*/trial.json")
    return sorted((_trial(file, search) for file in files), key=lambda trial: int(trial.name))


def _trial(file: Path, search: Search) -> Trial:
    try:
        return _read_trial(file, json.loads(file.read_text(encoding="utf-8")), search)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(
            f"cannot read the trial in {file.parent} ({error!r}): restore it from a copy, or search in "
            "another folder"
        ) from None


def _read_trial(file: Path, state: dict[str, Any], search: Search) -> Trial:
    metrics = {
        name: metric["observations"][-1]["value"][0]
        for name, metric in state["metrics"]["metrics"].items()
        if metric["observations"]
    }
    architecture = None
    if (file.parent / ARCHITECTURE).is_file():
        architecture = Architecture.from_json((file.parent / ARCHITECTURE).read_text(encoding="utf-8"))
    network = None if architecture is None else cost(architecture, search.size)
    latency = metrics.get("latency_ms")
    most = search.config.max_latency_ms
    is_slow = latency is not None and most is not None and latency > most
    is_baseline = int(state["trial_id"]) == 0
    return Trial(
        state["trial_id"],
        state["status"],
        state["hyperparameters"]["values"],
        architecture,
        network,
        state["score"],
        _by_epoch(file.parent / EPOCHS),
        metrics.get("seconds"),
        latency,
        # A sample was fast enough when it was drawn; a later measurement may be a little off.
        network is not None and search.budget.admits(network) and not (is_baseline and is_slow),
        _last_line(file.parent / ERROR) if state["status"] == FAILED else "",
    )


def _by_epoch(table: Path) -> tuple[float, ...]:
    if not table.is_file():
        return ()
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return tuple(float(row.get("val_main_accuracy") or row["val_accuracy"]) for row in rows)


def _last_line(file: Path) -> str:
    return file.read_text().strip().splitlines()[-1] if file.is_file() else "unknown"


def best_trial(trials: Sequence[Trial]) -> Trial | None:
    """The best within the budget, and of equally good ones the smallest."""
    allowed = [trial for trial in trials if trial.is_done and trial.within_budget and trial.cost]
    return max(allowed, key=lambda trial: (trial.score, -trial.cost.parameters), default=None)  # type: ignore[union-attr]
