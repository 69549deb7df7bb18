"""TensorFlow Serving's REST format: JSON to arrays and back, by a signature's declaration.

Source: TensorFlow Serving's RESTful API (`api_rest`), and the checks and messages of its `json_tensor.cc`.
"""

from __future__ import annotations

import base64
import gc
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import tensorflow as tf

from keras_googlenet.serving.preview import bounds
from keras_googlenet.serving.preview.errors import invalid
from keras_googlenet.serving.preview.inference import DEFAULT_SIGNATURE, Arrays
from keras_googlenet.serving.preview.json_values import (
    FLOATS,
    INTEGERS,
    is_base64,
    object_array,
    shown,
    to_array,
)


@dataclass(frozen=True)
class PredictRequest:
    """A parsed request: arrays by input name, and the form to answer in."""

    signature_name: str
    inputs: Arrays
    row_form: bool


class _NoCollection:
    """A context without Python's garbage collection of cycles, which JSON does not have: with millions of
    lists it takes most of the time and blocks all threads. Several threads may be in it.
    """

    def __init__(self) -> None:
        self._inside, self._lock = 0, threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            gc.disable()

    def __exit__(self, *caught: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                gc.enable()


_no_collection = _NoCollection()


def parse_object(body: bytes) -> dict[str, Any]:
    """The body of a request, a JSON object; NaN and Infinity are numbers in it.

    Raises:
        StatusError: It is not a JSON object.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    with _no_collection:
        try:
            request = orjson.loads(body)
        except ValueError:
            request = _parse_slowly(body)  # orjson knows no NaN and no Infinity
    if not isinstance(request, dict):
        raise invalid(f"JSON Value: {shown(request)} Is not object")
    return request


def signature_name(request: Mapping[str, Any]) -> str:
    """The signature that a request names, or the default one.

    Raises:
        StatusError: It is not named by a string.
    """
    name = request.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {shown(request)} not formatted correctly. 'signature_name' key must be a string "
            "value."
        )
    return name or DEFAULT_SIGNATURE


def parse_predict(body: bytes, signatures: Mapping[str, Any], max_rows: int | None = None) -> PredictRequest:
    """Parse the body of a `:predict` request.

    Args:
        body: JSON, in row form (`instances`) or column form (`inputs`).
        signatures: `SignatureDef` protos by name.
        max_rows: The bound on the rows of each input.

    Raises:
        StatusError: The body does not follow the protocol or the signature, or has too many rows.
    """
    request = parse_object(body)
    name = signature_name(request)
    if name not in signatures:
        raise invalid(f'Serving signature name: "{name}" not found in signature def')
    declared = signatures[name].inputs
    if not declared:
        raise invalid(f"Failed to get input map for signature: {name}")
    row_form = "instances" in request
    if row_form and "inputs" in request:
        raise invalid(
            f"JSON Value: {shown(request)} Not formatted correctly expecting only one of 'inputs' or "
            "'instances' keys to exist "
        )
    if row_form:
        if isinstance(request["instances"], list):  # before each of them is looked at
            bounds.check_rows("instances", len(request["instances"]), max_rows)
        values = _columns_of_rows(request["instances"], declared)
    elif "inputs" in request:
        values = _columns(request["inputs"], declared)
    else:
        raise invalid("Missing 'inputs' or 'instances' key")
    for key in declared:
        if isinstance(values[key], list):
            bounds.check_rows(f"input {key!r}", len(values[key]), max_rows)
    inputs = {key: to_array(values[key], declared[key].dtype, key) for key in declared}
    return PredictRequest(name, inputs, row_form)


def format_predict(outputs: Mapping[str, np.ndarray], *, row_form: bool) -> bytes:
    """The answer to a `:predict` request, as JSON.

    Args:
        outputs: Arrays by output name.
        row_form: Answer with `predictions`, a value or an object for each row, else with `outputs`.

    Raises:
        StatusError: An array has no JSON form, or in row form no row.
    """
    values = {name: _json_array(name, array) for name, array in sorted(outputs.items())}
    if not row_form:
        return dumps({"outputs": next(iter(values.values())) if len(values) == 1 else values})
    rows = None
    for name, array in values.items():
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if len(array) < 1:
            raise invalid(f"Tensor name: {name} has invalid batch size: {len(array)}")
        if rows not in (None, len(array)):
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {rows}")
        rows = len(array)
    if len(values) == 1:
        return dumps({"predictions": next(iter(values.values()))})
    listed = zip(*values.values(), strict=True)
    return dumps({"predictions": [dict(zip(values, row, strict=True)) for row in listed]})


def dumps(content: Any) -> bytes:
    """JSON with arrays in it; NaN and Infinity as TensorFlow Serving writes them."""
    if _holds_non_finite(content):  # orjson would write null
        return json.dumps(content, default=_listed).encode()
    return orjson.dumps(content, default=_listed, option=orjson.OPT_SERIALIZE_NUMPY)


def _parse_slowly(body: bytes) -> Any:
    try:
        return json.loads(body.decode())  # of bytes it would take UTF-16 as well
    except RecursionError:
        raise invalid("JSON Parse error: values are nested too deep") from None
    except ValueError as error:
        raise invalid(f"JSON Parse error: {error}") from None


def _columns_of_rows(instances: Any, declared: Mapping[str, Any]) -> dict[str, list[Any]]:
    if not isinstance(instances, list):
        raise invalid(f"JSON Value: {shown(instances)} Excepting 'instances' to be an list/array")
    if not instances:
        raise invalid("No values in 'instances' array")
    if not isinstance(instances[0], dict) and len(declared) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as "
            "per tensorinfo_map"
        )
    of_objects = _is_row(instances[0])
    for index, row in enumerate(instances):
        if _is_row(row) != of_objects:
            expected, got = ("object", "list") if of_objects else ("value/list", "object")
            raise invalid(f"Expecting {expected} but got {got} at item {index} of input list")
        if of_objects and row.keys() != declared.keys():
            keys = ",".join(sorted(declared))
            raise invalid(
                f"Failed to process element: {index} of 'instances' list. JSON object: {shown(row)} must "
                f"only have keys: {keys}"
            )
    if not of_objects:
        return {min(declared): instances}
    return {name: [row[name] for row in instances] for name in declared}


def _columns(inputs: Any, declared: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(inputs, dict) or is_base64(inputs):
        if len(declared) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as "
                "per tensorinfo_map"
            )
        return {min(declared): inputs}
    for name in sorted(declared):
        if name not in inputs:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
    return {name: inputs[name] for name in declared}


def _is_row(value: Any) -> bool:
    return isinstance(value, dict) and not is_base64(value)


def _json_array(name: str, array: np.ndarray) -> np.ndarray:
    expected = tf.as_dtype(array.dtype)
    if expected == tf.string:
        as_bytes = name.endswith("_bytes")
        items: Sequence[Any] = [
            {"b64": base64.b64encode(item).decode()} if as_bytes else item.decode(errors="replace")
            for item in array.flat
        ]
        return object_array(items, array.shape)
    if expected not in INTEGERS and expected not in FLOATS and expected != tf.bool:
        raise invalid(f"Failed to write JSON value for tensor type: {expected.name}")
    return np.asarray(array, order="C")  # orjson takes no other order


def _listed(array: Any) -> Any:
    return array.tolist()


def _holds_non_finite(content: Any) -> bool:
    if isinstance(content, np.ndarray):
        return content.dtype.kind == "f" and not np.isfinite(content).all()
    if isinstance(content, dict):
        return any(map(_holds_non_finite, content.values()))
    if isinstance(content, list | tuple):
        return any(map(_holds_non_finite, content))
    return isinstance(content, float | np.floating) and not np.isfinite(content)
