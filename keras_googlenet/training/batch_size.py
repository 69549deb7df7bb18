"""`batch_size="auto"`: the largest batch that fits, found by taking real steps in a separate process.

The batch size doubles from `first()` on. On a GPU it doubles until memory is exhausted. On a CPU that would
kill other programs, so it doubles while the next batch, extrapolated from the last two, fits in the available
memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from typing import Any

import keras
import numpy as np

from keras_googlenet.data import parts
from keras_googlenet.data.parts import ImageData
from keras_googlenet.errors import UserError
from keras_googlenet.images.spec import Preprocessing
from keras_googlenet.run.config import RunConfig
from keras_googlenet.text import say
from keras_googlenet.training import distribution, memory
from keras_googlenet.training.memory import GB, MB
from keras_googlenet.training.network import build_for_training
from keras_googlenet.training.precision import dtype_policy

FEWEST = 8  # images in the first batch that is tried
MOST = 512  # few epochs of larger batches change the weights little
LEAST_STEPS = 8  # in an epoch
SHARE = 0.8  # of the available memory
STEPS = 2  # the first one makes what the second keeps


@dataclass(frozen=True)
class Tried:
    """A batch size that steps were taken with."""

    batch_size: int
    peak_bytes: int
    """On a CPU, the most of the memory that the process had; on a GPU, the most that was allocated."""


@dataclass(frozen=True)
class Found:
    """The largest batch size that fits."""

    batch_size: int
    peak_bytes: int
    bytes_per_image: int
    """By how much the peak grew with each image that was added."""


def first() -> int:
    """The first batch that is tried: it has the same number of images for each device."""
    return distribution.devices() * -(-FEWEST // distribution.devices())


def with_largest_batch(
    config: RunConfig, preprocessing: Preprocessing, data: ImageData
) -> tuple[RunConfig, int]:
    """The options of a run with the largest batch size in place of "auto", and the bytes for each image.

    Raises:
        UserError: Not even the smallest batch fits.
    """
    classes, most = len(data.class_names), max(first(), min(MOST, data.train.count // LEAST_STEPS))
    shape = (data.train.count, preprocessing.height, preprocessing.width, preprocessing.channels)
    images = min(2 * int(np.prod(shape)), parts.MEMORY_BYTES)  # which the run may also hold
    limit = int(SHARE * memory.available_bytes()) - images
    found = find(config, preprocessing, classes, most, limit)
    say(
        f"{config.run}: batches of {found.batch_size}, the largest of {first()}, {2 * first()} and so on to "
        f"{most} that fit ({found.peak_bytes / GB:.1f} GB, {found.bytes_per_image / MB:.1f} MB an image); "
        f"the learning rate stays {config.learning_rate:g}",
        flush=True,
    )
    return replace(config, batch_size=found.batch_size), found.bytes_per_image


def find(config: RunConfig, preprocessing: Preprocessing, classes: int, most: int, limit: int) -> Found:
    """The largest batch size up to `most` that fits; a CPU's steps may take `limit` bytes.

    Raises:
        UserError: There is none.
    """
    request = {
        "config": config.to_dict(),
        "preprocessing": preprocessing.to_dict(),
        "classes": classes,
        "most": most,
        "limit": limit,
    }
    child = subprocess.run(
        [sys.executable, "-m", __name__],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        env=os.environ | {"KERAS_BACKEND": keras.backend.backend()},
    )
    # A process that ran out of memory may have been killed: what it printed before is valid.
    tried = [Tried(**json.loads(line)) for line in child.stdout.splitlines() if line.startswith("{")]
    if len(tried) < 2:  # the first is that of no step
        if child.returncode > 0:
            raise UserError(f"cannot try batch sizes: {child.stderr.strip().splitlines()[-1]}")
        raise UserError(
            f"expected memory for a batch of {first()} images at least ({max(limit, 0) / GB:.1f} GB are "
            "available): choose a smaller `image_size`, or give `batch_size`"
        )
    before, last = tried[-2:]
    growth = (last.peak_bytes - before.peak_bytes) / (last.batch_size - before.batch_size)
    return Found(last.batch_size, last.peak_bytes, round(growth))


def foretold(before: Tried, last: Tried) -> float:
    """The peak of a batch twice as large as `last`, from the growth between two."""
    return last.peak_bytes + last.batch_size * (
        (last.peak_bytes - before.peak_bytes) / (last.batch_size - before.batch_size)
    )


def main() -> None:
    """Run in the separate process: try batch sizes, and print each that fits on its line."""
    request = json.load(sys.stdin)
    config = RunConfig.from_dict(request["config"])
    preprocessing = Preprocessing.from_dict(request["preprocessing"])
    with distribution.scope():
        model = build_for_training(config, preprocessing, request["classes"], dtype_policy(config.precision))
        model.optimizer.build(model.trainable_variables)
    before = tell(Tried(0, _peak()))
    size = first()
    while size <= request["most"]:
        try:
            _take_steps(model, size, request["classes"])
        except Exception as error:
            if memory.is_exhausted(error):
                return
            raise
        last = Tried(size, _peak())
        if memory.device_peak() is None and last.peak_bytes > request["limit"]:
            return
        tell(last)
        if memory.device_peak() is None and foretold(before, last) > request["limit"]:
            return
        before = last
        size *= 2


def tell(tried: Tried) -> Tried:
    """Print it as a line of JSON at once."""
    say(json.dumps(asdict(tried)), flush=True)
    return tried


def _peak() -> int:
    on_device = memory.device_peak()
    return memory.resident_peak() if on_device is None else on_device


def _take_steps(model: keras.Model, batch_size: int, classes: int) -> None:
    random = np.random.default_rng(0)
    images = random.standard_normal((batch_size, *model.input_shape[1:]), "float32")
    labels = np.eye(classes, dtype="float32")[random.integers(0, classes, batch_size)]
    heads = len(model.outputs)
    targets: Any = [labels] * heads if heads > 1 else labels
    for _ in range(STEPS):
        model.train_on_batch(images, targets)


if __name__ == "__main__":
    main()
