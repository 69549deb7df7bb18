"""Accuracy and speed of int8: a trained network in three precisions, on its test images.

    python benchmarks/int8.py RUN

RUN is the folder of a finished run. Its network is exported to TensorFlow Serving in float32 and bfloat16,
and to LiteRT in float32 and int8, calibrated on validation images. Each contender runs in a separate
process, as in `inference.py`: it classifies all test images, then is timed in turns with the others.

Writes `int8-NAME.csv`, where NAME is the run's.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from runtimes import DEPLOYED, Contender, litert, saved_model
from timing import alternate, circumstances, ratio, spread, write_csv
from workers import workers

from keras_googlenet import export_saved_model
from keras_googlenet.errors import reported
from keras_googlenet.evaluation.images import in_order, own_images
from keras_googlenet.export import held_out
from keras_googlenet.export.targets import export_file
from keras_googlenet.run import folder as run_folder

REFERENCE = "SavedModel, float32"
ASKED = 50  # images in a batch, for the accuracy


def write_networks(finished: run_folder.Run, images: np.ndarray, folder: Path) -> dict[str, Contender]:
    """Export a run's network to all formats.

    Args:
        finished: The run.
        images: Pixels to calibrate int8 on.
        folder: The folder to write to.
    """
    options: dict[str, Any] = {
        "class_names": finished.class_names,
        "preprocessing": finished.preprocessing,
    }
    found = {}
    for precision in ("float32", "bfloat16"):
        path = export_saved_model(
            finished.model, folder / "versions", precision=precision, warmup_batch_sizes=(), **options
        )
        found[f"SavedModel, {precision}"] = Contender(saved_model, path, precision, DEPLOYED)
    for precision, given in (("float32", None), ("int8", images)):
        path = folder / f"{precision}.tflite"
        export_file(finished.model, path, format="litert", calibration_images=given, **options)
        found[f"LiteRT, {precision}"] = Contender(litert, path, precision)
    return found


def measure(run: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row per contender and batch size."""
    finished = run_folder.load(run)

    def part(name: str) -> tuple[np.ndarray, np.ndarray]:
        found = in_order(own_images([run], name), finished.class_names, str(run)).part
        few = np.random.default_rng(0).permutation(found.count)[: options.images]
        chosen = found.take(np.sort(few))
        return held_out.pixels(chosen, finished.preprocessing), chosen.labels

    validation, (pixels, labels) = part("validation")[0], part("test")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        contenders = write_networks(finished, validation, Path(folder))
        with workers(contenders, options.threads) as found:
            accuracy = {}
            for name, worker in found.items():
                batches = np.split(pixels, range(ASKED, len(pixels), ASKED))
                answers = np.concatenate([worker.ask("answer", batch) for batch in batches])
                accuracy[name] = float(np.mean(answers.argmax(axis=1) == labels))
                print(f"{name}: top-1 {accuracy[name]:.4f} of {len(labels)} test images", flush=True)
            for batch in options.batch_sizes:
                asked = {
                    name: partial(worker.ask, "rate", pixels[:batch], options.seconds)
                    for name, worker in found.items()
                }
                rates = alternate(asked, options.rounds)
                for name, figures in rates.items():
                    ours, times = spread(figures), ratio(figures, rates[REFERENCE])
                    rows.append(
                        {
                            "run": run.name,
                            "image_size": finished.preprocessing.height,
                            "test_images": len(labels),
                            "contender": name,
                            "top_1": accuracy[name],
                            "batch_size": batch,
                            "images_per_second": ours.median,
                            "images_per_second_low": ours.low,
                            "images_per_second_high": ours.high,
                            "to_float32": times.median,
                            "to_float32_low": times.low,
                            "to_float32_high": times.high,
                        }
                    )
                    print(f"batch of {batch}: {name}: {ours} images/s, {times} times {REFERENCE}", flush=True)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--images", type=int, default=10_000, help="test images, at most")
    parser.add_argument("--threads", type=int, default=2, help="processors for each contender")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.4, help="in a round, of each contender")
    parser.add_argument("--to", type=Path, default=Path("results"), help="folder of the figures (results)")
    options = parser.parse_args(arguments)
    rows = measure(options.run, options)
    common = circumstances("keras", "tensorflow", "ai-edge-litert") | {"threads": options.threads}
    path = options.to / f"int8-{options.run.name}.csv"
    write_csv(path, [common | row for row in rows])
    print(f"wrote {path}")


if __name__ == "__main__":
    with reported():
        main()
