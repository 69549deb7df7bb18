"""Growth of memory, open files and latency: the preview under load, then a training, an hour each.

    python benchmarks/soak.py [--minutes 60]

Two clients send single images to a preview without a pause, one over REST, one over gRPC. Every `--turn`
seconds, once the last version is loaded, a new one appears and the oldest is deleted. Each answer is compared
with that of the bare SavedModel. Then a training reads JPEG files, epoch after epoch, with a checkpoint after
each. Every few seconds the process's memory and open files are read from /proc (Linux only). A sample of the
preview also has the quantiles of the latencies since the last one. Growth is the last quarter's median
against the second quarter's.

Writes `soak.csv` and a plot of it.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from photographs import synthesize
from timing import circumstances, memory, write_csv

from keras_googlenet import GoogLeNet, export_saved_model
from keras_googlenet.data.folders import find_images
from keras_googlenet.errors import UserError, reported
from keras_googlenet.serving import Client
from keras_googlenet.training.kernels import FROZEN_WEIGHTS
from serving import MODEL, TIMEOUT, Send, bare, free_port, over_grpc, over_rest

SERVED, TRAINED = "preview", "train"
MEMORY, FILES, P50, P99, COUNT = "resident_mb", "open_files", "p50_ms", "p99_ms", "count"
LABELS = {MEMORY: "resident memory, MB", FILES: "open files", P50: "p50, ms", P99: "p99, ms"}
LIMIT = 8 * 2**30  # bytes of data of a watched process, so that a fault ends it and not the machine
SENT, TRAINED_ON = 16, 128  # images
START = 1200  # seconds to the first answer, or the first epoch

Row = dict[str, Any]
Watched = tuple[subprocess.Popen[bytes], Path]  # a process and the file of what it prints


@contextmanager
def started(log: Path, *command: str) -> Iterator[Watched]:
    """A command of the package in a separate process, with a limit on its memory."""
    trainable = {name: value for name, value in os.environ.items() if name != FROZEN_WEIGHTS}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "keras_googlenet", *command], stdout=output, stderr=output, env=trainable
        )
    try:
        resource.prlimit(process.pid, resource.RLIMIT_DATA, (LIMIT, LIMIT))
        yield process, log
    finally:
        process.terminate()
        try:
            process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def check_alive(watched: Watched) -> None:
    """Raise `UserError` with the last line that a process printed, if it has ended."""
    process, log = watched
    if process.poll() is not None:
        (*_, last) = ["", *log.read_text(errors="replace").splitlines()]
        raise UserError(f"a process ended early with {process.returncode}; its last line: {last}")


def watch(watched: Watched, options: argparse.Namespace, measure: Callable[[float], Row]) -> list[Row]:
    """Rows of a process's memory, open files, and what `measure` returns for the seconds passed."""
    begun, rows, seconds = time.monotonic(), [], 60 * options.minutes
    process = watched[0].pid
    while (passed := time.monotonic() - begun) < seconds:
        time.sleep(min(options.every, seconds - passed))
        check_alive(watched)
        passed = time.monotonic() - begun
        files = len(list(Path(f"/proc/{process}/fd").iterdir()))
        row = {"seconds": round(passed, 1), MEMORY: memory(process) / 1e6, FILES: files}
        rows.append(row | measure(passed))
    return rows


# --- the preview -----------------------------------------------------------------------------------


class Clients:
    """A thread for each sender, which sends one image after another until stopped; each answer is checked."""

    def __init__(self, senders: Sequence[Send], files: Sequence[bytes], expected: np.ndarray) -> None:
        self.files, self.expected = files, expected
        self.latencies: list[float] = []  # since the last sample, in milliseconds
        self.trouble: list[str] = []
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.send_all, args=(send,)) for send in senders]

    def send_all(self, send: Send) -> None:
        """Until stopped, or until an answer is wrong."""
        for which in itertools.cycle(range(len(self.files))):
            if self.stopped.is_set():
                return
            begun = time.perf_counter()
            try:
                answer = send([self.files[which]])[0]
            except Exception as error:  # each client library has its own
                self.trouble.append(str(error))
                return
            self.latencies.append(1000 * (time.perf_counter() - begun))
            if not np.abs(answer - self.expected[which]).max() <= 1e-5:
                self.trouble.append(f"a wrong answer to image {which}")
                return

    def since(self) -> Row:
        """How many answers since the last call, and quantiles of their latencies."""
        latencies = self.latencies[:]
        del self.latencies[: len(latencies)]  # the threads may have added some meanwhile
        if self.trouble:
            raise UserError(f"expected only right answers, got: {self.trouble[0]}")
        low, high = np.quantile(latencies, (0.5, 0.99)) if latencies else (np.nan, np.nan)
        return {P50: float(low), P99: float(high), COUNT: len(latencies)}

    def __enter__(self) -> Clients:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()


def replace_version(model: Path, number: int) -> None:
    """Add the last version again under the next number, `number`, and delete all but these two."""
    copy = model / "copy"
    shutil.copytree(model / str(number - 1), copy)
    copy.rename(model / str(number))
    shutil.rmtree(model / str(number - 2), ignore_errors=True)


def soak_preview(folder: Path, options: argparse.Namespace) -> list[Row]:
    """Rows of a preview under load."""
    synthesize(folder, SENT)
    files = [path.read_bytes() for path in find_images(folder)]
    side, model = options.image_size, folder / "models" / MODEL
    network = GoogLeNet(variant=options.variant, input_shape=(side, side, 3), aux_heads=False)
    version = export_saved_model(network, model)
    run = bare(version)
    expected = np.concatenate([run([file]) for file in files])
    first = newest = int(version.name)
    due = options.turn
    rest, remote = free_port(), free_port()
    ports = ["--rest-port", str(rest), "--grpc-port", str(remote)]
    with (
        started(folder / "log", "serve", str(model), *ports) as server,
        Client(f"http://127.0.0.1:{rest}", model=MODEL) as client,
    ):
        client.wait_until_ready(START)

        def measure(passed: float) -> Row:
            nonlocal newest, due
            versions = client.status()
            if failed := [version for version in versions if version.error]:
                raise UserError(f"expected each version to load; {failed[0]}")
            loaded = max(version.version for version in versions if version.state == "AVAILABLE")
            if passed >= due and loaded == newest:
                newest, due = newest + 1, passed + options.turn
                replace_version(model, newest)
            return clients.since() | {"version": loaded - first + 1}

        senders = [over_rest(f"127.0.0.1:{rest}"), over_grpc(f"127.0.0.1:{remote}")]
        with Clients(senders, files, expected) as clients:
            rows = watch(server, options, measure)
        clients.since()  # the last answers were right, too
    answered, loaded = sum(row[COUNT] for row in rows), rows[-1]["version"]
    if not answered:
        raise UserError(f"expected an answer in {options.minutes:g} minutes")
    print(f"{SERVED}: {answered:,} right answers; {loaded} versions loaded, one after another", flush=True)
    return rows


# --- training --------------------------------------------------------------------------------------


def soak_training(folder: Path, options: argparse.Namespace) -> list[Row]:
    """Rows of a training that reads JPEG files, from its first epoch on."""
    (folder / "photographs").mkdir()
    synthesize(folder / "photographs", TRAINED_ON)
    metrics = folder / "run/metrics.csv"

    def epochs() -> int:
        return max(0, len(metrics.read_text().splitlines()) - 1) if metrics.exists() else 0

    flags = {
        "data": folder / "photographs", "run": folder / "run", "variant": options.variant, "epochs": 100_000,
        "image-size": options.image_size, "batch-size": 16, "augment": "paper",
    }  # fmt: skip
    command = ["train", *(f"--{name}={value}" for name, value in flags.items())]
    with started(folder / "log", *command) as training:
        begun = time.monotonic()
        while not epochs():
            check_alive(training)
            if time.monotonic() - begun > START:
                raise UserError(f"expected an epoch of {TRAINED_ON} images in {START} s")
            time.sleep(0.1)
        rows = watch(training, options, lambda _: {COUNT: epochs()})
    print(f"{TRAINED}: {rows[-1][COUNT]:,} epochs of {TRAINED_ON} images", flush=True)
    return rows


PARTS = {SERVED: soak_preview, TRAINED: soak_training}


# --- reporting -------------------------------------------------------------------------------------


def growth(rows: Sequence[Row], column: str) -> tuple[float, float]:
    """The medians of the second and of the last quarter."""
    quarter = max(1, len(rows) // 4)
    second = rows[quarter : 2 * quarter] or rows
    before, after = ([row[column] for row in part] for part in (second, rows[-quarter:]))
    return float(np.nanmedian(before)), float(np.nanmedian(after))


def draw(rows: dict[str, list[Row]], title: str, path: Path) -> None:
    """Memory, open files and latencies over time."""
    places = [(name, column) for name, those in rows.items() for column in LABELS if column in those[0]]
    figure = Figure(figsize=(10, 1.4 * len(places)), layout="constrained")
    for axes, (name, column) in zip(figure.subplots(len(places) // 2, 2).flat, places, strict=True):
        axes.plot([row["seconds"] / 60 for row in rows[name]], [row[column] for row in rows[name]])
        axes.set_ylim(bottom=0)
        axes.set_title(f"{name}: {LABELS[column]}", fontsize=10)
        axes.set_xlabel("minutes", fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=120)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60, help="of the preview, and of the training (60)")
    parser.add_argument("--turn", type=float, default=30, help="seconds between new versions, at least (30)")
    parser.add_argument("--every", type=float, default=10, help="seconds between samples (10)")
    parser.add_argument("--variant", default="bn")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--to", type=Path, default=Path("results"), help="folder of the figures (results)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args(arguments)
    if not Path("/proc/self/fd").exists():
        raise UserError("expected Linux: memory and open files of a process are read from /proc")
    common = circumstances("keras", "tensorflow", "grpcio") | {
        "variant": options.variant, "image_size": options.image_size, "turn_seconds": options.turn,
    }  # fmt: skip
    absent = dict.fromkeys((P50, P99, COUNT, "version"), "")
    rows: dict[str, list[Row]] = {}
    for name in options.parts:
        with tempfile.TemporaryDirectory() as folder:
            rows[name] = PARTS[name](Path(folder), options)
        for column, label in LABELS.items():
            if column in rows[name][0]:
                before, after = growth(rows[name], column)
                print(
                    f"{name}: {label}: {before:.4g} in the second quarter, {after:.4g} in the last",
                    flush=True,
                )
        table = [common | {"process": of} | absent | row for of, those in rows.items() for row in those]
        write_csv(options.to / "soak.csv", table)  # after each part: the second may fail
        draw(rows, f"{options.variant} at {options.image_size}: {common['machine']}", options.to / "soak.png")
    print(f"wrote {options.to / 'soak.csv'} and {options.to / 'soak.png'}")


if __name__ == "__main__":
    with reported():
        main()
