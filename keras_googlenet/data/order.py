"""The order of a run's images: a function of its seed and epoch, so that it can resume anywhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Cursor:
    """Where training stands: epochs completed, and steps of the current one."""

    epoch: int = 0
    step: int = 0


@dataclass(frozen=True, eq=False)
class Order:
    """How an epoch's images are divided into batches, and which images of each batch this process gets.

    Every epoch has `steps` full batches; the few images left over differ from one to the next.
    """

    count: int
    """Training images."""
    batch_size: int
    """Images in a batch, of all processes together."""
    seed: int
    epochs: int
    process: int = 0
    processes: int = 1
    devices: int = 1
    """Of all processes together; each takes as many images of a batch."""
    labels: np.ndarray | None = None
    """int (images,): to draw each class equally often, those of small classes more than once in an epoch."""

    @property
    def size(self) -> int:
        """Images in a batch; fewer than requested if the data set is smaller."""
        whole = min(self.batch_size, self.count)
        return whole - whole % max(self.devices, self.processes)

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return self.count // self.size

    def of_epoch(self, epoch: int, first_step: int = 0) -> np.ndarray:
        """int64 (images, 2): each image's index, and its number in the run, from `first_step` on."""
        random = np.random.default_rng([self.seed, epoch])
        shuffled = random.permutation(self.count) if self.labels is None else _balanced(self.labels, random)
        numbers = np.arange(epoch * self.count, epoch * self.count + self.count)
        both = np.stack([shuffled, numbers], axis=1)[: self.steps * self.size]
        mine = both.reshape(self.steps, self.size, 2)[first_step:, self.process :: self.processes]
        return mine.reshape(-1, 2).astype("int64")

    def epochs_from(self, cursor: Cursor) -> np.ndarray:
        """int64 (epochs, 2): epochs to go, and the first step of each."""
        to_go = [[epoch, 0] for epoch in range(cursor.epoch, self.epochs)]
        if to_go:
            to_go[0][1] = cursor.step
        return np.array(to_go, "int64").reshape(-1, 2)


def _balanced(labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """As many indices as images, the same number per class; within a class, all images before a repeat."""
    classes = random.permutation(np.unique(labels))
    chosen = []
    for place, label in enumerate(classes):
        members = np.flatnonzero(labels == label)
        wanted = (len(labels) + place) // len(classes)
        rounds = -(-wanted // len(members))
        chosen.append(np.concatenate([random.permutation(members) for _ in range(rounds)])[:wanted])
    return random.permutation(np.concatenate(chosen))
