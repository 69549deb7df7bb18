"""Export to one file for other runtimes, by Keras's own exporters: ONNX and LiteRT."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import keras
import numpy as np

from keras_googlenet.errors import UserError
from keras_googlenet.preprocessing import Preprocessing
from keras_googlenet.serving.export import reference
from keras_googlenet.serving.export.network import ServedNetwork, served_network
from keras_googlenet.serving.export.publish import staging, sync
from keras_googlenet.serving.export.verify import TOLERANCES
from keras_googlenet.training.run_folder import write_labels


def _run_onnx(file: Path, pixels: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: pixels})[0]


def _run_litert(file: Path, pixels: np.ndarray) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(file))
    (given,), (found,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(given["index"], pixels.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], pixels)
    interpreter.invoke()
    return interpreter.get_tensor(found["index"])


class Target(NamedTuple):
    """A file format: its suffix, what it takes to write and check it, and how a file of it is run."""

    suffix: str
    packages: tuple[str, ...]
    run: Callable[[Path, np.ndarray], np.ndarray]


# The name of a format is also that of the package's extra.
TARGETS = {
    "onnx": Target(".onnx", ("onnx", "tf2onnx", "onnxruntime"), _run_onnx),
    "litert": Target(".tflite", ("ai_edge_litert",), _run_litert),
}


def export_file(
    model: keras.Model,
    file: str | Path,
    *,
    format: Literal["onnx", "litert"],
    class_names: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    temperature: float = 1.0,
) -> Path:
    """Write `model`'s main head as one file, and the class names beside it.

    The network in the file takes `images`, float32 (batch, height, width, channels), RGB pixels in
    0..255 of the network's size, and gives probabilities, float32 (batch, classes), in the order of
    the lines of `NAME.labels.txt`. Decoding and resizing are the caller's. Before the file gets its
    name, the format's own runtime must answer as `model` does.

    Args:
        model: A GoogLeNet with its top, trained on preprocessed images.
        file: Where to; its suffix is the format's: `.onnx`, `.tflite`.
        format: `"onnx"` or `"litert"`.
        class_names: In label order; by default "0", "1" and so on.
        preprocessing: What the model was trained with; by default pixels scaled to -1..1.
        temperature: What logits are divided by before the softmax.

    Returns:
        The file.

    Raises:
        UserError: An argument does not fit, the file exists, a package is missing, or the file does
            not answer as the model.
    """
    file = Path(file)
    if format not in TARGETS:
        raise UserError(f"expected a format of {', '.join(TARGETS)}, got {format!r}")
    target, labels = TARGETS[format], file.with_suffix(".labels.txt")
    if file.suffix != target.suffix:
        raise UserError(f"expected a file that ends in {target.suffix} for format {format}, got {file}")
    missing = [name for name in target.packages if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f'{missing[0]} is not installed: pip install "keras-googlenet[{format}]"')
    if keras.backend.backend() != "tensorflow":
        raise UserError(f"export needs Keras on TensorFlow, not {keras.backend.backend()}: set KERAS_BACKEND")
    network = served_network(model, preprocessing, class_names, temperature=temperature)
    _check_free(file, labels)
    with staging(file.parent) as folder:
        staged, staged_labels = folder / file.name, folder / labels.name
        try:
            _from_pixels(network).export(str(staged), format=format, verbose=False)
            write_labels(staged_labels, network.class_names)
        except OSError as full:
            raise UserError(f"cannot write {file} ({full.strerror}): nothing is left there") from None
        asked = reference.requests(network)
        expected = reference.answers(model, network, asked, precision="float32", cam=False)
        error = np.abs(
            target.run(staged, asked["tensor"]["images"]) - expected["tensor"]["probabilities"]
        ).max()
        if not error <= TOLERANCES["float32"]:
            raise UserError(
                f"the {format} file does not answer as the model does, so it is not written: a difference "
                f"of {error:.1e}, allowed {TOLERANCES['float32']:.0e}"
            )
        sync(staged)
        sync(staged_labels)
        _check_free(file, labels)  # the work took its time
        staged.rename(file)
        staged_labels.rename(labels)
        sync(file.parent)
    return file


def _from_pixels(network: ServedNetwork) -> keras.Model:
    size = network.preprocessing
    shape = (size.height, size.width, size.channels)
    images = keras.Input(shape, name="images")
    single = keras.Model(network.model.inputs[0], network.model.output["logits"])
    outputs = single(network.preprocessing.normalize(images))
    if network.softmax:
        outputs = keras.ops.softmax(outputs / network.temperature)
    whole = keras.Model(images, outputs, name=network.model.name)
    whole(np.zeros((1, *shape), "float32"))  # Keras's ONNX exporter refuses a model that never ran
    return whole


def _check_free(*files: Path) -> None:
    for file in files:
        if file.exists():
            raise UserError(f"{file} exists: choose another name, or delete it")
