"""The contenders of `training.py` and `gpu.py`: networks that take training steps on one batch."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import keras
import numpy as np
from torchvision_network import torchvision_network

from keras_googlenet import GoogLeNet, RunConfig
from keras_googlenet.errors import UserError
from keras_googlenet.images.spec import Preprocessing
from keras_googlenet.network.variants import VARIANTS
from keras_googlenet.profile.costs import profile
from keras_googlenet.training.network import build_for_training
from keras_googlenet.training.precision import dtype_policy, using_dtype_policy

CLASSES = 1000
SMALL = 64  # pixels: below, the networks are those for small images
SMALL_CLASSES = 10
SMALL_NETWORKS = (("small_images", 0.5), ("light_stem", 0.5), ("short", 1.0))  # variants and widths
LEARNING_STEPS = 6
AUX_WEIGHT = 0.3
JAX_PRECISION = {"float32": "highest", "tf32": "tensorfloat32"}  # by default, a GPU has TF32 for float32
SGD = {"learning_rate": 0.01, "momentum": 0.9}

# By the side of the images, moving statistics not counted: with 1000 classes, or `SMALL_NETWORKS`.
KNOWN = {
    "listing": {96: 9_065_192, 224: 12_997_352},
    "bn": {96: 9_453_656, 224: 13_385_816},
    "paper": {96: 9_446_120, 224: 13_378_280},
    "small_images": {32: 5_767_806},
    "light_stem": {32: 2_648_062},
    "short": {32: 2_728_146},
    "torchvision": {96: 13_004_888, 224: 13_004_888},
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


def contenders(size: int, batch: int) -> dict[str, Callable[[], Contender]]:
    """What makes each, by name."""
    found: dict[str, Callable[[], Contender]] = {}
    if size < SMALL:
        images, labels = random_batch(size, batch, classes=SMALL_CLASSES)
        for variant, width in SMALL_NETWORKS:
            for name, make in (("plain Keras", plain), ("ours", ours)):
                of = (images, labels, variant, "bfloat16", SMALL_CLASSES, width)
                found[f"{name}, {variant}, bfloat16"] = partial(make, *of)
        return found
    images, labels = random_batch(size, batch)
    for precision in ("float32", "bfloat16"):
        found[f"plain Keras listing, {precision}"] = partial(plain, images, labels, "listing", precision)
    for variant in ("bn", "paper"):
        for precision in ("auto", "float32"):
            found[f"ours, {variant}, {precision}"] = partial(_auto, images, labels, variant, precision)
    if all(importlib.util.find_spec(name) for name in ("torch", "torchvision")):
        for precision in ("float32", "bfloat16"):
            found[f"torchvision, {precision}"] = partial(torchvision, images, labels, precision)
    return found


def random_batch(
    size: int, batch: int, channels: int = 3, classes: int = CLASSES
) -> tuple[np.ndarray, np.ndarray]:
    """Images (batch, size, size, channels) in float32, and their labels."""
    random = np.random.default_rng(0)
    return (
        random.standard_normal((batch, size, size, channels), "float32"),
        random.integers(0, classes, batch),
    )


def check(name: str, contender: Contender, size: int) -> None:
    """Compile it; see that it has the parameters that are known, and learns.

    Raises:
        UserError: It does not.
    """
    known = KNOWN.get(contender.network, {}).get(size, contender.parameters)
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


# --- Keras -----------------------------------------------------------------------------------------


def plain(
    images: np.ndarray,
    labels: np.ndarray,
    variant: str,
    precision: str,
    classes: int = CLASSES,
    width: float = 1.0,
) -> Contender:
    """A variant of Keras's layers alone, compiled as the plain listing is."""
    with using_dtype_policy("float32" if precision == "float32" else f"mixed_{precision}"):
        network = VARIANTS[variant].scaled(width)
        model = GoogLeNet(variant=network, input_shape=images.shape[1:], classes=classes)
    heads = len(model.outputs)
    model.compile(
        optimizer=keras.optimizers.SGD(**SGD),
        loss=["categorical_crossentropy"] * heads,
        loss_weights=[1, AUX_WEIGHT, AUX_WEIGHT][:heads],
        metrics=[["accuracy"]] * heads,
    )
    return _of_keras(model, images, labels, variant, precision)


def _auto(images: np.ndarray, labels: np.ndarray, variant: str, precision: str) -> Contender:
    return ours(images, labels, variant, dtype_policy(precision).removeprefix("mixed_"))


def ours(
    images: np.ndarray,
    labels: np.ndarray,
    variant: str,
    precision: str,
    classes: int = CLASSES,
    width: float = 1.0,
) -> Contender:
    """A variant as `keras_googlenet.train` builds it, in "float32", "bfloat16", or "tf32" (JAX on a GPU)."""
    config = RunConfig(data="none", run="none", variant=variant, width=width, **SGD)  # type: ignore[arg-type]
    policy = "mixed_bfloat16" if precision == "bfloat16" else "float32"
    model = build_for_training(config, Preprocessing(*images.shape[1:]), classes, policy)
    return _of_keras(model, images, labels, variant, precision)


def _of_keras(
    model: keras.Model, images: np.ndarray, labels: np.ndarray, network: str, precision: str
) -> Contender:
    one_hot = np.eye(model.outputs[0].shape[-1], dtype="float32")[labels]
    heads = len(model.outputs)
    model.optimizer.build(model.trainable_variables)
    make = partial(JaxStep, precision) if keras.backend.backend() == "jax" else _tensorflow_step
    return Contender(
        make(model, images, one_hot if heads == 1 else (one_hot,) * heads),
        lambda logs: float(logs["loss"]),
        network,
        precision,
        sum(int(np.prod(variable.shape)) for variable in model.trainable_variables),
        sum(cost.macs for cost in profile(model)),
    )


def _tensorflow_step(model: keras.Model, images: np.ndarray, labels: Any) -> Callable[[], Any]:
    import tensorflow as tf

    batch = tf.nest.map_structure(tf.constant, (images, labels))
    step = tf.function(model.train_step, jit_compile=bool(model.jit_compile))

    def reset_and_step() -> Any:
        model.reset_metrics()  # so that the loss is this step's
        return step(batch)

    return reset_and_step


class JaxStep:
    """`Model.train_step`, compiled for one batch that is on the device.

    Attributes:
        model: The network.
        batch: Images and labels.
        state: Values of the trainable, other, optimizer's and metrics' variables.
    """

    def __init__(self, precision: str, model: keras.Model, images: np.ndarray, labels: Any) -> None:
        import jax

        self.model, self.batch = model, jax.device_put((images, labels))
        model._symbolic_build(data_batch=self.batch)  # makes the metrics' variables
        groups = (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
        self.state = tuple([variable.value for variable in group] for group in groups)
        step = jax.jit(model.train_step, donate_argnums=0)
        with jax.default_matmul_precision(JAX_PRECISION.get(precision)):
            self._step = step.lower(self.state, self.batch).compile()

    def __call__(self, batch: Any = None) -> Any:
        """Begin a step, on another batch if one is given; returns the logs."""
        fresh = [keras.ops.zeros_like(value) for value in self.state[3]]  # metrics: the loss is this step's
        logs, self.state = self._step((*self.state[:3], fresh), self.batch if batch is None else batch)
        return logs


# --- torchvision -----------------------------------------------------------------------------------


def torchvision(
    images: np.ndarray, labels: np.ndarray, precision: str, *, device: str = "cpu", compiled: bool = False
) -> Contender:
    """torchvision's network with PyTorch's SGD, channels last.

    Args:
        images: (batch, size, size, 3).
        labels: (batch,).
        precision: "float32", "tf32" (of a GPU), or "bfloat16", which is autocast.
        device: PyTorch's name of it, such as "cuda".
        compiled: By `torch.compile`.
    """
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    torch.compiler.reset()  # it would compile no more after a few networks
    torch.backends.cudnn.benchmark = True  # XLA tries the kernels of each convolution as well
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    net = torchvision_network(init_weights=True, num_classes=CLASSES)
    net = net.to(device, memory_format=torch.channels_last).train()
    solver = torch.optim.SGD(net.parameters(), lr=SGD["learning_rate"], momentum=SGD["momentum"])
    x = torch.from_numpy(images.transpose(0, 3, 1, 2)).to(device, memory_format=torch.channels_last)
    y = torch.from_numpy(labels).to(device)
    entropy = torch.nn.functional.cross_entropy

    def loss_of(x: Any) -> Any:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            main, aux2, aux1 = net(x)
            return entropy(main, y) + AUX_WEIGHT * (entropy(aux2, y) + entropy(aux1, y))

    if compiled:
        loss_of = torch.compile(loss_of)

    def step() -> Any:
        solver.zero_grad()
        loss = loss_of(x)
        loss.backward()
        solver.step()
        return loss

    parameters = sum(parameter.numel() for parameter in net.parameters())
    macs = _torchvision_macs(images.shape[1:])
    return Contender(step, lambda loss: float(loss.detach()), "torchvision", precision, parameters, macs)


@cache
def _torchvision_macs(shape: tuple[int, ...]) -> int:
    twin = GoogLeNet(variant="torchvision", input_shape=shape, classes=CLASSES)
    return sum(cost.macs for cost in profile(twin))
