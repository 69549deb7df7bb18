"""The number format in which this machine trains fastest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras

CPU_INFO = Path("/proc/cpuinfo")
AMPERE = 8  # the first generation of NVIDIA GPUs with bfloat16


def dtype_policy(precision: str) -> str:
    """The Keras dtype policy of `"auto"`, `"float32"` or `"bfloat16"` on this machine."""
    if precision == "bfloat16" or (precision == "auto" and has_bfloat16()):
        return "mixed_bfloat16"
    return "float32"


def has_bfloat16() -> bool:
    """Whether the processor that Keras trains on computes in bfloat16 natively."""
    if keras.backend.backend() == "jax":
        import jax

        device = jax.devices()[0]
        if device.platform == "cpu":  # XLA's CPU convolutions gain nothing from it
            return False
        return float(getattr(device, "compute_capability", AMPERE)) >= AMPERE
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        return details.get("compute_capability", (0, 0))[0] >= AMPERE
    return CPU_INFO.exists() and "avx512_bf16" in CPU_INFO.read_text()


@contextmanager
def using_dtype_policy(policy: str) -> Iterator[None]:
    """Build models under `policy`, then restore Keras's global one."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
