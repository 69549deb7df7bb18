"""Throughput of training images from a set of TensorFlow Datasets against the folder it was made of.

    python benchmarks/tfds_set.py [--data FOLDER] [--megabytes 300]

Both hold the same JPEG files, and `prepare --tfds` writes the set. One process, or two at once, read them in
the same order, decode them and make batches of them, as training does. A process believes that the machine's
memory is a third of the set's size, so neither the files nor the decoded images are held. The files are in
the system's cache: the disk is not measured.

Writes `tfds_set.csv`: images/s of all processes together, the ratio to the
folder's, the seconds to open the data (a folder's images are all decoded once, to find corrupt ones), and the
memory by which a process grew at its peak after its first batches of a few other images.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from photographs import copy_photographs, synthesize
from timing import alternate, circumstances, memory, ratio, spread, write_csv

from keras_googlenet.errors import UserError, reported

STATUS = Path("/proc/self/status")
FOLDER, SET = "folder", "set"
NAME = "benchmark"  # of the set
ENDLESS = 10_000  # epochs
WARM = 8  # images of the first batches
DRAIN = 0.4  # of a round's seconds: batches made while others were measured are ready at once
MB = 1e6


@dataclass(frozen=True)
class Task:
    """What a process feeds: a share of the batches of a data set."""

    data: str
    warm: Path
    limit: int
    size: int
    batch_size: int
    process: int
    processes: int


def feed(pipe: Connection, task: Task) -> None:
    """In a separate process: answers a number of seconds with images a second, and `None` with its memory."""
    from keras_googlenet.data import parts
    from keras_googlenet.data.sources import load_data

    take(batches(load_data(str(task.warm)).train, task, WARM), 0)
    before = memory("self")
    STATUS.with_name("clear_refs").write_text("5")  # the peak begins anew
    parts.MEMORY_BYTES = task.limit // 4
    begun = time.perf_counter()
    running = batches(load_data(task.data).train, task, task.batch_size)
    pipe.send(time.perf_counter() - begun)
    take(running, 0)
    while (seconds := pipe.recv()) is not None:
        take(running, DRAIN * seconds)
        images, taken = take(running, seconds)
        pipe.send(images / taken)
    pipe.send(memory("self", "VmHWM") - before)


def batches(part: Any, task: Task, batch_size: int) -> Iterator[Any]:
    """A process's share of batches as training makes them, without end."""
    from keras_googlenet.data.batch_spec import BatchSpec
    from keras_googlenet.data.order import Cursor, Order
    from keras_googlenet.data.training_batches import training_batches
    from keras_googlenet.images.spec import Preprocessing

    order = Order(part.count, batch_size, 0, epochs=ENDLESS, process=task.process, processes=task.processes)
    spec = BatchSpec(classes=1 + int(part.labels.max()))
    return iter(training_batches(part, Preprocessing(task.size, task.size, 3), order, Cursor(), spec))


def take(running: Iterator[Any], seconds: float) -> tuple[int, float]:
    """Take batches for so long: how many images they held, and the seconds to the end of the last one."""
    images, begun = 0, time.perf_counter()
    while not images or time.perf_counter() - begun < seconds:
        images += len(next(running)[0])
    return images, time.perf_counter() - begun


@contextmanager
def started(tasks: Sequence[Task]) -> Iterator[list[Connection]]:
    """Processes that feed, one for each task."""
    context, pipes, processes = multiprocessing.get_context("spawn"), [], []
    for task in tasks:
        ours, theirs = context.Pipe()
        processes.append(context.Process(target=feed, args=(theirs, task), daemon=True))
        processes[-1].start()
        theirs.close()
        pipes.append(ours)
    try:
        yield pipes
    except EOFError:
        raise UserError("a process ended early; its error is above") from None
    finally:
        for process in processes:
            process.terminate()
            process.join()


def together(pipes: Sequence[Connection], seconds: float | None) -> list[float]:
    """Ask all at once; their answers."""
    for pipe in pipes:
        pipe.send(seconds)
    return [pipe.recv() for pipe in pipes]


def compare(
    data: dict[str, str], processes: int, rounds: int, seconds: float, **options: Any
) -> list[dict[str, Any]]:
    """A row for the folder and one for the set, each fed by so many processes."""
    tasks = [
        Task(of, process=process, processes=processes, **options)
        for of in data.values()
        for process in range(processes)
    ]
    with started(tasks) as pipes:
        fed = dict(zip(data, (pipes[:processes], pipes[processes:]), strict=True))
        opened = {name: max(pipe.recv() for pipe in those) for name, those in fed.items()}

        def measured(those: Sequence[Connection]) -> float:
            return sum(together(those, seconds))

        rates = alternate({name: partial(measured, those) for name, those in fed.items()}, rounds)
        peaks = {name: max(together(those, None)) for name, those in fed.items()}
    found = []
    for name, of_name in rates.items():
        rate, times = spread(of_name), ratio(of_name, rates[FOLDER])
        memory = f"{peaks[name] / MB:.0f} MB, for a limit of {options['limit'] / MB:.0f} MB"
        print(f"{processes} x {name:6} {rate} images/s, {times} times the folder; {memory}", flush=True)
        found.append({
            "storage": name, "processes": processes, "images_per_second": rate.median,
            "images_per_second_low": rate.low, "images_per_second_high": rate.high,
            "times_folder": times.median, "times_folder_low": times.low, "times_folder_high": times.high,
            "open_seconds": opened[name], "peak_mb": peaks[name] / MB, "limit_mb": options["limit"] / MB,
        })  # fmt: skip
    return found


def repeat(folder: Path, size: int) -> int:
    """Copy the files of class folders next to themselves up to a total of bytes; returns it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    total = sum(path.stat().st_size for path in files)
    for number, path in zip(itertools.count(), itertools.cycle(files)):
        if total >= size:
            return total
        shutil.copyfile(path, path.with_name(f"copy{number:07}{path.suffix}"))
        total += path.stat().st_size
    raise AssertionError("endless")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of class folders of photographs; else synthesized")
    parser.add_argument("--images", type=int, default=256, help="different images")
    parser.add_argument("--megabytes", type=float, default=300, help="of all files; images are copied")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--processes", type=int, nargs="+", default=(1, 2), help="at once")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="in a round, of each")
    parser.add_argument("--to", type=Path, default=Path("results"), help="folder of the figures (results)")
    options = parser.parse_args(arguments)
    if not STATUS.exists():
        raise UserError("expected Linux: the memory of a process is read from /proc")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "warm").mkdir()
        synthesize(place / "warm", 4 * WARM)
        folder = place / "photographs"
        folder.mkdir()
        if options.data is None:
            synthesize(folder, options.images)
        else:
            copy_photographs(options.data, folder, options.images)
        size = repeat(folder, int(options.megabytes * MB))
        os.environ["TFDS_DATA_DIR"] = name  # read once, when it is imported
        from keras_googlenet.data.tfds_writing import write_set

        counts = write_set(folder, NAME).counts
        common = circumstances("tensorflow", "tensorflow-datasets") | {
            "data": "synthesized" if options.data is None else "photographs",
            "images": sum(counts.values()),
            "set_mb": size / MB,
            "image_size": options.image_size,
            "batch_size": options.batch_size,
            "rounds": options.rounds,
            "seconds": options.seconds,
        }
        rows = []
        for processes in options.processes:
            rows += compare(
                {FOLDER: str(folder), SET: f"tfds:{NAME}"},
                processes,
                options.rounds,
                options.seconds,
                warm=place / "warm",
                limit=size // 3,
                size=options.image_size,
                batch_size=options.batch_size,
            )
    write_csv(options.to / "tfds_set.csv", [common | row for row in rows])
    print(f"wrote {options.to / 'tfds_set.csv'}")


if __name__ == "__main__":
    with reported():
        main()
