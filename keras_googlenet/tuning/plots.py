"""Pictures of a search: accuracy against cost, and which of the channels mattered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from keras_googlenet.tuning.budgets import Budget
from keras_googlenet.tuning.results import Trial

DPI = 120
FEWEST = 8  # trials: with fewer, chance alone explains almost any correlation
MOST_BARS = 24
SURE = 1.96  # standard deviations that one in twenty of mere chance exceeds


def plot_pareto(trials: Sequence[Trial], best: Trial | None, budget: Budget, path: Path) -> None:
    """Accuracy against parameters and against multiply-adds; the unchanged network and the best are marked.

    Args:
        trials: With scores.
        best: The best within the budget.
        budget: What networks were allowed.
        path: PNG file to write.
    """
    figure = Figure(figsize=(12, 5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _costs(left, trials, best, 0, budget.parameters, "parameters of the main path")
    _costs(right, trials, best, 1, budget.macs, "multiply-adds of the main path, one image")
    left.set_ylabel("validation accuracy, best epoch")
    handles, labels = left.get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    named |= dict(zip(*reversed(right.get_legend_handles_labels()), strict=True))  # its budget, perhaps
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=len(named))
    figure.savefig(path, dpi=DPI)


def _costs(
    axes: Axes, trials: Sequence[Trial], best: Trial | None, which: int, most: int | None, label: str
) -> None:
    points = [
        (trial.cost[which], trial.score, trial) for trial in trials if trial.cost and trial.score is not None
    ]
    samples = [(x, y) for x, y, trial in points if not trial.is_baseline]
    if samples:
        axes.plot(*zip(*samples, strict=True), "o", color="tab:blue", alpha=0.6, label="trials")
    front = pareto_front([(x, y) for x, y, _ in points])
    axes.step(*zip(*front, strict=True), where="post", color="tab:blue", linewidth=1, label="Pareto front")
    for x, y, trial in points:
        if trial.is_baseline:
            axes.plot(x, y, "*", color="tab:red", markersize=16, label="unchanged network")
        if best is not None and trial.name == best.name:
            axes.plot(
                x, y, "o", mfc="none", mec="tab:green", mew=2, markersize=13, label="best within the budget"
            )
    if most is not None:
        axes.axvline(most, color="gray", linestyle="--", label="budget")
    axes.set_xlabel(label)
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points (cost, score) that no other beats in both, cheapest first."""
    front: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or y > front[-1][1]:
            front.append((x, y))
    return front


def plot_importance(trials: Sequence[Trial], path: Path) -> None:
    """Rank correlation of each parameter with the score, the strongest first, and the range due to chance.

    Args:
        trials: With scores; Hyperband's of all lengths.
        path: PNG file to write.
    """
    if len(trials) < FEWEST:
        figure = Figure(figsize=(9, 2))
        text = f"{len(trials)} trials: too few to rank parameters. {FEWEST} or more show which ones matter."
        figure.text(0.5, 0.5, text, ha="center", va="center")
        figure.savefig(path, dpi=DPI)
        return
    found = sorted(importance(trials).items(), key=lambda pair: -abs(pair[1]))
    shown = found[:MOST_BARS]
    figure = Figure(figsize=(9, 1.8 + 0.3 * max(len(shown), 3)), layout="constrained")
    axes = figure.subplots()
    places = range(len(shown))
    colors = ["tab:blue" if strength > 0 else "tab:orange" for _, strength in shown]
    axes.barh(places, [strength for _, strength in shown], color=colors)
    axes.set_yticks(places, [name for name, _ in shown], parse_math=False)
    axes.set_ylim(max(len(shown), 1) - 0.4, -0.6)
    axes.set_xlim(-1, 1)
    chance = min(1.0, SURE / math.sqrt(max(len(trials) - 1, 1)))
    axes.axvspan(-chance, chance, color="0.9", zorder=0, label="what chance alone does, 19 times in 20")
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("rank correlation with the score: right, more is better")
    which = (
        f"The {len(shown)} strongest of {len(found)} parameters" if len(found) > len(shown) else "Parameters"
    )
    axes.set_title(f"{which}, {len(trials)} trials")
    axes.grid(alpha=0.3, axis="x")
    figure.legend(loc="outside lower center")
    figure.savefig(path, dpi=DPI)


def importance(trials: Sequence[Trial]) -> dict[str, float]:
    """Spearman's rank correlation of each parameter with the score, from -1 to 1; of names, eta above 0.

    Omits parameters that no trial changed.
    """
    scores = _ranks([trial.score for trial in trials])
    result = {}
    for name in trials[0].values if trials else ():
        values: list[Any] = [trial.values.get(name) for trial in trials]
        if name.startswith("tuner/") or len(set(values)) < 2 or scores.std() == 0:
            continue
        if isinstance(values[0], str):  # names have no order: the share of variance between them
            means = {one: scores[[value == one for value in values]].mean() for one in set(values)}
            result[name] = float(np.std([means[value] for value in values]) / scores.std())
        else:
            result[name] = float(np.corrcoef(_ranks(values), scores)[0, 1])
    return result


def _ranks(values: Sequence[Any]) -> np.ndarray:
    """float (values,): the place of each in order, equal ones sharing their mean."""
    _, inverse, counts = np.unique(np.asarray(values, "float64"), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((last - counts + last - 1) / 2)[inverse]
