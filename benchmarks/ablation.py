"""What each ingredient of the small-image recipes contributes: validation accuracy with and without it.

    python benchmarks/ablation.py --data FOLDER --runs ../runs/ablation [--seeds 3]

Trains a short form of the recipe `cifar10_fast`, then again with each change: an ingredient removed,
replaced or added, with the same seeds. Each training is a run's folder in `--runs`. Rerun to finish an
interrupted ablation. Networks are compared on the validation images, not on the test images.

Writes `ablation.csv`: mean and standard deviation over the seeds, and the difference to the unchanged recipe,
seed by seed, in points.
"""

from __future__ import annotations

import argparse
import csv
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from timing import circumstances, write_csv

from keras_googlenet.errors import UserError, reported

RECIPE = "cifar10_fast"
UNCHANGED = "unchanged"
CHANGES = {
    UNCHANGED: "",
    "first layer not whitened": "--no-whiten",
    "no identity start": "--no-identity-start",
    "logits not scaled": "--head-scale 1",
    "batch-norm offsets at the common rate": "--norm-multiplier 1",
    "no label smoothing": "--label-smoothing 0",
    "no average of weights": "--average 0.001",  # an average of the last step alone
    "no warm-up": "--warmup-epochs 0",
    "cutout": "--augment translate alternate cutout",
    "no translation": "--augment alternate",
    "no flips": "--augment translate",
    "random instead of alternating flips": "--augment translate flip",
    "batches of 128, a quarter of the rate": "--batch-size 128 --learning-rate 0.25",
}


def trained(folder: Path, options: Sequence[str]) -> float:
    """Train, or resume, a run in a fresh process; returns its last validation accuracy.

    Raises:
        UserError: The training failed.
    """
    line = [sys.executable, "-m", "keras_googlenet", "train", "--run", str(folder), "--resume", *options]
    process = subprocess.run(line, stdout=subprocess.DEVNULL)
    if process.returncode:
        raise UserError(f"a training failed; its error is above: {shlex.join(line)}")
    with (folder / "metrics.csv").open() as file:
        return float(list(csv.DictReader(file))[-1]["val_accuracy"])


def common_options(epochs: int, width: float, data: str | None) -> list[str]:
    """The options of all trainings."""
    short = ["--recipe", RECIPE, "--validation-fraction", "0.1", "--width", str(width)]
    return [*short, "--epochs", str(epochs), *(["--data", data] if data else [])]


def spread(values: Sequence[float]) -> float | str:
    """The standard deviation; empty for one value."""
    return stdev(values) if len(values) > 1 else ""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", help="folder of class folders; by default, the recipe's data")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"), help="folder of the runs")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--seeds", type=int, default=3, help="trainings per change")
    parser.add_argument("--changes", nargs="+", choices=CHANGES, default=list(CHANGES), metavar="CHANGE")
    parser.add_argument("--to", type=Path, default=Path("results"), help="folder of the figures (results)")
    options = parser.parse_args(arguments)
    common = common_options(options.epochs, options.width, options.data)
    found: dict[str, list[float]] = {}
    rows: list[dict[str, Any]] = []
    for change in dict.fromkeys([UNCHANGED, *options.changes]):
        changed = shlex.split(CHANGES[change])
        found[change] = [
            trained(
                options.runs / f"{change.replace(' ', '_').replace(',', '')}-{seed}",
                [*common, "--seed", str(seed), *changed],
            )
            for seed in range(options.seeds)
        ]
        pairs = zip(found[change], found[UNCHANGED], strict=True)
        points = [100 * (one - other) for one, other in pairs]
        row: dict[str, Any] = {
            "change": change,
            "options": CHANGES[change],
            "validation_accuracy": mean(found[change]),
            "deviation": spread(found[change]),
            "points": mean(points),
            "points_deviation": spread(points),
        }
        print(f"{change:40} {row['validation_accuracy']:.4f}  {row['points']:+.2f} points", flush=True)
        rows.append(
            {
                **row,
                "recipe": RECIPE,
                "epochs": options.epochs,
                "width": options.width,
                "seeds": options.seeds,
                **circumstances("tensorflow"),
            }
        )
        write_csv(options.to / "ablation.csv", rows)


if __name__ == "__main__":
    with reported():
        main()
