"""One device, several, or several machines: the same run, each process with its share of every batch."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import numpy as np

from keras_googlenet.data.parts import Part


def this_process() -> tuple[int, int]:
    """This process's number, and how many there are."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.process_index(), jax.process_count()
    return 0, 1


def is_first() -> bool:
    """Whether this process is the one that writes files."""
    return this_process()[0] == 0


def devices() -> int:
    """Devices of all processes, among which a batch is divided."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.device_count()
    return max(1, len(_tensorflow_devices()))


def description() -> str:
    """What a run's first line says of its devices."""
    processes = this_process()[1]
    return (f", {devices()} devices" * (devices() > 1)) + (f", {processes} processes" * (processes > 1))


def scope() -> AbstractContextManager[Any]:
    """Where a network is built so that it trains on all devices. With JAX, this holds until `end`."""
    if devices() == 1:
        return nullcontext()
    if keras.backend.backend() == "jax":
        # Each process reads its own share of a batch already.
        keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
        return nullcontext()
    import tensorflow as tf

    return tf.distribute.MirroredStrategy([device.name for device in _tensorflow_devices()]).scope()


def end() -> None:
    """Go back to one device for models built from here on."""
    if keras.backend.backend() == "jax":
        keras.distribution.set_distribution(None)


def share(part: Part) -> Part:
    """This process's images of a part, as many as every other's: a few may be left out."""
    process, processes = this_process()
    if devices() == 1:
        return part
    whole = part.count - part.count % devices()
    return part.take(np.arange(whole)[process::processes])


def divisible(batch_size: int) -> int:
    """The largest size up to `batch_size` of one process's batches that its devices can divide."""
    local = max(1, devices() // this_process()[1])
    return max(local, batch_size - batch_size % local)


def _tensorflow_devices() -> list[Any]:
    import tensorflow as tf

    return tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
