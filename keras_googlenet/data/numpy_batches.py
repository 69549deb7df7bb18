"""Batches in NumPy, for machines without TensorFlow: what `loading` and `training_batches` do there."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import keras
import numpy as np

from keras_googlenet.data.augmentations import Draws, Turn, check_numpy, of_batches, of_images
from keras_googlenet.data.batch_spec import BatchSpec
from keras_googlenet.data.order import Cursor, Order
from keras_googlenet.data.parts import Part
from keras_googlenet.images.numpy import decode, resize, to_channels
from keras_googlenet.images.spec import Preprocessing

WORKERS = os.cpu_count() or 1


def batches(
    part: Part,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    outputs: int = 1,
    classes: int | None = None,
    keep: bool = False,
) -> keras.utils.PyDataset:
    """Batches for evaluation, as from `loading.batches`, except that none are kept in memory."""
    return _Evaluation(part, preprocessing, batch_size, outputs, classes)


class _Evaluation(keras.utils.PyDataset):
    def __init__(
        self, part: Part, preprocessing: Preprocessing, batch_size: int, outputs: int, classes: int | None
    ) -> None:
        super().__init__(workers=WORKERS)
        self.part, self.preprocessing, self.batch_size = part, preprocessing, batch_size
        self.outputs, self.classes = outputs, classes

    def __len__(self) -> int:
        return -(-self.part.count // self.batch_size)

    def __getitem__(self, batch: int) -> tuple[Any, ...]:
        indices = range(self.part.count)[batch * self.batch_size : (batch + 1) * self.batch_size]
        images = np.stack([load(self.part, index, self.preprocessing) for index in indices])
        labels = self.part.labels[indices.start : indices.stop]
        if self.classes is not None:
            labels = np.eye(self.classes, dtype="float32")[labels]
        return self.preprocessing.normalize(images), repeated(labels, self.outputs)


def training_batches(
    part: Part, preprocessing: Preprocessing, order: Order, cursor: Cursor, spec: BatchSpec
) -> Iterator[tuple[Any, ...]]:
    """Training batches; see `training_batches.training_batches`. The random numbers are NumPy's.

    They are not a `PyDataset`: with an endless one, Keras on JAX loses the first batch. It also refuses
    another epoch after one that ended early, such as an epoch resumed in its middle.

    Raises:
        UserError: An augmentation needs TensorFlow.
    """
    check_numpy(spec.augment)
    training = _Training(part, preprocessing, order, spec)
    first = cursor.epoch * order.steps + cursor.step
    return ahead(training.batch, range(first, order.epochs * order.steps))


def ahead(make: Callable[[int], Any], numbers: Sequence[int]) -> Iterator[Any]:
    """The results of `make` for each number, in order. Threads compute the next few in advance."""
    with ThreadPoolExecutor(WORKERS) as pool:
        begun: deque[Future[Any]] = deque()
        for number in numbers:
            begun.append(pool.submit(make, number))
            if len(begun) > 2 * WORKERS:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()


@lru_cache(maxsize=2)
def _of_epoch(order: Order, epoch: int) -> np.ndarray:
    return order.of_epoch(epoch)


@dataclass(frozen=True)
class _Training:
    part: Part
    preprocessing: Preprocessing
    order: Order
    spec: BatchSpec

    def batch(self, number: int) -> tuple[Any, ...]:
        """The batch of a step, counted over all epochs."""
        spec = self.spec
        size = self.order.size // self.order.processes
        epoch, step = divmod(number, self.order.steps)
        pairs = _of_epoch(self.order, epoch)[step * size : (step + 1) * size]
        images = np.stack([self._image(index, number) for index, number in pairs])
        of_image = self.part.labels[pairs[:, 0]]
        shares = np.eye(spec.classes, dtype="float32")[of_image]
        mixing = of_batches(spec.augment)
        if mixing:
            random = np.random.default_rng([self.order.seed, pairs[0, 1], 1])
            mix = mixing[random.integers(len(mixing))] if len(mixing) > 1 else mixing[0]
            assert mix.numpy is not None  # `check_numpy` has seen to it
            images, shares = mix.numpy(images, shares, random)
        labels = shares * (1 - spec.label_smoothing) + spec.label_smoothing / spec.classes
        result = (self.preprocessing.normalize(images), repeated(labels.astype("float32"), spec.outputs))
        if spec.class_weights is None:
            return result
        return (*result, repeated((shares @ spec.class_weights).astype("float32"), spec.outputs))

    def _image(self, index: int, number: int) -> np.ndarray:
        pixels = np.rint(load(self.part, index, self.preprocessing))  # as tf.data holds it in memory
        turn = Turn(self.order.seed, index, number // self.order.count)
        draws = Draws(np.random.default_rng([self.order.seed, number]), turn)
        for each in of_images(self.spec.augment):
            assert each.numpy is not None
            pixels = each.numpy(pixels, draws)
        return pixels


def load(part: Part, index: int, preprocessing: Preprocessing) -> np.ndarray:
    """An image at the network's size, float32 in 0..255, (height, width, channels)."""
    image = part.images[index]
    if isinstance(image, np.ndarray):
        return resize(to_channels(image, preprocessing.channels), preprocessing)
    encoded = image if isinstance(image, bytes) else image.read_bytes()
    pixels = decode(
        encoded, preprocessing.channels, turns=preprocessing.turns, background=preprocessing.background
    )
    return resize(pixels, preprocessing)


def repeated(values: np.ndarray, outputs: int) -> Any:
    """The same for each output of the network."""
    return values if outputs == 1 else (values,) * outputs
