"""Export formats: a `Format` for each.

To add one, put it into `FORMATS`: `export_file`, `load`, the commands and their help then know it. Imports no
framework: the command line reads it.
"""

from __future__ import annotations

import errno
import importlib.util
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from keras_googlenet.errors import UserError
from keras_googlenet.text import reason

if TYPE_CHECKING:
    import numpy as np

    Answer: TypeAlias = Callable[[np.ndarray], np.ndarray]
    """From pixels, float32 (images, height, width, channels) in 0..255, to float32 (images, classes)."""

LABELS, PREPROCESSING = ".labels.txt", ".preprocessing.json"  # suffixes of what every file has next to it
CALIBRATION_IMAGES = 200  # that the ranges of int8 are taken of: more widen them little


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        name: Its name in options, and of the package's extra.
        help: What it is for, in a few words.
        suffix: Suffix of its files; `None` for a version's folder.
        packages: Modules needed to write and check a file.
        write: The function (keras.Model from pixels to probabilities, file, images to round to int8 by or
            `None`) that writes a file.
        load: The function that loads a file into the format's own runtime, for any number of images.
        weights: Suffix of a second file that `write` puts next to the first, with the weights.
        int8: Whether it supports int8.
    """

    name: str
    help: str
    suffix: str | None = None
    packages: tuple[str, ...] = ()
    write: Callable[[Any, Path, np.ndarray | None], None] | None = None
    load: Callable[[Path], Answer] | None = None
    weights: str | None = None
    int8: bool = False

    def companions(self, file: Path) -> list[Path]:
        """What `export_file` writes next to a file: its weights, class names and preprocessing."""
        suffixes = (self.weights, LABELS, PREPROCESSING)
        return [file.with_suffix(suffix) for suffix in suffixes if suffix is not None]

    def check_installed(self) -> None:
        """Refuse a format whose packages are missing.

        Raises:
            UserError: One of them is not installed.
        """
        missing = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if missing:
            raise UserError(f'{missing[0]} is not installed: pip install "keras-googlenet[{self.name}]"')


@cache
def _convert_erfc() -> None:
    """Teach tf2onnx `Erfc`, TensorFlow's operation in GELU, which tf2onnx 1.17 does not know: 1 - erf(x)."""
    import numpy as np
    from tf2onnx.handler import tf_op

    @tf_op("Erfc")
    class Erfc:
        @classmethod
        def version_9(cls, ctx: Any, node: Any, **kwargs: Any) -> None:
            result = {"shapes": [ctx.get_shape(node.output[0])], "dtypes": [ctx.get_dtype(node.output[0])]}
            ctx.remove_node(node.name)
            one = ctx.make_const(f"{node.name}_one", np.ones((), "float32"))
            erf = ctx.make_node("Erf", node.input, **result)
            inputs = [one.output[0], erf.output[0]]
            ctx.make_node("Sub", inputs, name=node.name, outputs=node.output, **result)


def _write_onnx(model: Any, file: Path, images: np.ndarray | None) -> None:
    _convert_erfc()
    model.export(str(file), format="onnx", verbose=False)


def _load_onnx(file: Path) -> Answer:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    return lambda pixels: session.run(None, {given.name: pixels})[0]


def _write_litert(model: Any, file: Path, images: np.ndarray | None) -> None:
    import numpy as np
    import tensorflow as tf

    rounding = {}
    if images is not None:
        places = np.linspace(0, len(images) - 1, min(len(images), CALIBRATION_IMAGES)).astype(int)
        rounding = {
            "optimizations": [tf.lite.Optimize.DEFAULT],
            "representative_dataset": lambda: ([images[place, None]] for place in places),  # of all classes
        }
    model.export(str(file), format="litert", verbose=False, **rounding)


def _load_litert(file: Path) -> Answer:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(file))
    (given,), (found,) = interpreter.get_input_details(), interpreter.get_output_details()

    def answer(pixels: np.ndarray) -> np.ndarray:
        interpreter.resize_tensor_input(given["index"], pixels.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], pixels)
        interpreter.invoke()
        return interpreter.get_tensor(found["index"])

    return answer


def import_openvino() -> Any:
    """OpenVINO without the package of its telemetry, which would report every import to its maker."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _write_openvino(model: Any, file: Path, images: np.ndarray | None) -> None:
    """By a SavedModel: Keras's own `format="openvino"` has an output for each `silu`, and sends telemetry."""
    openvino = import_openvino()
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        model.export(folder, format="tf_saved_model", verbose=False)
        network = openvino.Core().read_model(folder)
        (found,) = network.outputs
        found.tensor.set_names({"probabilities"})
        network.set_friendly_name(model.name)
        try:
            openvino.serialize(network, file)
        except RuntimeError as error:  # its message does not say why
            raise OSError(errno.EIO, "OpenVINO cannot write; is the disk full?") from error


def _load_openvino(file: Path) -> Answer:
    openvino = import_openvino()
    # By default it computes in bfloat16 where the processor has it.
    network = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda pixels: network(pixels)[0]


SAVED_MODEL = "saved_model"
FORMATS = {
    each.name: each
    for each in (
        Format(SAVED_MODEL, "a version for TensorFlow Serving"),
        Format("onnx", "an .onnx file", ".onnx", ("onnx", "tf2onnx", "onnxruntime"), _write_onnx, _load_onnx),
        Format(
            "litert", "a .tflite file", ".tflite", ("ai_edge_litert",), _write_litert, _load_litert, int8=True
        ),
        Format(
            "openvino",
            "an .xml file and its .bin",
            ".xml",
            ("openvino",),
            _write_openvino,
            _load_openvino,
            weights=".bin",
        ),
    )
}


def format_help() -> str:
    """What can be chosen, for the help."""
    return ", ".join(f"{each.name} ({each.help})" for each in FORMATS.values())


def format_named(name: str) -> Format:
    """A format.

    Raises:
        UserError: There is none of that name.
    """
    if name not in FORMATS:
        raise UserError(f"expected `format` to be one of {', '.join(FORMATS)}, got {name!r}")
    return FORMATS[name]


def is_file_of_format(path: Path) -> bool:
    """Whether a path ends as a file of one of the formats does, and is not a folder's."""
    return path.suffix in _by_suffix() and not path.is_dir()


def format_of(file: Path) -> Format:
    """The format of a file, by its suffix.

    Raises:
        UserError: It is the suffix of none.
    """
    formats = _by_suffix()
    if file.suffix not in formats:
        raise UserError(f"expected a file that ends in {', '.join(formats)}, got {file}")
    return formats[file.suffix]


def load_file(file: Path) -> Answer:
    """Load a file that `export_file` wrote into its own runtime.

    Raises:
        UserError: It is missing or damaged, or has another suffix; its runtime is not installed.
    """
    target = format_of(file)
    if not file.is_file():
        raise UserError(f"no model at {file}: expected the file that `export` wrote")
    for companion in target.companions(file):
        if not companion.is_file():
            raise UserError(f"{companion} is missing: keep it next to {file.name}, or export again")
    target.check_installed()
    assert target.load is not None
    try:
        return target.load(file)
    except Exception as error:  # each runtime has its own
        raise UserError(f"cannot load {file}: {cause(error)}; export it again") from None


def cause(error: Exception) -> str:
    """Why a runtime failed, in one line; OpenVINO's messages begin with lines about its source."""
    lines = [line for line in str(error).splitlines() if not line.startswith(("Exception from ", "Check '"))]
    return reason(RuntimeError("\n".join(lines)))


def _by_suffix() -> dict[str, Format]:
    return {each.suffix: each for each in FORMATS.values() if each.suffix is not None}
