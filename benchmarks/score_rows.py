"""Rows/s of `keras-googlenet predict FOLDER --shard K/4`, each shard killed once, against a bare loop.

    python benchmarks/score_rows.py --rows 1000000

Writes that many small PNG files, starts a process for each shard, kills it, and starts it again; then each
image must have exactly one row. Shards run one after another. The bare loops call the same SavedModel on
batches in memory, of files or already decoded, and write nothing; both are measured before each shard.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np
from timing import circumstances, ratio, spread, write_csv
from tqdm import tqdm

from keras_googlenet import GoogLeNet, export_saved_model
from keras_googlenet.errors import UserError, reported
from keras_googlenet.inference.tables import of_shard
from keras_googlenet.network.variants import VARIANTS
from keras_googlenet.serving.client.answers import BATCH
from keras_googlenet.session import SavedModelSession

SHARDS = 4
OF_FOLDER = 1000  # files
SIDES = (8, 32)  # smallest and largest side of the images, in pixels
IMAGE_SIZE = 32  # side of the network's input, in pixels
HELD = 4096  # images of the bare loops, or all if they are fewer
SCORED = f"predict, {SHARDS} shards"
BARE = {"bare SavedModel, files": "serving_default", "bare SavedModel, decoded": "tensor_uint8"}


def make_images(folder: Path, count: int) -> None:
    """Write PNG files of random color and size, a thousand to a folder."""
    random = np.random.default_rng(0)
    for index in tqdm(range(count), "making images", leave=False, disable=None):
        place = folder / f"{index // OF_FOLDER:05}"
        if index % OF_FOLDER == 0:
            place.mkdir(parents=True)
        image = np.empty((*random.integers(SIDES[0], SIDES[1] + 1, 2), 3), np.uint8)
        image[:] = random.integers(0, 256, 3)
        (place / f"{index % OF_FOLDER:03}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())


def bare(session: SavedModelSession, signature: str, images: np.ndarray, seconds: float) -> float:
    """Images/s of a signature on batches in memory."""
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        for start in range(0, len(images), BATCH):
            session.run(signature, {"images": images[start : start + BATCH]})
        count += len(images)
    return count / (time.perf_counter() - begun)


def rows_in(file: Path) -> int:
    """Number of rows in a CSV file without its header."""
    return max(0, file.read_bytes().count(b"\n") - 1) if file.exists() else 0


def wait_for(process: subprocess.Popen[bytes], done: Callable[[], bool]) -> None:
    """Wait until a condition holds or the process exits."""
    while process.poll() is None and not done():
        time.sleep(0.1)  # each time, the whole file is read


def score(line: Sequence[str], to: Path, count: int) -> tuple[float, int]:
    """Start a shard's process, kill it after a third of its rows, and start it again.

    Returns:
        Rows/s of the second process from its first row on, and the rows of the killed one.
    """
    process = subprocess.Popen(line)
    wait_for(process, lambda: rows_in(to) >= count / 3)
    process.kill()
    if process.wait() == 0:
        raise UserError(f"expected to kill a shard before its end: {count} rows a shard are too few")
    before, size = rows_in(to), to.stat().st_size
    process = subprocess.Popen(line)
    wait_for(process, lambda: to.stat().st_size > size)
    begun, already = time.perf_counter(), rows_in(to)
    if process.wait() != 0:
        raise UserError(f"expected exit code 0 of {' '.join(line)}, got {process.returncode}")
    return (rows_in(to) - already) / (time.perf_counter() - begun), before


def check_rows(files: Sequence[Path], folder: Path) -> None:
    """Each image must have one row, without an error."""
    rows = [row for file in files for row in csv.DictReader(file.open(newline="", encoding="utf-8"))]
    names = {row["image"] for row in rows}
    missing = {str(file) for file in folder.rglob("*.png")} ^ names
    failed = [row["image"] for row in rows if row["error"]]
    if missing or failed or len(names) != len(rows):
        raise UserError(
            f"expected one row for each image, got {len(rows)} rows of {len(names)} images, {len(missing)} "
            f"missing or unknown, {len(failed)} failed"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--to", type=Path, default=Path("results"), help="folder of the figures (results)")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=float, default=0.125, help="of the network's layers (0.125)")
    parser.add_argument("--seconds", type=float, default=5, help="of each bare loop, before each shard (5)")
    options = parser.parse_args(arguments)

    network = GoogLeNet(
        variant=VARIANTS["small_images"].scaled(options.width),
        input_shape=(IMAGE_SIZE, IMAGE_SIZE, 3),
        aux_heads=False,
        classes=10,
    )
    rates: dict[str, list[float]] = {name: [] for name in (SCORED, *BARE)}
    with tempfile.TemporaryDirectory() as temporary:
        folder, to = Path(temporary) / "images", Path(temporary) / "rows.csv"
        version = export_saved_model(network, Path(temporary) / "model", class_names=list("abcdefghij"))
        make_images(folder, options.rows)
        session = SavedModelSession(version)
        encoded = [file.read_bytes() for file in islice(folder.rglob("*.png"), HELD)]
        size = (len(encoded), IMAGE_SIZE, IMAGE_SIZE, 3)
        held = {
            "serving_default": np.array(encoded, object),
            "tensor_uint8": np.random.default_rng(0).integers(0, 256, size, np.uint8),
        }
        for signature, images in held.items():
            bare(session, signature, images[:BATCH], 0)  # the first call is slow
        files = [of_shard(to, place, SHARDS) for place in range(SHARDS)]
        line = [sys.executable, "-m", "keras_googlenet", "predict", str(folder), "--model", str(version)]
        begun = time.perf_counter()
        for place, file in enumerate(files):
            for name, signature in BARE.items():
                rates[name].append(bare(session, signature, held[signature], options.seconds))
            shard = [*line, "--to", str(to), "--shard", f"{place + 1}/{SHARDS}"]
            rate, killed_at = score(shard, file, options.rows // SHARDS)
            rates[SCORED].append(rate)
            print(f"{file.name}: killed at {killed_at:,} rows, {rows_in(file):,} rows at the end")
        seconds = time.perf_counter() - begun
        check_rows(files, folder)
    table = []
    for name, figures in rates.items():
        of, share = spread(figures), ratio(rates[SCORED], figures)
        print(
            f"{name:24} {of.median:7.0f} rows/s ({of.low:.0f} to {of.high:.0f}); "
            f"predict / this: {share.median:.2f} ({share.low:.2f} to {share.high:.2f})"
        )
        table.append(
            {
                "contender": name,
                "rows": options.rows,
                "rows_per_second": of.median,
                "low": of.low,
                "high": of.high,
                "predict_to_this": share.median,
                "seconds_with_kills_and_bare_loops": seconds,
                "parameters": network.count_params(),
                "image_size": IMAGE_SIZE,
                **circumstances("tensorflow"),
            }
        )
    print(f"{options.rows:,} images, each with one row, in {seconds:.0f} s with starts, kills and bare loops")
    write_csv(options.to / "score_rows.csv", table)


if __name__ == "__main__":
    with reported():
        main()
