"""Shared by the benchmarks: alternating rounds, medians and ratios, CSV files, the machine."""

from __future__ import annotations

import csv
import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from keras_googlenet import __version__
from keras_googlenet.training import machine


@dataclass(frozen=True)
class Spread:
    """Median, minimum and maximum of several rounds."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.4g} ({self.low:.4g} to {self.high:.4g})"


def spread(values: Sequence[float]) -> Spread:
    """The spread of some values."""
    return Spread(median(values), min(values), max(values))


def alternate(
    contenders: Mapping[str, Callable[[], float]], rounds: int, told: Callable[[int], None] = lambda _: None
) -> dict[str, list[float]]:
    """Measure each contender once per round, so that all meet the same state of the machine.

    Args:
        contenders: By name, a function that measures once and returns a figure. Warm them up first.
        rounds: Number of rounds. Each starts with the next contender, since the order may matter.
        told: Called with the number of finished rounds.

    Returns:
        By name, one figure per round.
    """
    names = list(contenders)
    figures: dict[str, list[float]] = {name: [] for name in names}
    for done in range(rounds):
        first = done % len(names)
        for name in names[first:] + names[:first]:
            figures[name].append(contenders[name]())
        told(done + 1)
    return figures


def ratio(figures: Sequence[float], others: Sequence[float]) -> Spread:
    """The ratio of one contender's figures to another's, round by round."""
    return spread([one / other for one, other in zip(figures, others, strict=True)])


def fastest(rates: Mapping[str, list[float]]) -> str:
    """The contender with the highest median."""
    return max(rates, key=lambda name: median(rates[name]))


def circumstances(*packages: str) -> dict[str, str]:
    """Date, machine and versions, as columns of a CSV file."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    versions = {name: version(name) for name in packages}
    return {"date": today, "machine": machine.description(), "keras_googlenet": __version__} | versions


def memory(process: int | str, name: str = "VmRSS") -> int:
    """Bytes of memory of a process ("self" or its number), by their name in its status. Linux only."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return 1024 * int(lines[name].split()[0])


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, with five significant digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()})
