"""TensorFlow Serving's REST predict format: JSON to arrays and back, by a signature's declaration.

Source: TensorFlow Serving's RESTful API (`api_rest`), and the checks of its `json_tensor`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

DEFAULT_SIGNATURE = "serving_default"


class InvalidRequest(ValueError):  # noqa: N818 (a request's state, as the protocol names it)
    """A request that the protocol answers with 400."""


@dataclass(frozen=True)
class PredictRequest:
    """A parsed request: arrays by input name, and the form to answer in."""

    signature_name: str
    inputs: dict[str, np.ndarray]
    row_form: bool


def parse_predict(body: bytes, signatures: Mapping[str, Any]) -> PredictRequest:
    """Parse the body of a `:predict` request.

    Args:
        body: JSON, in row form (`instances`) or column form (`inputs`).
        signatures: `SignatureDef` protos by name.

    Raises:
        InvalidRequest: The body does not follow the protocol or the signature.
    """
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"JSON Parse error: {error}") from None
    if not isinstance(request, dict):
        raise InvalidRequest("JSON Value: is not an object")
    name = request.get("signature_name", DEFAULT_SIGNATURE)
    if not isinstance(name, str):
        raise InvalidRequest("'signature_name' key: value must be a string")
    name = name or DEFAULT_SIGNATURE
    if name not in signatures:
        raise InvalidRequest(f'Serving signature name: "{name}" not found in signature def')
    if ("instances" in request) == ("inputs" in request):
        raise InvalidRequest("Expected either the key 'instances' or the key 'inputs'")
    declared = signatures[name].inputs
    row_form = "instances" in request
    values = (
        _columns_of_rows(request["instances"], declared)
        if row_form
        else _columns(request["inputs"], declared)
    )
    inputs = {key: to_array(values[key], declared[key].dtype, key) for key in declared}
    return PredictRequest(name, inputs, row_form)


def format_predict(outputs: Mapping[str, np.ndarray], *, row_form: bool) -> dict[str, Any]:
    """The answer to a `:predict` request, as JSON types.

    Args:
        outputs: Arrays by output name, each with the batch first.
        row_form: Answer with `predictions`, a value or an object for each row, else with `outputs`.
    """
    values = {name: _json_values(name, array) for name, array in outputs.items()}
    if not row_form:
        return {"outputs": next(iter(values.values())) if len(values) == 1 else values}
    if len(values) == 1:
        return {"predictions": next(iter(values.values()))}
    rows = zip(*values.values(), strict=True)
    return {"predictions": [dict(zip(values, row, strict=True)) for row in rows]}


def to_array(value: Any, dtype: int, name: str) -> np.ndarray:
    """A JSON value to an array of a TensorFlow `DataType`.

    Raises:
        InvalidRequest: It is ragged, or holds a value of another type.
    """
    expected = tf.dtypes.as_dtype(dtype)
    leaves = np.array(value, dtype=object)
    types = set(map(type, leaves.flat))
    allowed: set[Any]
    if expected == tf.string:
        allowed = {str, dict}
    elif expected == tf.bool:
        allowed = {bool}
    else:
        allowed = {int, float} if expected.is_floating else {int}
    if not types <= allowed:
        found = ", ".join(sorted(kind.__name__ for kind in types - allowed))
        raise InvalidRequest(
            f"input {name!r}: expected a rectangular list of type {expected.name}, found {found}"
        )
    if expected == tf.string:
        encoded = [_to_bytes(leaf, name) for leaf in leaves.flat]
        result = np.empty(len(encoded), dtype=object)
        result[:] = encoded
        return result.reshape(leaves.shape)
    try:
        with np.errstate(over="ignore"):  # beyond float32 is infinity
            return leaves.astype(expected.as_numpy_dtype)
    except OverflowError as error:
        raise InvalidRequest(f"input {name!r}: {error}") from None


def _columns_of_rows(instances: Any, declared: Mapping[str, Any]) -> dict[str, list[Any]]:
    if not isinstance(instances, list) or not instances:
        raise InvalidRequest("'instances' key: value must be a non-empty list")
    named = [isinstance(row, dict) and not _is_base64(row) for row in instances]
    if not any(named):
        if len(declared) != 1:
            raise InvalidRequest(f"instances must be objects with the keys {sorted(declared)}")
        return {next(iter(declared)): instances}
    for index, row in enumerate(instances):
        if not named[index] or set(row) != set(declared):
            raise InvalidRequest(
                f"instance {index}: expected an object with exactly the keys {sorted(declared)}"
            )
    return {name: [row[name] for row in instances] for name in declared}


def _columns(inputs: Any, declared: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(inputs, dict) or _is_base64(inputs):
        if len(declared) != 1:
            raise InvalidRequest(f"'inputs' must be an object with the keys {sorted(declared)}")
        return {next(iter(declared)): inputs}
    missing = set(declared) - set(inputs)
    if missing:
        raise InvalidRequest(f"missing inputs: {sorted(missing)}")
    return {name: inputs[name] for name in declared}


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"b64"}


def _to_bytes(leaf: Any, name: str) -> bytes:
    if isinstance(leaf, str):
        try:
            return leaf.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequest(f"input {name!r}: {error}") from None
    if not _is_base64(leaf) or not isinstance(leaf["b64"], str):
        raise InvalidRequest(f'input {name!r}: expected bytes as {{"b64": "..."}}')
    try:
        return base64.b64decode(leaf["b64"], validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"input {name!r}: the value of b64 is not base64") from None


def _json_values(name: str, array: np.ndarray) -> Any:
    if array.dtype != object:
        return array.tolist()
    encoded = [
        {"b64": base64.b64encode(item).decode()} if name.endswith("_bytes") else item.decode(errors="replace")
        for item in array.flat
    ]
    result = np.empty(len(encoded), dtype=object)
    result[:] = encoded
    return result.reshape(array.shape).tolist()
