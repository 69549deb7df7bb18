"""Where the time of a training step on JAX goes: by parts of the step, and by kernels of the GPU."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from training_steps import JaxStep

TRACED = 5  # steps

# The first pattern in a kernel's name says what it does. XLA names its fusions after an operation in them.
KINDS = {
    "convolution": r"fprop|dgrad|wgrad|conv(?!ert)|implicit",
    "matrix product": r"gemm|cublas|cutlass|nvjet|\bdot",
    "max pooling, gradient": r"select.and.scatter|scatter",
    "pooling": r"reduce.window|pool",
    "copy or change of layout": r"memcpy|memset|copy|transpose|nchw|nhwc",
    "reduction: normalization, loss, gradients of biases": r"reduce",
    "elementwise: ReLU, normalization, optimizer": r"fusion|add|multiply|maximum|select|convert|broadcast",
}


def parts(step: JaxStep, seconds: float) -> Iterator[tuple[str, float]]:
    """Seconds for the whole step, with a batch of the host, and for what a step begins with."""
    import jax

    model, (images, labels) = step.model, step.batch
    host = jax.device_get(step.batch)
    wait = jax.block_until_ready
    yield "whole step", _seconds(lambda: step(), wait, seconds)
    yield "whole step, its batch from the host's memory", _seconds(lambda: step(host), wait, seconds)

    def loss(trainable: Any, others: Any, optimizer: Any, metrics: Any, images: Any, labels: Any) -> Any:
        return model.compute_loss_and_updates(
            trainable, others, metrics, images, labels, None, training=True, optimizer_variables=optimizer
        )[0]

    for name, function in (("forward", loss), ("forward and backward", jax.value_and_grad(loss))):
        part = partial(jax.jit(function), *step.state, images, labels)
        yield name, _seconds(part, wait, seconds)


def _seconds(run: Callable[[], Any], wait: Callable[[Any], Any], seconds: float) -> float:
    wait(run())  # which compiles
    begun, runs = time.perf_counter(), 0
    while (taken := time.perf_counter() - begun) < seconds or not runs:
        results = [run() for _ in range(TRACED)]
        wait(results[-1])
        runs += TRACED
    return taken / runs


def kernels(step: JaxStep) -> dict[str, float]:
    """Milliseconds of a step in each kernel, the longest first; kernels that differ by a number are one."""
    import jax

    with TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready([step() for _ in range(TRACED)][-1])
        (file,) = Path(folder).rglob("*.xplane.pb")
        planes = list(jax.profiler.ProfileData.from_file(str(file)).planes)
    of_gpu = [plane for plane in planes if plane.name.startswith("/device:GPU")]
    lines = [line for plane in of_gpu or planes for line in plane.lines]
    wanted = re.compile("Stream" if of_gpu else "XLA")  # without a GPU: XLA's threads, to try this out
    total: Counter[str] = Counter()
    for line in lines:
        if wanted.search(line.name or ""):
            for event in line.events:
                total[re.sub(r"[._]?\d+$", "", event.name)] += event.duration_ns / 1e6 / TRACED
    return dict(total.most_common())


def kind(kernel: str) -> str:
    """What a kernel does, of `KINDS`."""
    name = kernel.lower()
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, name)), "other")
