"""TensorFlow Serving's protocol messages: conversion to arrays and back, and answers of a loaded version."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.protobuf import error_codes_pb2 as code
from tensorflow_serving.apis.classification_pb2 import ClassificationResponse
from tensorflow_serving.apis.inference_pb2 import MultiInferenceResponse
from tensorflow_serving.apis.predict_pb2 import PredictResponse
from tensorflow_serving.apis.regression_pb2 import RegressionResponse

from keras_googlenet.serving.preview import bounds, inference
from keras_googlenet.serving.preview.errors import StatusError, invalid
from keras_googlenet.serving.preview.inference import DEFAULT_SIGNATURE, Arrays, Runner

# A TensorProto's list of values, by NumPy's kind and size; what is missing goes as bytes.
VALUE_FIELDS = {
    "f4": "float_val",
    "f8": "double_val",
    "i1": "int_val",
    "i2": "int_val",
    "i4": "int_val",
    "u1": "int_val",
    "u2": "int_val",
    "i8": "int64_val",
    "u4": "uint32_val",
    "u8": "uint64_val",
    "b1": "bool_val",
    "O8": "string_val",
}
ALL_VALUE_FIELDS = (*sorted(set(VALUE_FIELDS.values())), "half_val", "scomplex_val", "dcomplex_val")


def to_arrays(protos: Mapping[str, TensorProto], signature: Any, max_rows: int | None) -> Arrays:
    """`TensorProto`s as arrays, strings as objects; integers beyond a narrow type wrap, as in TensorFlow.

    Args:
        protos: By the signature's own names.
        signature: A `SignatureDef`.
        max_rows: The bound on their rows; `None` for no bounds at all, as for warm-up records.

    Raises:
        StatusError: A proto contradicts itself or the signature, or is out of bounds. All are checked before
            any array is created.
    """
    shapes = {name: _shape(name, proto) for name, proto in protos.items()}
    inference.check_dtypes(signature, {name: proto.dtype for name, proto in protos.items()})
    if max_rows is not None:
        for name, shape in shapes.items():
            bounds.check_shape(name, shape, signature.inputs[name])
            bounds.check_rows(f"input {name!r}", shape[0] if shape else 1, max_rows)
            bounds.check_padding(name, math.prod(shape), _values_sent(protos[name]))
        made = (bounds.made_bytes(shape, protos[name].dtype) for name, shape in shapes.items())
        bounds.check_made_bytes(sum(made))
    arrays = {}
    for name, proto in protos.items():
        try:
            arrays[name] = _values(proto)
        except (ValueError, TypeError, KeyError, IndexError, NotImplementedError):
            raise _unparsable(name) from None
    return arrays


def _shape(name: str, proto: TensorProto) -> list[int]:
    sizes = [dim.size for dim in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or min(sizes, default=0) < 0:
        raise _unparsable(name)
    try:
        tf.as_dtype(proto.dtype)
    except TypeError:
        raise _unparsable(name) from None
    return sizes


def _unparsable(name: str) -> StatusError:
    return invalid(f"tensor parsing error: {name}")


def _values_sent(proto: TensorProto) -> int:
    # Bytes for `tensor_content`, which must be as long as the tensor: an upper bound is enough.
    return len(proto.tensor_content) or sum(len(getattr(proto, field)) for field in ALL_VALUE_FIELDS)


def _values(proto: TensorProto) -> np.ndarray:
    try:
        return tf.make_ndarray(proto)
    except OverflowError:  # narrow integers come as int32, and Serving wraps them
        wide = TensorProto()
        wide.CopyFrom(proto)
        wide.dtype = tf.int32.as_datatype_enum
        return tf.make_ndarray(wide).astype(tf.as_dtype(proto.dtype).as_numpy_dtype)


def to_proto(array: np.ndarray) -> TensorProto:
    """An array as a `TensorProto` with its values in the list of its type, as TensorFlow Serving sends it."""
    field = VALUE_FIELDS.get(array.dtype.str[1:]) if array.dtype.kind in "fiubO" else None
    if field is None:
        return tf.make_tensor_proto(array)
    proto = TensorProto(
        dtype=tf.as_dtype(array.dtype).as_datatype_enum, tensor_shape=tf.TensorShape(array.shape).as_proto()
    )
    getattr(proto, field).extend(array.ravel().tolist())
    return proto


def examples_of(request_input: Any, max_rows: int | None) -> list[bytes]:
    """The serialized `tf.Example`s of an `Input`, each with the context before it.

    Raises:
        StatusError: There is none, there are more than `max_rows`, or they take too much with the context.
    """
    kind = request_input.WhichOneof("kind")
    if kind == "example_list":
        listed = request_input.example_list
        bounds.check_rows("examples", len(listed.examples), max_rows)
        examples = [example.SerializeToString() for example in listed.examples]
    elif kind == "example_list_with_context":
        listed = request_input.example_list_with_context
        context = listed.context.SerializeToString()
        bounds.check_rows("examples", len(listed.examples), max_rows)
        bounds.check_made_bytes(len(context) * len(listed.examples))
        # Messages merge where their bytes follow one another.
        examples = [context + example.SerializeToString() for example in listed.examples]
    else:
        examples = []
    if not examples:
        raise invalid("Input is empty.")
    return examples


def predict(runner: Runner, version: int, request: Any) -> PredictResponse:
    """Answer a `PredictRequest`."""
    spec = request.model_spec
    signature = inference.declared(runner, spec.signature_name, request.inputs)
    inputs, wanted = to_arrays(request.inputs, signature, runner.max_rows), list(request.output_filter)
    outputs = inference.predict(runner, spec.signature_name, inputs, wanted)
    response = PredictResponse(outputs={name: to_proto(array) for name, array in outputs.items()})
    fill_spec(response.model_spec, spec, version)
    return response


def classify(runner: Runner, version: int, request: Any) -> ClassificationResponse:
    """Answer a `ClassificationRequest`."""
    examples = examples_of(request.input, runner.max_rows)
    results = inference.classify(runner, request.model_spec.signature_name, examples)
    response = ClassificationResponse()
    fill_classes(response.result, results)
    fill_spec(response.model_spec, request.model_spec, version)
    return response


def regress(runner: Runner, version: int, request: Any) -> RegressionResponse:
    """Answer a `RegressionRequest`."""
    examples = examples_of(request.input, runner.max_rows)
    values = inference.regress(runner, request.model_spec.signature_name, examples)
    response = RegressionResponse()
    fill_values(response.result, values)
    fill_spec(response.model_spec, request.model_spec, version)
    return response


def multi_inference(runner: Runner, version: int, request: Any) -> Any:
    """Answer a `MultiInferenceRequest`."""
    names = {task.model_spec.name for task in request.tasks}
    if "" in names:
        raise invalid("Found ModelSpec with an empty model name.")
    if len(names) > 1:
        raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
    tasks = [inference.Task(task.model_spec.signature_name, task.method_name) for task in request.tasks]
    results = inference.multi_inference(runner, tasks, examples_of(request.input, runner.max_rows))
    response = MultiInferenceResponse()
    for task, result in zip(request.tasks, results, strict=True):
        filled = response.results.add()
        fill_spec(filled.model_spec, task.model_spec, version)
        if task.method_name == inference.CLASSIFY:
            fill_classes(filled.classification_result, result)
        else:
            fill_values(filled.regression_result, result)
    return response


def answer(runner: Runner, version: int, log: Any) -> None:
    """Replay a `PredictionLog`, as a warm-up does.

    Raises:
        StatusError: It fails, or is of a kind that cannot be replayed.
    """
    kind = log.WhichOneof("log_type")
    if kind not in REPLAYED:
        raise StatusError(code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind}")
    REPLAYED[kind](runner, version, getattr(log, kind).request)


def fill_spec(filled: Any, requested: Any, version: int) -> None:
    """Record in a response which model, version and signature answered."""
    filled.name = requested.name
    filled.version.value = version
    filled.signature_name = requested.signature_name or DEFAULT_SIGNATURE


def fill_classes(result: Any, examples: list[inference.Classes]) -> None:
    """Fill a `ClassificationResult`."""
    for classes in examples:
        listed = result.classifications.add()
        for label, score in classes:
            listed.classes.add(label=label, score=score)


def fill_values(result: Any, values: list[float]) -> None:
    """Fill a `RegressionResult`."""
    for value in values:
        result.regressions.add(value=value)


REPLAYED = {
    "predict_log": predict,
    "classify_log": classify,
    "regress_log": regress,
    "multi_inference_log": multi_inference,
}
