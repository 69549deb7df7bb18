"""Whether memory, open files or latency grow: the preview under load, then a training, an hour each.

    python benchmarks/soak.py [--minutes 60]

Clients ask a preview for single images over REST and gRPC, all the time. Meanwhile versions come and go: a
new one appears every `--turn` seconds, and the oldest goes. Each answer must be right. Then a training reads
JPEG files, epoch after epoch, with a checkpoint after each. Every few seconds the process's memory and open
files are noted (on Linux alone), and of the preview the latencies since the last note. Growth is the last
quarter's median against the second quarter's.

Leaves `soak.csv` and a picture of it in benchmarks/results.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from photographs import synthesize
from timing import circumstances, write_csv

import serving
from keras_googlenet import GoogLeNet, export_saved_model
from keras_googlenet.data.folders import find_images
from keras_googlenet.errors import UserError, reported

SERVED, TRAINED = "preview", "train"
MEMORY, FILES, P50, P99 = "resident_mb", "open_files", "p50_ms", "p99_ms"
LABELS = {MEMORY: "resident memory, MB", FILES: "open files", P50: "p50, ms", P99: "p99, ms"}

Row = dict[str, Any]


def resident_mb(process: int) -> float:
    """Megabytes that a process has in memory."""
    status = Path(f"/proc/{process}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1000


def open_files(process: int) -> int:
    """Files, sockets and pipes that a process has open."""
    return len(list(Path(f"/proc/{process}/fd").iterdir()))


def watch(
    process: subprocess.Popen[Any], name: str, seconds: float, every: float, more: Callable[[], Row]
) -> list[Row]:
    """Rows of a process's memory and open files while it runs.

    Raises:
        UserError: It ends early.
    """
    begun, rows = time.monotonic(), []
    while (passed := time.monotonic() - begun) < seconds:
        time.sleep(min(every, seconds - passed))
        if process.poll() is not None:
            raise UserError(
                f"expected {name} to run for {seconds:.0f} s, but it ended with {process.returncode}"
            )
        noted = {MEMORY: resident_mb(process.pid), FILES: open_files(process.pid)}
        rows.append({"process": name, "seconds": round(time.monotonic() - begun, 1)} | noted | more())
    return rows


# --- the preview -----------------------------------------------------------------------------------


class Clients:
    """Threads that ask for single images until told to stop; each answer must be the expected one."""

    def __init__(self, senders: Sequence[serving.Send], files: Sequence[bytes], expected: np.ndarray) -> None:
        self.files, self.expected = files, expected
        self.latencies: list[float] = []
        self.answered = 0
        self.trouble: list[str] = []
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.ask, args=(send,)) for send in senders]

    def ask(self, send: serving.Send) -> None:
        """Ask one image after another."""
        number = 0
        while not self.stopped.is_set():
            which = number % len(self.files)
            begun = time.perf_counter()
            try:
                answer = send([self.files[which]])[0]
            except Exception as error:  # each client library has its own
                self.trouble.append(str(error))
                return
            self.latencies.append(1000 * (time.perf_counter() - begun))
            if not np.abs(answer - self.expected[which]).max() <= 1e-5:
                self.trouble.append(f"another answer to image {which}")
                return
            number += 1

    def since(self) -> Row:
        """Quantiles of the latencies since the last call."""
        latencies, self.latencies = self.latencies, []
        self.answered += len(latencies)
        if self.trouble or not latencies:
            raise UserError(f"expected only right answers, got: {(self.trouble or ['none'])[0]}")
        return {P50: float(np.quantile(latencies, 0.5)), P99: float(np.quantile(latencies, 0.99))}

    @contextmanager
    def asking(self) -> Iterator[Clients]:
        """Ask while the block runs."""
        for thread in self.threads:
            thread.start()
        try:
            yield self
        finally:
            self.stopped.set()
            for thread in self.threads:
                thread.join()


def turn_over(model: Path, every: float, stopped: threading.Event, count: list[int]) -> None:
    """Until told to stop, add a version, the same under the next number, and delete the oldest of three."""
    while not stopped.wait(every):
        versions = sorted(int(path.name) for path in model.iterdir() if path.name.isdigit())
        copy = model / "copy"
        shutil.copytree(model / str(versions[-1]), copy)
        copy.rename(model / str(versions[-1] + 1))
        count[0] += 1
        for old in versions[:-1]:
            shutil.rmtree(model / str(old))


def soak_preview(folder: Path, options: argparse.Namespace) -> list[Row]:
    """Rows of a preview under load."""
    (folder / "images").mkdir()
    synthesize(folder / "images", 16)
    files = [path.read_bytes() for path in find_images(folder / "images")]
    side = options.image_size
    network = GoogLeNet(variant=options.variant, input_shape=(side, side, 3), aux_heads=False)
    version = export_saved_model(network, folder / serving.MODEL)
    bare = serving.bare(version)
    expected = np.concatenate([bare([file]) for file in files])
    rest, remote = serving.free_port(), serving.free_port()
    command = [sys.executable, "-m", "keras_googlenet.cli", "serve", str(folder / serving.MODEL)]
    ports = ["--rest-port", str(rest), "--grpc-port", str(remote)]
    with subprocess.Popen([*command, *ports], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            with serving.Client(f"http://127.0.0.1:{rest}", model=serving.MODEL) as client:
                client.wait_until_ready(serving.TIMEOUT)
            senders = [serving.over_rest(f"127.0.0.1:{rest}"), serving.over_grpc(f"127.0.0.1:{remote}")]
            clients, turns = Clients(senders, files, expected), [0]
            turning = threading.Thread(
                target=turn_over, args=(folder / serving.MODEL, options.turn, clients.stopped, turns)
            )
            turning.start()
            with clients.asking():
                rows = watch(server, SERVED, 60 * options.minutes, options.every, clients.since)
            turning.join()
        finally:
            server.terminate()
    print(f"{SERVED}: {clients.answered:,} right answers, {turns[0]} versions came and went", flush=True)
    return rows


# --- training --------------------------------------------------------------------------------------


def soak_training(folder: Path, options: argparse.Namespace) -> list[Row]:
    """Rows of a training that reads JPEG files."""
    (folder / "photos").mkdir()
    synthesize(folder / "photos", 128)
    side = str(options.image_size)
    command = [sys.executable, "-m", "keras_googlenet.cli", "train", "--data", str(folder / "photos")]
    solver = ["--variant", options.variant, "--image-size", side, "--epochs", "100000", "--batch-size", "16"]
    run = ["--run", str(folder / "run"), "--augment", "paper"]
    with subprocess.Popen(
        [*command, *solver, *run], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as training:
        try:
            rows = watch(training, TRAINED, 60 * options.minutes, options.every, dict)
        finally:
            training.send_signal(signal.SIGINT)
    metrics = folder / "run/metrics.csv"
    epochs = len(metrics.read_text().splitlines()) - 1 if metrics.exists() else 0
    print(f"{TRAINED}: {epochs} epochs of 128 images", flush=True)
    return rows


# --- telling ---------------------------------------------------------------------------------------


def quarters(rows: Sequence[Row], column: str) -> tuple[float, float]:
    """The medians of the second and of the last quarter."""
    part = max(1, len(rows) // 4)
    second, last = rows[part : 2 * part] or rows, rows[-part:]
    return median(row[column] for row in second), median(row[column] for row in last)


def draw(rows: Sequence[Row], title: str, path: Path) -> None:
    """Memory, open files and latencies over time."""
    columns = [(name, column) for name in (SERVED, TRAINED) for column in (MEMORY, FILES)]
    figure = Figure(figsize=(10, 8), layout="constrained")
    grid = figure.subplots(3, 2)
    for axes, (name, column) in zip(grid[:2].T.flat, columns, strict=True):
        those = [row for row in rows if row["process"] == name]
        axes.plot([row["seconds"] / 60 for row in those], [row[column] for row in those], color="#1f4e79")
        axes.set_ylim(bottom=0)
        axes.set_title(f"{name}: {LABELS[column]}", fontsize=10)
    served = [row for row in rows if row["process"] == SERVED]
    for axes, column in zip(grid[2], (P50, P99), strict=True):
        axes.plot([row["seconds"] / 60 for row in served], [row[column] for row in served], color="#c55a11")
        axes.set_ylim(bottom=0)
        axes.set_title(f"{SERVED}: latency, {LABELS[column]}", fontsize=10)
        axes.set_xlabel("minutes")
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=120)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60, help="of the preview, and of the training")
    parser.add_argument("--turn", type=float, default=30, help="seconds after which a new version appears")
    parser.add_argument("--every", type=float, default=10, help="seconds between two notes")
    parser.add_argument("--variant", default="bn")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--to", type=Path, default=Path("results"), help="folder of the figures (results)")
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    for soak in (soak_preview, soak_training):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            rows += soak(Path(folder), options)
    for name in (SERVED, TRAINED):
        those = [row for row in rows if row["process"] == name]
        for column in LABELS:
            if column in those[0]:
                before, after = quarters(those, column)
                print(
                    f"{name}: {LABELS[column]}: {before:.4g} in the second quarter, {after:.4g} in the last"
                )
    common = circumstances("keras", "tensorflow", "grpcio") | {
        "variant": options.variant, "image_size": options.image_size, "turn_seconds": options.turn,
    }  # fmt: skip
    write_csv(options.to / "soak.csv", [common | dict.fromkeys((P50, P99), "") | row for row in rows])
    draw(rows, f"{options.variant} at {options.image_size}: {common['machine']}", options.to / "soak.png")
    print(f"wrote {options.to / 'soak.csv'} and {options.to / 'soak.png'}")


if __name__ == "__main__":
    with reported():
        main()
