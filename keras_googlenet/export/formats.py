"""Export formats: a `Format` for each.

To add one, put it into `FORMATS`: `export_file`, the command and its help then know it. Imports no framework:
the command line reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_googlenet.errors import UserError

if TYPE_CHECKING:
    import numpy as np

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
        run: The function (file, pixels float32 (images, height, width, channels)) -> probabilities, in the
            format's own runtime.
        int8: Whether it supports int8.
    """

    name: str
    help: str
    suffix: str | None = None
    packages: tuple[str, ...] = ()
    write: Callable[[Any, Path, np.ndarray | None], None] | None = None
    run: Callable[[Path, np.ndarray], np.ndarray] | None = None
    int8: bool = False


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


def _run_onnx(file: Path, pixels: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: pixels})[0]


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


def _run_litert(file: Path, pixels: np.ndarray) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(file))
    (given,), (found,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(given["index"], pixels.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], pixels)
    interpreter.invoke()
    return interpreter.get_tensor(found["index"])


SAVED_MODEL = "saved_model"
FORMATS = {
    each.name: each
    for each in (
        Format(SAVED_MODEL, "a version for TensorFlow Serving"),
        Format("onnx", "an .onnx file", ".onnx", ("onnx", "tf2onnx", "onnxruntime"), _write_onnx, _run_onnx),
        Format(
            "litert", "a .tflite file", ".tflite", ("ai_edge_litert",), _write_litert, _run_litert, int8=True
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
