"""Inference throughput of exported networks against other runtimes and the plain Keras listing.

    python benchmarks/inference.py [--variants bn paper] [--batch-sizes 1 8 32]

Each contender runs in a separate process, so its threads do not disturb the others; all use the same cores.
Our exports run as a server runs them. Peers (the `bench` extra) run with their vendors' settings for low
latency. Peers that are not installed or do not start are reported and skipped. Outputs are compared before
timing: all runtimes have the same weights. torchvision's network, which has 3x3 convolutions instead of 5x5,
is compared with our variant of it.

Writes `inference.csv` and a plot of it.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from matplotlib.figure import Figure
from runtimes import OURS, PEERS, PLAIN, REFERENCE, Contender, write_networks, write_torchvision
from timing import Spread, alternate, circumstances, ratio, spread, write_csv
from workers import Worker, workers

from keras_googlenet.errors import UserError, reported

TOLERANCES = {"float32": 1e-4, "bfloat16": 5e-2}  # relative to the largest probability


# --- measuring -------------------------------------------------------------------------------------


def check(name: str, answer: np.ndarray, expected: np.ndarray, precision: str) -> None:
    """Check that the outputs are as expected.

    Raises:
        UserError: The outputs differ.
    """
    difference = np.abs(answer - expected).max() / expected.max()
    if not difference <= TOLERANCES[precision]:
        raise UserError(f"expected the network's answers from {name}, which differ by {difference:.2g}")


def checked(
    found: dict[str, Worker],
    contenders: Mapping[str, Contender],
    pixels: np.ndarray,
    of_torchvision: np.ndarray | None,
) -> dict[str, Worker]:
    """The contenders that run, once their outputs are checked."""
    answering = {}
    reference = found[REFERENCE].ask("answer", pixels)
    for name, worker in found.items():
        try:
            answer = worker.ask("answer", pixels)
        except UserError as error:
            print(f"without {name}: {error}")
            continue
        if contenders[name].same:
            check(name, answer, reference, contenders[name].precision)
        elif of_torchvision is not None and name.startswith("torchvision"):
            check(name, answer, of_torchvision, contenders[name].precision)
        answering[name] = worker
    return answering


def rows_of(variant: str, batch: int, rates: Mapping[str, list[float]]) -> list[dict[str, Any]]:
    """Each contender's images/s, with the ratios to the plain listing and to its peer, round by round."""
    rows = []
    for name, figures in rates.items():
        columns: dict[str, Any] = {"variant": variant, "batch_size": batch, "contender": name}
        columns |= spread_columns("images_per_second", spread(figures))
        columns |= spread_columns("to_listing", ratio(figures, rates[PLAIN]))
        peer = next((PEERS[precision] for precision, ours in OURS.items() if name.startswith(ours)), "")
        known = ratio(figures, rates[peer]) if peer in rates else None
        rows.append(columns | {"peer": peer if known else ""} | spread_columns("to_peer", known))
    return rows


def spread_columns(name: str, values: Spread | None) -> dict[str, Any]:
    """A median and its spread as columns; empty columns if there is none."""
    found = (values.median, values.low, values.high) if values else ("", "", "")
    return dict(zip((name, f"{name}_low", f"{name}_high"), found, strict=True))


def measure(
    folder: Path, variant: str, options: argparse.Namespace, random: np.random.Generator
) -> list[dict[str, Any]]:
    """Measure a variant: one row per contender and batch size."""
    side = options.image_size
    some = random.uniform(0, 255, (2, side, side, 3)).astype("float32")
    contenders, of_torchvision = write_networks(folder, variant, side, options.threads), None
    wanted = options.contenders is None or any("torchvision" in name for name in options.contenders)
    if wanted and variant == options.variants[0]:  # its figures do not depend on our variant
        try:
            peers, of_torchvision = write_torchvision(folder, some, compiled=options.compiled)
            contenders |= peers
        except ImportError as missing:
            print(f"without torchvision: {missing}")
    unknown = {*(options.contenders or ())} - {*contenders}
    if unknown and variant == options.variants[0]:
        raise UserError(f"expected --contenders of {', '.join(contenders)}; got {', '.join(sorted(unknown))}")
    needed = {PLAIN, REFERENCE, *(options.contenders or contenders)}
    contenders = {name: contender for name, contender in contenders.items() if name in needed}
    rows = []
    with workers(contenders, options.threads) as started:
        found = checked(started, contenders, some, of_torchvision)
        print(f"measuring {len(found)} contenders of {variant}", flush=True)
        for batch in options.batch_sizes:
            pixels = random.uniform(0, 255, (batch, side, side, 3)).astype("float32")
            for worker in found.values():
                worker.ask("rate", pixels, 0.1)  # kernels are compiled once for each batch size
            asked = {
                name: partial(worker.ask, "rate", pixels, options.seconds) for name, worker in found.items()
            }
            rows += rows_of(variant, batch, alternate(asked, options.rounds))
            print(table(rows[-len(found) :]), flush=True)
    return rows


# --- report ----------------------------------------------------------------------------------------


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The figures as a text table."""
    form = "{:>8} {:>5}  {:35} {:>22} {:>18}  {}"
    lines = [
        form.format("variant", "batch", "contender", "images/s (spread)", "to the listing", "to its peer")
    ]
    for one in rows:
        to_peer = f"{told(one, 'to_peer', 2)} of {one['peer']}" if one["peer"] else ""
        figures = told(one, "images_per_second", 1), told(one, "to_listing", 2), to_peer
        lines.append(form.format(one["variant"], one["batch_size"], one["contender"], *figures))
    return "\n".join(lines)


def told(one: Mapping[str, Any], name: str, digits: int) -> str:
    """A median and its spread, as text."""
    low, high = one[f"{name}_low"], one[f"{name}_high"]
    return f"{one[name]:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def draw(rows: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Images per second of each runtime, with their spread: one column per precision, one row per batch size.

    Shows the fastest of our exports; the table has all of them.
    """
    columns = list(dict.fromkeys((one["variant"], precision_of(one)) for one in rows))
    batches = list(dict.fromkeys(one["batch_size"] for one in rows))
    figure = Figure(figsize=(5.2 * len(columns), 0.8 + 1.9 * len(batches)), layout="constrained")
    grid = figure.subplots(len(batches), len(columns), squeeze=False, sharex="all")
    for line, batch in zip(grid, batches, strict=True):
        for axes, (variant, precision) in zip(line, columns, strict=True):
            shown = drawn(
                [one for one in rows if (one["batch_size"], one["variant"]) == (batch, variant)], precision
            )
            for place, (name, one) in enumerate(shown.items()):
                low, middle, high = (one[f"images_per_second{end}"] for end in ("_low", "", "_high"))
                error = [[middle - low], [high - middle]]
                color = "#2563c9" if name == "ours" else "#b4bcc7"
                axes.barh(place, middle, xerr=error, color=color, capsize=2, error_kw={"lw": 0.7})
                axes.text(high, place, f"  {middle:.0f}", va="center", fontsize=9)
            axes.set_yticks(range(len(shown)), list(shown))
            axes.invert_yaxis()
            axes.margins(x=0.12)
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_title(f"{variant}, {precision}, batch of {batch}", fontsize=10)
    for axes in grid[-1]:
        axes.set_xlabel("images per second")
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=110)


def precision_of(one: Mapping[str, Any]) -> str:
    """The precision that a contender's name ends with."""
    return "bfloat16" if "bfloat16" in one["contender"] else "float32"


def drawn(rows: Sequence[Mapping[str, Any]], precision: str) -> dict[str, Mapping[str, Any]]:
    """The rows to plot: one per runtime in this precision, by name."""
    found: dict[str, Mapping[str, Any]] = {}
    for one in rows:
        name = one["contender"].split(", ")[0]
        if precision_of(one) != precision:
            continue
        if name not in found or one["images_per_second"] > found[name]["images_per_second"]:
            found[name] = one
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--variants", nargs="+", default=["bn", "paper"])
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=2, help="processors for each contender")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.4, help="in a round, of each contender")
    parser.add_argument("--contenders", nargs="+", help="these alone, by the names in the table")
    parser.add_argument("--compiled", action="store_true", help="torchvision compiled too: minutes, and g++")
    parser.add_argument("--to", type=Path, default=Path("results"), help="folder of the figures (results)")
    options = parser.parse_args(arguments)
    if options.threads > len(os.sched_getaffinity(0)):
        raise UserError(f"expected at most {len(os.sched_getaffinity(0))} threads, got {options.threads}")
    rows = []
    for variant in options.variants:
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(Path(folder), variant, options, np.random.default_rng(0))
    common = (
        circumstances("keras", "tensorflow")
        | {"versions": json.dumps(versions())}
        | {
            "image_size": options.image_size,
            "threads": options.threads,
            "rounds": options.rounds,
            "seconds": options.seconds,
        }
    )
    write_csv(options.to / "inference.csv", [common | one for one in rows])
    size = f"{options.image_size} x {options.image_size}"
    title = f"Images answered at {size}, {options.threads} threads: {common['machine']}"
    draw(rows, title, options.to / "inference.png")
    print(f"wrote {options.to / 'inference.csv'} and {options.to / 'inference.png'}")


def versions() -> dict[str, str]:
    """Versions of the peers that are installed."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("onnxruntime", "openvino", "torch", "torchvision"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


if __name__ == "__main__":
    with reported():
        main()
