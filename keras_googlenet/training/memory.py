"""Available memory, and peak use."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras

from keras_googlenet.errors import UserError
from keras_googlenet.text import reason

MEMORY_INFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
DISK_FULL = "No space left on device"
GB, MB = 1e9, 1e6


@contextmanager
def guarded() -> Iterator[None]:
    """If memory or the disk runs out, end with one line that says what to do.

    Raises:
        UserError: Memory or the disk ran out.
    """
    try:
        yield
    except Exception as error:
        if DISK_FULL in str(error):  # of HDF5, TensorFlow or the system
            raise UserError(f"the disk is full ({reason(error)}): free some space, then rerun") from None
        if not is_exhausted(error):
            raise
        raise UserError(
            f"out of memory ({reason(error)}): choose a smaller `batch_size`, `image_size` or `width`"
        ) from None


def is_exhausted(error: Exception) -> bool:
    """Whether memory ran out, of the processor or of an accelerator."""
    return isinstance(error, MemoryError) or "exhausted" in f"{type(error).__name__} {error}".lower()


def available_bytes() -> int:
    """Memory that a new process can use: what is left of the machine's or the container's."""
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if MEMORY_INFO.exists():
        fields = dict(line.split(":") for line in MEMORY_INFO.read_text().splitlines())
        free = 1024 * int(fields["MemAvailable"].split()[0])
    most, used, parts = (CGROUP / f"memory.{name}" for name in ("max", "current", "stat"))
    if most.exists() and (text := most.read_text().strip()) != "max":
        figures = dict(line.split() for line in parts.read_text().splitlines()) if parts.exists() else {}
        files = sum(int(figures.get(name, 0)) for name in ("active_file", "inactive_file"))
        free = min(free, int(text) - int(used.read_text()) + files)  # the kernel drops files where it must
    return free


def resident_peak() -> int:
    """The most memory that this process has had, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def device_peak() -> int | None:
    """The most of a GPU's memory that was allocated, in bytes; None on a CPU."""
    if keras.backend.backend() == "jax":
        import jax

        statistics = jax.local_devices()[0].memory_stats() or {}
        return statistics.get("peak_bytes_in_use")
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        return None
    return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])
