"""Cost of a second process in a training step, to check the model in docs/scaling.md.

    python benchmarks/two_processes.py

Uses JAX over the loopback interface. One process on one core trains on a batch. Then two processes, one core
each, join as `keras-googlenet train --distributed` does and train on a batch twice as large. Each process
computes as much as before, so the additional time of a step is communication.

This is measured in three modes. By default, each process normalizes by its own share of the batch, and one
all-reduce per step sums gradients and running statistics. With `--gradient-exchange bfloat16`, the gradients
are one all-reduce of half the bytes, and the statistics another. With `--sync-batch-norm`, XLA reduces each
gradient and each batch normalization's statistics separately. The processes also time two all-reduces alone:
an array as large as the gradients, and a single number.

The model predicts the step time of two processes as the sum of: the step of one process, the large
all-reduce, and the small all-reduce times the number of exchanges. That number is 1 by default, 2 with
bfloat16; with `--sync-batch-norm` it is one per variable and four per batch normalization (mean, variance,
and two for its gradient).

Writes `two_processes.csv`.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

if __name__ == "__main__":  # before Keras is imported
    os.environ["KERAS_BACKEND"] = "jax"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from timing import circumstances, write_csv

from keras_googlenet import RunConfig
from keras_googlenet.errors import UserError, reported
from keras_googlenet.images.spec import Preprocessing
from keras_googlenet.training import distribution
from keras_googlenet.training.network import build_for_training

CLASSES = 1000
MODES: dict[str, list[str]] = {
    "of each device": [],
    "of each device, gradients in bfloat16": ["--gradient-exchange", "bfloat16"],
    "of all devices": ["--sync-batch-norm"],
}


class Times(keras.callbacks.Callback):
    """Records the seconds per step of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.begun = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds.append((time.perf_counter() - self.begun) / self.params["steps"])


def train(options: argparse.Namespace) -> dict[str, Any]:
    """Run in a separate process: seconds of a step, and of an all-reduce as large as the gradients."""
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[options.process]})
    if options.processes > 1:
        distribution.connect(options.address, options.processes, options.process)
    config = RunConfig(
        data="none",
        run=Path("none"),
        variant=options.variant,
        width=options.width,
        sync_batch_norm=options.sync_batch_norm,
        gradient_exchange=options.gradient_exchange,
    )
    side, heads = options.image_size, 3
    with distribution.scope():
        model = build_for_training(config, Preprocessing(side, side, 3), CLASSES, "float32")
        model.optimizer.build(model.trainable_variables)
    random = np.random.default_rng(options.process)
    images = random.standard_normal((options.batch_size, side, side, 3), "float32")
    labels = np.eye(CLASSES, dtype="float32")[random.integers(0, CLASSES, options.batch_size)]

    def batches() -> Iterator[Any]:
        while True:
            yield images, (labels,) * heads

    times = Times()
    model.fit(
        batches(),
        steps_per_epoch=options.steps,
        epochs=1 + options.rounds,
        callbacks=[times],
        verbose=0,
        shuffle=False,
    )
    values = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    normalizations = sum(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers)
    exchanges = 1 if options.gradient_exchange == "float32" else 2
    if options.sync_batch_norm:
        exchanges = len(model.trainable_variables) + 4 * normalizations
    return {
        "values": values,
        "exchanges": exchanges,
        "step": times.seconds[1:],  # without the first epoch, which compiles
        "sum": sums(values, options.rounds, options.gradient_exchange),
        "latency": sums(1, 20 * options.rounds),
    }


def sums(values: int, rounds: int, dtype: str = "float32") -> list[float]:
    """Seconds of an all-reduce of one array per process."""
    import jax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    mesh = Mesh(np.array(jax.devices()), ("process",))
    mine = np.ones((1, values), dtype)
    array = jax.make_array_from_process_local_data(NamedSharding(mesh, PartitionSpec("process")), mine)
    add = jax.jit(lambda x: x.sum(axis=0), out_shardings=NamedSharding(mesh, PartitionSpec()))
    add(array).block_until_ready()
    found = []
    for _ in range(rounds):
        begun = time.perf_counter()
        add(array).block_until_ready()
        found.append(time.perf_counter() - begun)
    return found


def measure(processes: int, arguments: Sequence[str]) -> dict[str, Any]:
    """Start the processes and return the figures of the first one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, __file__, *arguments, "--processes", str(processes), "--address", address]
    begun = [
        subprocess.Popen([*command, "--process", str(number)], stdout=subprocess.PIPE, text=True)
        for number in range(processes)
    ]
    first, *_ = [process.communicate()[0] for process in begun]
    if any(process.returncode for process in begun):
        raise UserError(f"a process of {processes} failed")
    return dict(json.loads(first.splitlines()[-1]))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--variant", default="bn")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--image-size", type=int, default=80)
    parser.add_argument("--batch-size", type=int, default=8, help="of each process")
    parser.add_argument("--steps", type=int, default=3, help="in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--to", type=Path, default=Path("results"), help="folder of the figures (results)")
    parser.add_argument("--sync-batch-norm", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--gradient-exchange", default="float32", help=argparse.SUPPRESS)
    parser.add_argument("--processes", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--process", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(given)
    if options.processes is not None:
        print(json.dumps(train(options)))
        return
    one = measure(1, given)
    rows = [compared(mode, one, measure(2, [*given, *flags]), options) for mode, flags in MODES.items()]
    write_csv(options.to / "two_processes.csv", [circumstances("keras", "jax") | row for row in rows])
    print(f"wrote {options.to / 'two_processes.csv'}")


def compared(
    mode: str, one: dict[str, Any], two: dict[str, Any], options: argparse.Namespace
) -> dict[str, Any]:
    """Print and return a row: one process, two processes, and the prediction of the model."""
    alone, together, exchange = median(one["step"]), median(two["step"]), median(two["sum"])
    latency = median(two["latency"])
    expected = alone + exchange + two["exchanges"] * latency
    row = {
        "batch_statistics": mode,
        "variant": options.variant, "width": options.width, "image_size": options.image_size,
        "batch_size": options.batch_size, "parameters": one["values"], "rounds": options.rounds,
        "step_of_one": alone, "sum_of_two": exchange, "step_of_two": together,
        "exchanges": two["exchanges"], "latency": latency, "expected": expected,
        "expected_to_measured": expected / together, "efficiency": alone / together,
    }  # fmt: skip
    for name, value in row.items():
        print(f"{name:22} {value:.4g}" if isinstance(value, float) else f"{name:22} {value}")
    return row


if __name__ == "__main__":
    with reported():
        main()
