"""How many images a second a training step takes: against the plain Keras listing, and torchvision.

    python benchmarks/training.py

Ours are `bn` and `paper` as `keras_googlenet.train` builds them, with `precision=auto` and in float32. The
plain listing is the variant `listing` of Keras's layers alone, compiled with `SGD(0.01, momentum=0.9)` as
the listing does, in float32 and under `mixed_bfloat16`. torchvision's is `googlenet(aux_logits=True)` with
PyTorch's SGD, channels last, in float32 and under autocast to bfloat16. All have three heads, 1000 classes,
the paper's loss weights, and take the same batch, which is in the memory already. Below 224 pixels the
auxiliary heads differ: torchvision's pool to 4 x 4 whatever the image, the others' fully connected layers
shrink with it.

Below 64 pixels (`--image-sizes 32`), the networks are variants for small images with 10 classes:
`small_images` and `light_stem` at width 0.5, and `short`. As `train` builds them, they are compared with the
same networks of Keras's layers, both in bfloat16.

Before it is timed, each must have the number of parameters that is known of it, and lower its loss in a few
steps on one batch. The Keras networks take `Model.train_step`, compiled as `fit` does.

With `--backend jax` the Keras networks run on JAX, which needs no TensorFlow. On a GPU, run `gpu.py`.

Writes `training.csv` and a plot of it.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # before Keras is imported
    on_jax = any(word.endswith("jax") for word in sys.argv[1:])
    os.environ.setdefault("KERAS_BACKEND", "jax" if on_jax else "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the command line has it

import keras
from matplotlib.figure import Figure
from timing import Spread, alternate, circumstances, ratio, spread, write_csv
from training_steps import CLASSES, SMALL, SMALL_CLASSES, Contender, check, contenders, measured

from keras_googlenet.errors import UserError, reported

BASE = "plain Keras listing, float32"
BATCHES = {32: 256, 96: 128}  # by image size; else 32
COLORS = {"ours": "#1f4e79", "plain": "#c55a11", "torchvision": "#2e8b57"}


def compare(size: int, batch: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure all contenders at an image size; a row for each."""
    made: dict[str, Contender] = {}
    possible = contenders(size, batch)
    for part in options.contenders or ():
        if not any(part in name for name in possible):
            raise UserError(f"expected --contenders of {', '.join(possible)} at {size} pixels, got {part}")
    for name, make in possible.items():
        if options.contenders and not any(part in name for part in options.contenders):
            continue
        made[name] = make()
        check(name, made[name], size)
    rates = alternate(
        {name: partial(measured, one, batch, options.seconds) for name, one in made.items()}, options.rounds
    )
    torch_rates = [found for name, found in rates.items() if name.startswith("torchvision")]
    rows = []
    for name, found in rates.items():
        base = base_of(name, rates)
        row: dict[str, Any] = {"image_size": size, "batch_size": batch, "contender": name}
        row |= {"classes": SMALL_CLASSES if size < SMALL else CLASSES}
        row |= {"parameters": made[name].parameters, "precision": made[name].precision}
        row |= columns("images_per_second", spread(found))
        row |= columns("ratio", ratio(found, rates[base]))
        fastest_torch = max(torch_rates, key=lambda one: spread(one).median, default=None)
        times_torch = None if fastest_torch is None else ratio(found, fastest_torch).median
        flops = 2 * 3 * made[name].macs * spread(found).median
        rows.append(
            row | {"ratio_to": base, "times_torchvision": times_torch or ""} | {"teraflops": flops / 1e12}
        )
    return rows


def base_of(name: str, rates: Collection[str]) -> str:
    """What a contender is compared with: the same network of Keras's layers, or the plain listing."""
    twin = name.replace("ours", "plain Keras")
    return next(one for one in (twin, BASE, *rates) if one in rates)


def columns(name: str, figures: Spread) -> dict[str, float]:
    """A spread as three columns."""
    return {name: figures.median, f"{name}_low": figures.low, f"{name}_high": figures.high}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The figures for people to read."""
    form = "{:>5} {:>6}  {:34} {:>24} {:>18} {:>18} {:>9}"
    head = (
        "size",
        "batch",
        "contender",
        "images/s (spread)",
        "ratio (spread)",
        "times torchvision",
        "TFLOP/s",
    )
    lines = [form.format(*head)]
    for row in rows:
        rate, ratios = (
            f"{row[name]:,.{d}f} ({row[name + '_low']:,.{d}f}-{row[name + '_high']:,.{d}f})"
            for name, d in (("images_per_second", 1), ("ratio", 2))
        )
        torch = f"{row['times_torchvision']:.2f}" if row["times_torchvision"] else ""
        cells = (rate, ratios, torch, f"{row['teraflops']:.3g}")
        lines.append(form.format(row["image_size"], row["batch_size"], row["contender"], *cells))
    return "\n".join(lines)


def draw(rows: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """The rates with their spread, a panel for each image size; at the end of a bar, its ratio."""
    sizes = list(dict.fromkeys(row["image_size"] for row in rows))
    figure = Figure(figsize=(9, 1 + 0.35 * len(rows)), layout="constrained")
    for axes, size in zip(figure.subplots(len(sizes), squeeze=False)[:, 0], sizes, strict=True):
        of_size = [row for row in rows if row["image_size"] == size]
        for place, row in enumerate(of_size):
            rate, low, high = (row[f"images_per_second{end}"] for end in ("", "_low", "_high"))
            color = COLORS[row["contender"].split(" ")[0].rstrip(",")]
            axes.barh(place, rate, xerr=[[rate - low], [high - rate]], color=color, capsize=3)
            axes.text(high, place, f"  {rate:.0f}  ({row['ratio']:.2f})", va="center", fontsize=8)
        axes.set_yticks(range(len(of_size)), [row["contender"] for row in of_size], fontsize=8)
        axes.invert_yaxis()
        axes.margins(x=0.18)
        axes.set_title(f"{size} x {size}, batches of {of_size[0]['batch_size']}", fontsize=9)
    axes.set_xlabel("images a second (in brackets: the ratio of its row in the CSV)", fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=120)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backend", choices=("tensorflow", "jax"), default="tensorflow", help="Keras's")
    parser.add_argument("--image-sizes", nargs="+", type=int, default=[96, 224])
    parser.add_argument("--batch-sizes", nargs="+", type=int, help="one for each image size")
    parser.add_argument("--contenders", nargs="+", help="parts of names; by default all")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="in a round, of each contender")
    parser.add_argument("--to", type=Path, default=Path("results"), help="folder of the figures (results)")
    options = parser.parse_args(arguments)
    options.batch_sizes = options.batch_sizes or [BATCHES.get(size, 32) for size in options.image_sizes]
    if len(options.batch_sizes) != len(options.image_sizes):
        parser.error("expected as many --batch-sizes as --image-sizes")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    if keras.backend.backend() != options.backend:
        raise UserError(f"expected the Keras backend {options.backend}: set KERAS_BACKEND={options.backend}")
    missing = [peer for peer in ("torch", "torchvision") if importlib.util.find_spec(peer) is None]
    if missing:
        print(f"not installed, and not measured: {', '.join(missing)}")
    packages = ["keras", options.backend] + (["torch", "torchvision"] if not missing else [])
    common = circumstances(*packages) | {
        "device": "CPU", "threads": os.cpu_count(), "backend": options.backend,
        "rounds": options.rounds, "seconds": options.seconds,
    }  # fmt: skip
    rows = []
    for size, batch in zip(options.image_sizes, options.batch_sizes, strict=True):
        found = compare(size, batch, options)
        print(table(found), flush=True)
        rows += [common | row for row in found]
    small = max(options.image_sizes) < SMALL
    file = options.to / ("training_small.csv" if small else "training.csv")
    write_csv(file, rows)
    draw(
        rows, f"Training steps, three heads, {options.backend}: {common['machine']}", file.with_suffix(".png")
    )
    print(f"wrote {file} and {file.with_suffix('.png')}")


if __name__ == "__main__":
    with reported():
        main()
