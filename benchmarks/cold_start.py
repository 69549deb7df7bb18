"""Startup time: help, imports, and the first prediction.

    python benchmarks/cold_start.py

Times each command in a fresh process, from start to exit; contenders alternate. `keras-googlenet predict
IMAGE --model DIR` is compared with its parts: the interpreter, the import of TensorFlow, and a few lines of
TensorFlow that load the same SavedModel and run it. The plain Keras contender imports Keras, loads the
network from its .keras file, and predicts. Before timing, all three must predict the same class.

Writes `cold_start.csv` and a plot of it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np
from matplotlib.figure import Figure
from timing import Spread, alternate, circumstances, spread, write_csv

from keras_googlenet import GoogLeNet, export_saved_model
from keras_googlenet.errors import UserError, reported

LIMITS = {"keras-googlenet --help": 0.3, "import keras_googlenet": 0.2}  # target, in seconds
OURS = "#1f4e79"
OTHERS = "#c55a11"

LISTED = """
import sys, numpy as np, keras
model = keras.models.load_model(sys.argv[1])
image = keras.utils.img_to_array(keras.utils.load_img(sys.argv[2], target_size=model.input_shape[1:3]))
print(f"class {model.predict(image[np.newaxis] / 127.5 - 1, verbose=0).argmax()}")
"""
BARE = """
import sys, tensorflow as tf
served = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
print(served(tf.constant([open(sys.argv[2], "rb").read()]))["classes"].numpy()[0, 0].decode())
"""


def processes(folder: Path, variant: str, size: int) -> dict[str, list[str]]:
    """The command of each contender, by name. Creates the model and the image."""
    network = GoogLeNet(variant=variant, input_shape=(size, size, 3), aux_heads=False)
    network.save(folder / "network.keras")
    names = [f"class {number}" for number in range(network.output_shape[-1])]
    version = export_saved_model(network, folder / "model", class_names=names)
    image = folder / "image.png"
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    cv2.imwrite(str(image), pixels)
    python, cli = sys.executable, [sys.executable, "-m", "keras_googlenet.cli"]
    return {
        "python -c pass": [python, "-c", "pass"],
        "import keras_googlenet": [python, "-c", "import keras_googlenet"],
        "keras-googlenet --help": [*cli, "--help"],
        "import tensorflow": [python, "-c", "import tensorflow"],
        "import keras": [python, "-c", "import keras"],
        "keras-googlenet predict": [*cli, "predict", str(image), "--model", str(folder / "model")],
        "bare TensorFlow, the same SavedModel": [python, "-c", BARE, str(version), str(image)],
        "plain Keras, load_model and predict": [
            python,
            "-c",
            LISTED,
            str(folder / "network.keras"),
            str(image),
        ],
    }


def run(command: Sequence[str]) -> str:
    """Run a process and return what it printed.

    Raises:
        UserError: The process failed.
    """
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{' '.join(command[:4])} ended with {done.returncode}: {done.stderr[-300:]}")
    return done.stdout


def seconds(command: Sequence[str]) -> float:
    """Seconds from the start of a process to its exit."""
    begun = time.perf_counter()
    run(command)
    return time.perf_counter() - begun


def check_alike(commands: dict[str, list[str]]) -> None:
    """Check that the three contenders that predict name the same class.

    Raises:
        UserError: They name different classes.
    """
    told = {name: run(command) for name, command in list(commands.items())[-3:]}
    *_, expected = told.values()
    for name, printed in told.items():
        if expected.strip() not in printed:
            raise UserError(f"{name}: expected {expected.strip()!r}, got {printed.strip()!r}")


def row(name: str, figures: Sequence[float], predict: Sequence[float]) -> dict[str, Any]:
    """A contender's seconds, and their ratio to our first prediction, round by round."""
    of, share = spread(figures), spread([one / other for one, other in zip(figures, predict, strict=True)])
    return {
        "process": name,
        "seconds": of.median,
        "seconds_low": of.low,
        "seconds_high": of.high,
        "share_of_predict": share.median,
        "promised_seconds": LIMITS.get(name, ""),
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The figures as a text table."""
    form = "{:38} {:>26} {:>18}  {}"
    lines = [form.format("process", "seconds (spread)", "share of predict", "promised")]
    for one in rows:
        of = Spread(one["seconds"], one["seconds_low"], one["seconds_high"])
        promised = one["promised_seconds"]
        kept = f"< {promised}: {'kept' if of.median < promised else 'NOT KEPT'}" if promised else ""
        figures = f"{of.median:.3f} ({of.low:.3f}-{of.high:.3f})"
        lines.append(form.format(one["process"], figures, f"{one['share_of_predict']:.2f}", kept))
    return "\n".join(lines)


def draw(rows: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """Plot the seconds with their spread."""
    figure = Figure(figsize=(9, 1 + 0.4 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, one in enumerate(rows):
        error = [[one["seconds"] - one["seconds_low"]], [one["seconds_high"] - one["seconds"]]]
        color = OURS if "googlenet" in one["process"] else OTHERS
        axes.barh(place, one["seconds"], xerr=error, color=color, capsize=3)
        axes.text(one["seconds_high"], place, f"  {one['seconds']:.2f} s", va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [one["process"] for one in rows], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("seconds of a fresh process, start to end")
    axes.set_title(title, fontsize=10)
    figure.savefig(path, dpi=120)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--variant", default="bn")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--to", type=Path, default=Path("results"), help="folder of the figures (results)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        commands = processes(Path(folder), options.variant, options.image_size)
        check_alike(commands)
        contenders: dict[str, Callable[[], float]] = {
            name: partial(seconds, command) for name, command in commands.items()
        }
        figures = alternate(contenders, options.rounds)
    rows = [row(name, found, figures["keras-googlenet predict"]) for name, found in figures.items()]
    print(table(rows))
    common = circumstances("keras", "tensorflow") | {
        "variant": options.variant, "image_size": options.image_size, "rounds": options.rounds
    }  # fmt: skip
    write_csv(options.to / "cold_start.csv", [common | one for one in rows])
    draw(rows, f"Fresh processes: {common['machine']}", options.to / "cold_start.png")
    print(f"wrote {options.to / 'cold_start.csv'} and {options.to / 'cold_start.png'}")


if __name__ == "__main__":
    with reported():
        main()
