"""Predict, classify, regress and multi-inference on one loaded version, over arrays.

Sources of the checks and messages: TensorFlow Serving's `predict_util.cc`, `classifier.cc`, `regressor.cc`
and `multi_inference.cc`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import error_codes_pb2 as code

from keras_googlenet.serving.preview.errors import StatusError, invalid

DEFAULT_SIGNATURE = "serving_default"
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"

Arrays = dict[str, np.ndarray]
Classes = list[tuple[str, float]]  # of one example: labels and scores; "" or 0.0 where the model has none


class Runner(Protocol):
    """Runs signatures: a loaded version, with or without batching."""

    signatures: Mapping[str, Any]
    max_rows: int | None  # of a request; `None` while the version runs its own warm-up records

    def run(self, signature_name: str, inputs: Arrays, outputs: Sequence[str] | None) -> Arrays:
        """Run a signature."""


@dataclass(frozen=True)
class Task:
    """One task of a multi-inference request."""

    signature_name: str
    method: str


def predict(
    runner: Runner,
    signature_name: str,
    inputs: Arrays,
    output_filter: Sequence[str] = (),
) -> Arrays:
    """Run a signature on arrays.

    Args:
        runner: The version.
        signature_name: The signature; `serving_default` where empty.
        inputs: Arrays by input name, each with the batch first.
        output_filter: Names of the outputs wanted; all where empty.

    Returns:
        Arrays by output name.

    Raises:
        StatusError: The signature is unknown, or the arrays do not fit it.
        tf.errors.OpError: The graph refuses the values.
    """
    name = signature_name or DEFAULT_SIGNATURE
    signature = declared(runner, name, inputs)
    check_dtypes(signature, {key: array.dtype for key, array in inputs.items()})
    for position, wanted in enumerate(output_filter):
        if wanted not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {wanted} Outputs expected to be in the set "
                f"{_set(signature.outputs)}."
            )
        if wanted in output_filter[:position]:
            raise invalid(f"duplicate output tensor alias: {wanted}")
    return runner.run(name, inputs, sorted(output_filter) or None)


def declared(runner: Runner, signature_name: str, inputs: Collection[str]) -> Any:
    """A signature that takes inputs of these names.

    Raises:
        StatusError: There is no such signature, or it takes others.
    """
    name = signature_name or DEFAULT_SIGNATURE
    if name not in runner.signatures:
        raise StatusError(code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    _check_names(inputs, runner.signatures[name].inputs)
    return runner.signatures[name]


def check_dtypes(signature: Any, dtypes: Mapping[str, Any]) -> None:
    """Refuse inputs of another type than a signature declares.

    Raises:
        StatusError: One is.
    """
    for index, key in enumerate(sorted(signature.inputs)):
        expected, got = tf.as_dtype(signature.inputs[key].dtype), tf.as_dtype(dtypes[key])
        if expected != got:
            raise invalid(f"Expects arg[{index}] to be {expected.name} but {got.name} is provided")


def classify(runner: Runner, signature_name: str, examples: Sequence[bytes]) -> list[Classes]:
    """Classify serialized `tf.Example`s; the labels and scores of each.

    Raises:
        StatusError: The signature is unknown or does not classify, or there is no example.
    """
    name = _signature(runner, signature_name, "No signature was found with the name: ")
    outputs = _classify_outputs(runner.signatures[name])
    return _classes(_run_on_examples(runner, name, examples, outputs), len(examples))


def regress(runner: Runner, signature_name: str, examples: Sequence[bytes]) -> list[float]:
    """Regress on serialized `tf.Example`s; the value of each.

    Raises:
        StatusError: The signature is unknown or does not regress, or there is no example.
    """
    name = _signature(runner, signature_name, "No signature was found with the name: ")
    outputs = _regress_outputs(runner.signatures[name])
    return _values(_run_on_examples(runner, name, examples, outputs), len(examples))


def multi_inference(runner: Runner, tasks: Iterable[Task], examples: Sequence[bytes]) -> list[Any]:
    """Classify and regress the same examples with several signatures of one input; the answers of each.

    Raises:
        StatusError: A signature is unknown, repeated, of another method or of another input.
    """
    plans: dict[str, list[str]] = {}
    methods = []
    tensor = None
    for task in tasks:
        name = task.signature_name or DEFAULT_SIGNATURE
        if name in plans:
            raise invalid(f"Duplicate evaluation of signature: {name}")
        _signature(runner, name, "Requested signature not found in model graph: ")
        if task.method not in METHODS:
            raise StatusError(code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method}")
        plans[name] = METHODS[task.method][0](runner.signatures[name])
        methods.append(task.method)
        used = runner.signatures[name].inputs["inputs"].name
        if tensor not in (None, used):
            raise invalid("Input tensor must be the same for all Signatures.")
        tensor = used
    return [
        METHODS[method][1](_run_on_examples(runner, name, examples, outputs), len(examples))
        for method, (name, outputs) in zip(methods, plans.items(), strict=True)
    ]


def _check_names(inputs: Collection[str], declared: Mapping[str, Any]) -> None:
    if len(inputs) != len(declared):
        extra, missing = set(inputs) - set(declared), set(declared) - set(inputs)
        raise invalid(
            f"input size does not match signature: {len(inputs)}!={len(declared)} len({_set(inputs)}) != "
            f"len({_set(declared)}). Sent extra: {_set(extra)}. Missing but required: {_set(missing)}."
        )
    for name in inputs:
        if name not in declared:
            raise invalid(
                f"input tensor alias not found in signature: {name}. Inputs expected to be in the set "
                f"{_set(declared)}."
            )


def _set(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"


def _signature(runner: Runner, name: str, complaint: str) -> str:
    name = name or DEFAULT_SIGNATURE
    if name not in runner.signatures:
        raise invalid(complaint + name)
    return name


def _run_on_examples(runner: Runner, name: str, examples: Sequence[bytes], outputs: list[str]) -> Arrays:
    if not examples:
        raise invalid("Input is empty.")
    array = np.array(examples, dtype=object)
    return runner.run(name, {"inputs": array}, outputs)


# Serving ignores the method's name by default: only the inputs and outputs matter.


def _classify_outputs(signature: Any) -> list[str]:
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if "inputs" not in signature.inputs:
        raise StatusError(
            code.FAILED_PRECONDITION, f"No classification inputs found in SignatureDef: {signature}"
        )
    outputs = [name for name in ("classes", "scores") if name in signature.outputs]
    if not outputs:
        raise StatusError(
            code.FAILED_PRECONDITION,
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            f"Signature was: {signature}",
        )
    return outputs


def _regress_outputs(signature: Any) -> list[str]:
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    for kind, names in (("inputs", signature.inputs), ("outputs", signature.outputs)):
        if kind not in names:
            raise StatusError(
                code.FAILED_PRECONDITION, f"No regression {kind} found in SignatureDef: {signature}"
            )
    return ["outputs"]


def _classes(outputs: Arrays, count: int) -> list[Classes]:
    for name, dtype, kind in (("classes", object, "STRING"), ("scores", np.float32, "FLOAT")):
        array = outputs.get(name)
        if array is None:
            continue
        if array.ndim != 2:
            raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {list(array.shape)}")
        if array.dtype != dtype:
            raise invalid(f"Expected {name} Tensor of DT_{kind}. Got: {tf.as_dtype(array.dtype).name}")
        if len(array) != count:
            raise invalid(f"Expected {name} output batch size of {count}. Got: {len(array)}")
    widths = {array.shape[1] for array in outputs.values()}
    if len(widths) > 1:
        raise invalid("Tensors class and score should match in dim_size(1).")
    (width,) = widths
    labels = outputs.get("classes", np.full((count, width), b"", dtype=object))
    scores = outputs.get("scores", np.zeros((count, width), np.float32))
    return [
        [(label.decode(errors="replace"), score) for label, score in zip(*row, strict=True)]
        for row in zip(labels.tolist(), scores.tolist(), strict=True)
    ]


def _values(outputs: Arrays, count: int) -> list[float]:
    array = outputs["outputs"]
    if array.ndim != 1 and array.shape[1:] != (1,):
        raise invalid(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{list(array.shape)}"
        )
    if len(array) != count:
        raise invalid(f"Input batch size did not match output batch size: {count} vs. {len(array)}")
    if array.dtype != np.float32:
        raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {tf.as_dtype(array.dtype).name}")
    return array.ravel().tolist()


# By method: the outputs to run, and the function that converts them.
METHODS: dict[str, tuple[Any, Any]] = {
    CLASSIFY: (_classify_outputs, _classes),
    REGRESS: (_regress_outputs, _values),
}
