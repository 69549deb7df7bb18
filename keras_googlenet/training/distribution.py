"""One device, several, or several machines: the same run, each process with its share of every batch."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import numpy as np

from keras_googlenet.data.parts import Part
from keras_googlenet.errors import UserError
from keras_googlenet.text import reason

SLURM_PORT = 12321  # of the first process, where Slurm starts them


def this_process() -> tuple[int, int]:
    """This process's number, and the number of processes."""
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
    """The context in which to build a network that trains on all devices. With JAX, it lasts until `end`."""
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
    """This process's images of a part, as many as in every other process; a few may be left out."""
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


def connect(
    coordinator_address: str | None = None,
    processes: int | None = None,
    process_id: int | None = None,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Join this process to the others of a run, before anything is computed. JAX backend only.

    Args:
        coordinator_address: Address of the first process, `host:port`.
        processes: Number of processes.
        process_id: Number of this process, from 0.
        environment: Source of values that are not given: `KERAS_DISTRIBUTION_*`; Slurm's variables, whose
            first host runs the first process; or those of a Kubernetes job with indexed completion.

    Raises:
        UserError: The backend is not JAX, a value is missing, or the other processes cannot be reached.
    """
    if keras.backend.backend() != "jax":
        raise UserError(
            "several processes train together on the JAX backend alone: set KERAS_BACKEND=jax "
            f"(it is {keras.backend.backend()})"
        )
    found = from_environment(environment)
    coordinator_address = coordinator_address or found.get("address")
    processes = processes if processes is not None else _number(found.get("processes"))
    process_id = process_id if process_id is not None else _number(found.get("process"))
    missing = [
        f"`{name}`"
        for name, value in (
            ("coordinator_address", coordinator_address),
            ("processes", processes),
            ("process_id", process_id),
        )
        if value is None
    ]
    if missing:
        raise UserError(
            f"expected {', '.join(missing)}, or the environment of Slurm, Kubernetes or Keras, to "
            "train in several processes"
        )
    if not 0 <= (process_id or 0) < (processes or 0):
        raise UserError(f"expected `process_id` from 0 to {(processes or 0) - 1}, got {process_id}")
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")  # of processors; GPUs have their own
    try:
        keras.distribution.initialize(coordinator_address, processes, process_id)
    except Exception as error:  # of JAX's runtime, gRPC or the system
        raise UserError(
            f"process {process_id} cannot join the others at {coordinator_address}: {reason(error)}"
        ) from error


def from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What a launcher says about the processes: `address`, `processes` and `process`, as far as known."""
    launchers = (
        {
            "address": environment.get("KERAS_DISTRIBUTION_JOB_ADDRESSES", "").split(",")[0],
            "processes": environment.get("KERAS_DISTRIBUTION_NUM_PROCESSES", ""),
            "process": environment.get("KERAS_DISTRIBUTION_PROCESS_ID", ""),
        },
        {
            "address": _first_slurm_host(environment.get("SLURM_STEP_NODELIST", "")),
            "processes": environment.get("SLURM_NTASKS", ""),
            "process": environment.get("SLURM_PROCID", ""),
        },
        {"process": environment.get("JOB_COMPLETION_INDEX", "")},  # Kubernetes sets no more
    )
    found: dict[str, str] = {}
    for launcher in launchers:
        found = {name: value for name, value in launcher.items() if value} | found
    return found


def _first_slurm_host(nodes: str) -> str:
    """The address of the first of Slurm's nodes, such as `gpu[03-07,12],login1`."""
    if not nodes:
        return ""
    first = re.match(r"([^,\[]+)(?:\[(\d+))?", nodes)
    return f"{first[1]}{first[2] or ''}:{SLURM_PORT}" if first else ""


def _number(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdigit():
        raise UserError(f"expected a number of processes or a process id, got {text!r}")
    return int(text)
