"""The contenders of `training.py`: networks that take training steps on one batch."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from torchvision_network import torchvision_network

from keras_googlenet import GoogLeNet, RunConfig
from keras_googlenet.errors import UserError
from keras_googlenet.images.spec import Preprocessing
from keras_googlenet.profile.costs import profile
from keras_googlenet.training.network import build_for_training
from keras_googlenet.training.precision import dtype_policy, using_dtype_policy

CLASSES = 1000
LEARNING_STEPS = 6
AUX_WEIGHT = 0.3
SGD = {"learning_rate": 0.01, "momentum": 0.9}

# With three heads and 1000 classes, moving statistics not counted; by the side of the images.
KNOWN = {
    "listing": {96: 9_065_192, 224: 12_997_352},
    "bn": {96: 9_453_656, 224: 13_385_816},
    "paper": {96: 9_446_120, 224: 13_378_280},
    "torchvision": {96: 13_004_888, 224: 13_004_888},
}

# Dense bfloat16 operations a second, from NVIDIA's data sheets; by JAX's and PyTorch's name of the device.
PEAKS = {
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100 NVL": 835e12,
    "NVIDIA H200": 989e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-PCIE-40GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
    "NVIDIA L4": 121e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA A10G": 70e12,
    "NVIDIA GeForce RTX 4090": 165e12,
}


@dataclass(frozen=True)
class Contender:
    """A network that learns one batch."""

    step: Callable[[], Any]
    """Begins a training step; returns the loss, which may still be computed."""
    loss: Callable[[Any], float]
    """Waits for the loss that `step` returned."""
    network: str
    precision: str
    parameters: int
    macs: int
    """Multiply-adds for one image, of all heads."""


def contenders(size: int, batch: int, device: str) -> dict[str, Callable[[], Contender]]:
    """What makes each, by name."""
    random = np.random.default_rng(0)
    images = random.standard_normal((batch, size, size, 3), "float32")
    labels = random.integers(0, CLASSES, batch)
    found: dict[str, Callable[[], Contender]] = {}
    for precision in ("float32", "bfloat16"):
        found[f"plain Keras listing, {precision}"] = partial(_plain, images, labels, precision)
    for variant in ("bn", "paper"):
        for precision in ("auto", "float32"):
            found[f"ours, {variant}, {precision}"] = partial(_ours, images, labels, variant, precision)
    if all(importlib.util.find_spec(name) for name in ("torch", "torchvision")):
        for precision in ("float32", "bfloat16"):
            found[f"torchvision, {precision}"] = partial(_torchvision, images, labels, precision, device)
    return found


def check(name: str, contender: Contender, size: int) -> None:
    """Compile it; see that it has the parameters that are known, and learns.

    Raises:
        UserError: It does not.
    """
    known = KNOWN[contender.network].get(size, contender.parameters)
    if contender.parameters != known:
        raise UserError(f"{name}: expected {known} parameters, got {contender.parameters}")
    losses = [contender.loss(contender.step()) for _ in range(LEARNING_STEPS)]
    if not losses[-1] < losses[0]:
        raise UserError(f"{name}: expected a loss that falls on one batch, got {losses}")
    told = f"{contender.parameters:,} parameters, loss {losses[0]:.3f} to {losses[-1]:.3f}"
    print(f"{name}, {size} x {size}: {told} in {LEARNING_STEPS} steps", flush=True)


def measured(contender: Contender, batch: int, seconds: float) -> float:
    """Images a second of steps that begin as soon as they can, the last one waited for."""
    begun, steps = time.perf_counter(), 0
    while True:
        loss = contender.step()
        steps += 1
        if steps & (steps - 1) == 0:  # after 1, 2, 4 and so on: a wait for each would idle a GPU
            contender.loss(loss)
            if (taken := time.perf_counter() - begun) >= seconds:
                return steps * batch / taken


def device_name(device: str) -> str:
    """The device's, as its maker calls it.

    Raises:
        UserError: There is no GPU that Keras's backend could use.
    """
    if device == "cpu":
        return "CPU"
    if keras.backend.backend() == "jax":
        import jax

        gpus = [one.device_kind for one in jax.devices() if one.platform == "gpu"]
    else:
        import tensorflow as tf

        found = tf.config.list_physical_devices("GPU")
        gpus = [tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in found]
    if not gpus:
        raise UserError(
            f"no GPU that {keras.backend.backend()} could use: choose --device cpu, or install its build "
            "for GPUs"
        )
    return str(gpus[0])


# --- Keras -----------------------------------------------------------------------------------------


def _plain(images: np.ndarray, labels: np.ndarray, precision: str) -> Contender:
    with using_dtype_policy("float32" if precision == "float32" else f"mixed_{precision}"):
        model = GoogLeNet(variant="listing", input_shape=images.shape[1:], classes=CLASSES)
    model.compile(
        optimizer=keras.optimizers.SGD(**SGD),
        loss=["categorical_crossentropy"] * 3,
        loss_weights=[1, AUX_WEIGHT, AUX_WEIGHT],
        metrics=[["accuracy"]] * 3,
    )
    return _of_keras(model, images, labels, "listing", precision)


def _ours(images: np.ndarray, labels: np.ndarray, variant: str, precision: str) -> Contender:
    config = RunConfig(data="none", run="none", variant=variant, **SGD)  # type: ignore[arg-type]
    policy = dtype_policy(precision)
    model = build_for_training(config, Preprocessing(*images.shape[1:]), CLASSES, policy)
    return _of_keras(model, images, labels, variant, policy.removeprefix("mixed_"))


def _of_keras(
    model: keras.Model, images: np.ndarray, labels: np.ndarray, network: str, precision: str
) -> Contender:
    one_hot = np.eye(CLASSES, dtype="float32")[labels]
    model.optimizer.build(model.trainable_variables)
    make = _jax_step if keras.backend.backend() == "jax" else _tensorflow_step
    return Contender(
        make(model, images, one_hot),
        lambda logs: float(logs["loss"]),
        network,
        precision,
        sum(int(np.prod(variable.shape)) for variable in model.trainable_variables),
        sum(cost.macs for cost in profile(model)),
    )


def _tensorflow_step(model: keras.Model, images: np.ndarray, one_hot: np.ndarray) -> Callable[[], Any]:
    import tensorflow as tf

    batch = (tf.constant(images), (tf.constant(one_hot),) * 3)
    step = tf.function(model.train_step, jit_compile=bool(model.jit_compile))

    def reset_and_step() -> Any:
        model.reset_metrics()  # so that the loss is this step's
        return step(batch)

    return reset_and_step


def _jax_step(model: keras.Model, images: np.ndarray, one_hot: np.ndarray) -> Callable[[], Any]:
    import jax

    batch = (jax.device_put(images), (jax.device_put(one_hot),) * 3)
    model._symbolic_build(data_batch=batch)  # makes the metrics' variables
    groups = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    state = [[variable.value for variable in group] for group in groups]
    step = jax.jit(model.train_step, donate_argnums=0)

    def one() -> Any:
        nonlocal state
        fresh = [keras.ops.zeros_like(value) for value in state[3]]  # metrics: the loss is this step's
        logs, state = step((*state[:3], fresh), batch)
        return logs

    return one


# --- torchvision -----------------------------------------------------------------------------------


def _torchvision(images: np.ndarray, labels: np.ndarray, precision: str, device: str) -> Contender:
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    where = {"cpu": "cpu", "gpu": "cuda"}[device]
    net = torchvision_network(init_weights=True, num_classes=CLASSES)
    net = net.to(where, memory_format=torch.channels_last).train()
    solver = torch.optim.SGD(net.parameters(), lr=SGD["learning_rate"], momentum=SGD["momentum"])
    x = torch.from_numpy(images.transpose(0, 3, 1, 2)).to(where, memory_format=torch.channels_last)
    y = torch.from_numpy(labels).to(where)
    entropy = torch.nn.functional.cross_entropy

    def loss_of(x: Any) -> Any:
        with torch.autocast(where, torch.bfloat16, enabled=precision == "bfloat16"):
            main, aux2, aux1 = net(x)
            return entropy(main, y) + AUX_WEIGHT * (entropy(aux2, y) + entropy(aux1, y))

    if device == "gpu":
        loss_of = torch.compile(loss_of)

    def step() -> Any:
        solver.zero_grad()
        loss = loss_of(x)
        loss.backward()
        solver.step()
        return loss

    parameters = sum(parameter.numel() for parameter in net.parameters())
    keras_twin = GoogLeNet(variant="torchvision", input_shape=images.shape[1:], classes=CLASSES)
    macs = sum(cost.macs for cost in profile(keras_twin))
    return Contender(step, lambda loss: float(loss.detach()), "torchvision", precision, parameters, macs)
