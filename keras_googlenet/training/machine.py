"""The machine that produced a run's figures."""

from __future__ import annotations

import os
import platform

import keras

from keras_googlenet.training.precision import CPU_INFO


def description() -> str:
    """The machine in a few words: its processor and cores, and its accelerators."""
    lines = CPU_INFO.read_text().splitlines() if CPU_INFO.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.machine()
    return ", ".join([processor, f"{os.cpu_count()} cores", *_accelerators()])


def _accelerators() -> list[str]:
    if keras.backend.backend() == "jax":
        import jax

        return [device.device_kind for device in jax.devices() if device.platform != "cpu"]
    import tensorflow as tf

    details = map(tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU"))
    return [found.get("device_name", "GPU") for found in details]
