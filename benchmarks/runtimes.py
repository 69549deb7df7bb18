"""The contenders of `inference.py`: exported networks, and the runtimes that run them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from torchvision_network import torchvision_network

from keras_googlenet.errors import UserError

PLAIN = "Keras listing, float32"
OURS = {"float32": "ours, float32", "bfloat16": "ours, bfloat16"}
UNCHANGED, PROCESSOR = " (--optimize none)", " (--optimize cpu)"
FROZEN, SINGLE = ", as deployed", ", as deployed, a thread an op"
CORES = " (--cores {})" + SINGLE
CONSTANT = " (--optimize cpu --cores {})" + SINGLE
DEPLOYED = {"TF_ONEDNN_ASSUME_FROZEN_WEIGHTS": "1"}  # as `serving/` sets it
ONE_THREAD = DEPLOYED | {"TF_NUM_INTRAOP_THREADS": "1"}  # per operation; operations run in parallel
REFERENCE = OURS["float32"] + UNCHANGED  # the outputs of all others must match its outputs
PEERS = {"float32": "ONNX Runtime, float32", "bfloat16": "OpenVINO, bfloat16"}  # the peer in each precision

Answer = Callable[[np.ndarray], np.ndarray]  # pixels (batch, height, width, 3) to probabilities


@dataclass(frozen=True)
class Contender:
    """A network and the runtime that runs it, for a worker process.

    Attributes:
        load: Loads the network in the worker.
        path: File or folder of the network.
        precision: Of the computation.
        environment: Environment variables of the worker.
        same: Whether its outputs must equal the variant's.
    """

    load: Callable[[Path, str, int], Answer]
    path: Path
    precision: str = "float32"
    environment: Mapping[str, str] = field(default_factory=dict)
    same: bool = True


# --- runtimes --------------------------------------------------------------------------------------


def saved_model(path: Path, precision: str, threads: int) -> Answer:
    """A SavedModel in a TensorFlow session, as TensorFlow Serving loads it, on all available cores."""
    from keras_googlenet.session import SavedModelSession

    session = SavedModelSession(path)
    name = "tensor" if "tensor" in session.signatures else "serving_default"
    (given,) = session.signatures[name].inputs
    outputs = session.signatures[name].outputs
    wanted = "probabilities" if "probabilities" in outputs else next(iter(outputs))
    return lambda pixels: session.run(name, {given: pixels}, [wanted])[wanted]


def listing(path: Path, precision: str, threads: int) -> Answer:
    """The listing's SavedModel. Its input is scaled pixels; they are scaled here, outside of the graph."""
    answer = saved_model(path, precision, threads)
    return lambda pixels: answer(pixels / np.float32(127.5) - np.float32(1))


def onnx_runtime(path: Path, precision: str, threads: int) -> Answer:
    """ONNX Runtime's CPU provider."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(None, {"images": pixels})[0]


def litert(path: Path, precision: str, threads: int) -> Answer:
    """LiteRT with its XNNPACK delegate."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads)
    (given,), (found,) = interpreter.get_input_details(), interpreter.get_output_details()
    ready: list[int] = []  # the batch size for which memory is allocated

    def answer(pixels: np.ndarray) -> np.ndarray:
        if ready != [len(pixels)]:
            interpreter.resize_tensor_input(given["index"], pixels.shape)
            interpreter.allocate_tensors()
            ready[:] = [len(pixels)]
        interpreter.set_tensor(given["index"], pixels)
        interpreter.invoke()
        return interpreter.get_tensor(found["index"])

    return answer


def openvino(path: Path, precision: str, threads: int) -> Answer:
    """OpenVINO's CPU plugin, set for latency."""
    from keras_googlenet.export.formats import import_openvino

    ov = import_openvino()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
    }
    request = ov.Core().compile_model(str(path), "CPU", settings).create_infer_request()
    return lambda pixels: request.infer([pixels], share_inputs=True)[0]


def torchvision(path: Path, precision: str, threads: int, *, compiled: bool = False) -> Answer:
    """torchvision's GoogLeNet: channels last, inference mode, autocast for bfloat16."""
    import torch

    network = torchvision_network(init_weights=False)
    network.load_state_dict(torch.load(path, weights_only=True))
    torch.set_num_threads(threads)
    network = network.eval().to(memory_format=torch.channels_last)
    run = torch.compile(network) if compiled else network

    def answer(pixels: np.ndarray) -> np.ndarray:
        cast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")
        with torch.inference_mode(), cast:
            images = (
                torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
            )  # the memory stays channels last
            return run(images).float().softmax(-1).numpy()

    return answer


# --- networks --------------------------------------------------------------------------------------


def write_networks(folder: Path, variant: str, side: int, threads: int) -> dict[str, Contender]:
    """Export a variant's network to all formats.

    Args:
        folder: The folder to write to.
        variant: Name of the variant.
        side: Height and width of the input, in pixels.
        threads: Cores for which one export is divided (`--cores`).

    Returns:
        The contenders by name.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras

    from keras_googlenet import GoogLeNet, export_saved_model
    from keras_googlenet.export.targets import export_file

    keras.utils.set_random_seed(0)
    plain = GoogLeNet(variant="listing", input_shape=(side, side, 3), aux_heads=False)
    plain.export(folder / "listing", verbose=False)
    found = {PLAIN: Contender(listing, folder / "listing", same=False)}
    network = GoogLeNet(variant=variant, input_shape=(side, side, 3), aux_heads=False)
    randomize(network)
    for precision, name in OURS.items():
        export = partial(
            export_saved_model,
            network,
            folder / variant,
            precision=cast(Any, precision),
            warmup_batch_sizes=(),
        )
        unchanged, constant, folded = export(optimize="none"), export(optimize="cpu"), export()
        divided, constant_divided = export(cores=threads), export(optimize="cpu", cores=threads)
        found[name + UNCHANGED] = Contender(saved_model, unchanged, precision)
        found[name + PROCESSOR] = Contender(saved_model, constant, precision)
        found[name] = Contender(saved_model, folded, precision)
        found[name + FROZEN] = Contender(saved_model, folded, precision, DEPLOYED)
        found[name + SINGLE] = Contender(saved_model, folded, precision, ONE_THREAD)
        found[name + CORES.format(threads)] = Contender(saved_model, divided, precision, ONE_THREAD)
        found[name + CONSTANT.format(threads)] = Contender(
            saved_model, constant_divided, precision, ONE_THREAD
        )
    try:
        onnx = export_file(network, folder / f"{variant}.onnx", format="onnx")
    except UserError as missing:
        print(f"without ONNX Runtime and OpenVINO: {missing}")
        return found
    found[PEERS["float32"]] = Contender(onnx_runtime, onnx)
    found["OpenVINO, float32"] = Contender(openvino, onnx)
    found[PEERS["bfloat16"]] = Contender(openvino, onnx, "bfloat16")
    return found


def randomize(network: Any) -> None:
    """Give batch normalization random statistics, as after training."""
    import keras

    random = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1.5, each.shape) for each in layer.get_weights()])


def write_torchvision(
    folder: Path, pixels: np.ndarray, *, compiled: bool
) -> tuple[dict[str, Contender], np.ndarray]:
    """Save torchvision's network with random weights; returns our variant's outputs with the same weights."""
    import torch

    from keras_googlenet import GoogLeNet
    from keras_googlenet.weights.convert import convert
    from keras_googlenet.weights.imagenet import preprocess_input
    from keras_googlenet.weights.readers import read

    torch.manual_seed(0)
    path = folder / "googlenet.pth"
    torch.save(torchvision_network(init_weights=False).state_dict(), path)
    side = pixels.shape[1]
    ours = GoogLeNet(variant="torchvision", input_shape=(side, side, 3))  # with heads: all tensors are used
    convert(read(path, "torchvision"), "torchvision", ours)
    expected = ours(preprocess_input(pixels), training=False)[0].numpy()
    found = {
        f"torchvision, {precision}": Contender(torchvision, path, precision, same=False) for precision in OURS
    }
    if compiled:
        load = partial(torchvision, compiled=True)
        for precision in OURS:
            found[f"torchvision, {precision}, compiled"] = Contender(load, path, precision, same=False)
    return found, expected
