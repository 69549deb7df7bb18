"""TensorFlow Serving's REST format: JSON to arrays and back, by a signature's declaration.

Source: TensorFlow Serving's RESTful API (`api_rest`), and the checks and messages of its `json_tensor.cc`.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import tensorflow as tf
from tensorflow.core.protobuf import error_codes_pb2 as code

from keras_googlenet.serving.preview.errors import MAX_MESSAGE, ServingError, invalid
from keras_googlenet.serving.preview.inference import DEFAULT_SIGNATURE, Arrays

# The least and greatest JSON integers that a type takes; Serving reads the narrow ones as int32 and wraps.
INTEGERS = {
    **dict.fromkeys((tf.int32, tf.int16, tf.int8, tf.uint8), (-(2**31), 2**31 - 1)),
    tf.int64: (-(2**63), 2**63 - 1),
    tf.uint32: (0, 2**32 - 1),
    tf.uint64: (0, 2**64 - 1),
}
# The greatest integer and the greatest decimal that lose no precision.
FLOATS = {
    tf.float32: (2**24 - 1, float(np.finfo(np.float32).max)),
    tf.float64: (2**53 - 1, float(np.finfo(np.float64).max)),
}


@dataclass(frozen=True)
class PredictRequest:
    """A parsed request: arrays by input name, and the form to answer in."""

    signature_name: str
    inputs: Arrays
    row_form: bool


def parse_object(body: bytes) -> dict[str, Any]:
    """The body of a request, a JSON object; NaN and Infinity are numbers in it.

    Raises:
        ServingError: It is no JSON object.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        request = orjson.loads(body)
    except ValueError:
        request = _parse_slowly(body)  # orjson knows no NaN and no Infinity
    if not isinstance(request, dict):
        raise invalid(f"JSON Value: {_shown(request)} Is not object")
    return request


def signature_name(request: Mapping[str, Any]) -> str:
    """The signature that a request names, or the default one.

    Raises:
        ServingError: It is not named by a string.
    """
    name = request.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {_shown(request)} not formatted correctly. 'signature_name' key must be a string "
            "value."
        )
    return name or DEFAULT_SIGNATURE


def parse_predict(body: bytes, signatures: Mapping[str, Any]) -> PredictRequest:
    """Parse the body of a `:predict` request.

    Args:
        body: JSON, in row form (`instances`) or column form (`inputs`).
        signatures: `SignatureDef` protos by name.

    Raises:
        ServingError: The body does not follow the protocol or the signature.
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
            f"JSON Value: {_shown(request)} Not formatted correctly expecting only one of 'inputs' or "
            "'instances' keys to exist "
        )
    if row_form:
        values = _columns_of_rows(request["instances"], declared)
    elif "inputs" in request:
        values = _columns(request["inputs"], declared)
    else:
        raise invalid("Missing 'inputs' or 'instances' key")
    # A boolean among numbers would pass for one; it is looked for only where the body can hold one.
    booleans = b"true" in body or b"false" in body
    inputs = {key: to_array(values[key], declared[key].dtype, key, booleans) for key in declared}
    return PredictRequest(name, inputs, row_form)


def format_predict(outputs: Mapping[str, np.ndarray], *, row_form: bool) -> bytes:
    """The answer to a `:predict` request, as JSON.

    Args:
        outputs: Arrays by output name.
        row_form: Answer with `predictions`, a value or an object for each row, else with `outputs`.

    Raises:
        ServingError: An array has no JSON form, or in row form no row.
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


def to_array(value: Any, dtype: int, name: str, booleans: bool = True) -> np.ndarray:
    """A JSON value to an array of a TensorFlow `DataType`.

    Args:
        value: The value.
        dtype: The `DataType`.
        name: The input's name, for messages.
        booleans: Whether a `true` or `false` may be in the value.

    Raises:
        ServingError: It is ragged, holds a value of another type, or the type has no JSON form.
    """
    expected = tf.dtypes.as_dtype(dtype)
    numeric = expected in INTEGERS or expected in FLOATS
    if numeric and not booleans:
        array = _numbers(value, expected)
        if array is not None:
            return array
    leaves = np.array(value, dtype=object)
    _check_leaves(leaves, expected, name)
    if expected == tf.string:
        return _object_array([_to_bytes(leaf) for leaf in leaves.flat], leaves.shape)
    if expected in INTEGERS:
        wide = np.int64 if INTEGERS[expected][1] < 2**63 else np.uint64
        return leaves.astype(wide).astype(expected.as_numpy_dtype)
    return leaves.astype(expected.as_numpy_dtype)


def _parse_slowly(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise invalid(f"JSON Parse error: {error}") from None


def _numbers(value: Any, expected: Any) -> np.ndarray | None:
    """The quick way: NumPy's own idea of the values, where it leaves no doubt; `None` where it does."""
    try:
        array = np.asarray(value)
    except ValueError:
        return None
    if array.dtype.kind not in "iuf" or array.size == 0:
        return None
    if expected in INTEGERS:
        least, greatest = INTEGERS[expected]
        if array.dtype.kind == "f" or array.min() < least or array.max() > greatest:
            return None
    # Among decimals, an integer that loses precision looks like any other number.
    elif np.nanmax(np.abs(array), initial=0) > FLOATS[expected][0]:
        return None
    return array.astype(expected.as_numpy_dtype)


def _check_leaves(leaves: np.ndarray, expected: Any, name: str) -> None:
    types: set[Any] = set(map(type, leaves.flat))
    allowed: set[Any]
    if list in types:
        raise invalid(f"input {name!r}: Encountered list at unexpected size or level: expected all alike")
    if expected == tf.string:
        allowed = {str, dict}
    elif expected == tf.bool:
        allowed = {bool}
    elif expected in INTEGERS:
        allowed = {int}
    elif expected in FLOATS:
        allowed = {int, float}
    elif types:
        shown = _shown(next(leaves.flat))
        raise ServingError(code.UNIMPLEMENTED, f"Conversion of JSON Value: {shown} to type: {expected.name}")
    else:
        return
    if not types <= allowed:
        wrong = next(leaf for leaf in leaves.flat if type(leaf) not in allowed)
        raise _type_error(wrong, expected)
    if expected in INTEGERS:
        least, greatest = INTEGERS[expected]
        for leaf in leaves.flat:
            if not least <= leaf <= greatest:
                raise _type_error(leaf, expected)
    elif expected in FLOATS:
        integer, decimal = FLOATS[expected]
        for leaf in leaves.flat:
            limit = integer if type(leaf) is int else decimal
            if abs(leaf) > limit and abs(leaf) != np.inf:
                raise invalid(
                    f"Cannot convert JSON value: {_shown(leaf)} to {expected.name} without loss of precision."
                )


def _type_error(leaf: Any, expected: Any) -> ServingError:
    kinds = {bool: str(leaf), dict: "Object", str: "String", type(None): "Null"}
    kind = kinds.get(type(leaf), "Number")
    return invalid(f"JSON Value: {_shown(leaf)} Type: {kind} is not of expected type: {expected.name}")


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        value = _shortened(value)
    if isinstance(value, int) and abs(value) >= 2**64:
        return f"an integer of {value.bit_length()} bits"  # Python refuses to print thousands of digits
    return json.dumps(value, default=str)[:MAX_MESSAGE]


def _shortened(value: Any, depth: int = 3) -> Any:
    # A message is cut anyway: a body of megabytes need not be written out for it.
    if isinstance(value, dict):
        items = itertools.islice(value.items(), 8)
        return {key[:40]: _shortened(item, depth - 1) for key, item in items} if depth else {}
    if isinstance(value, list):
        return [_shortened(item, depth - 1) for item in value[:8]] if depth else []
    if isinstance(value, str):
        return value[:40]
    return str(value.bit_length()) + " bits" if isinstance(value, int) and abs(value) >= 2**64 else value


def _columns_of_rows(instances: Any, declared: Mapping[str, Any]) -> dict[str, list[Any]]:
    if not isinstance(instances, list):
        raise invalid(f"JSON Value: {_shown(instances)} Excepting 'instances' to be an list/array")
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
                f"Failed to process element: {index} of 'instances' list. JSON object: {_shown(row)} must "
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


def is_base64(value: Any) -> bool:
    """Whether a JSON value is an object that holds bytes."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def decode_base64(value: Mapping[str, str]) -> bytes:
    """The bytes of such an object; padding may be missing and blanks be there, as in TensorFlow Serving.

    Raises:
        ServingError: They are not in the standard alphabet.
    """
    text = value["b64"]
    try:
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error:
            text = "".join(text.split())
            return base64.b64decode(text + "=" * (-len(text) % 4 if "=" not in text else 0), validate=True)
    except ValueError:
        raise invalid("Unable to base64 decode") from None


def _to_bytes(leaf: Any) -> bytes:
    if isinstance(leaf, str):
        return encode(leaf)
    if not is_base64(leaf):
        raise invalid(f"JSON Value: {_shown(leaf)} not formatted correctly for base64 data")
    return decode_base64(leaf)


def encode(text: str) -> bytes:
    """A JSON string as UTF-8.

    Raises:
        ServingError: It holds half of a surrogate pair.
    """
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise invalid("JSON Parse error: The surrogate pair in string is invalid.") from None


def _json_array(name: str, array: np.ndarray) -> np.ndarray:
    expected = tf.as_dtype(array.dtype)
    if expected == tf.string:
        as_bytes = name.endswith("_bytes")
        items: Sequence[Any] = [
            {"b64": base64.b64encode(item).decode()} if as_bytes else item.decode(errors="replace")
            for item in array.flat
        ]
        return _object_array(items, array.shape)
    if expected not in INTEGERS and expected not in FLOATS and expected != tf.bool:
        raise invalid(f"Failed to write JSON value for tensor type: {expected.name}")
    return np.asarray(array, order="C")  # orjson takes no other order


def _listed(array: Any) -> Any:
    return array.tolist()


def _object_array(items: Sequence[Any], shape: tuple[int, ...]) -> np.ndarray:
    result = np.empty(len(items), dtype=object)
    result[:] = items
    return result.reshape(shape)


def _holds_non_finite(content: Any) -> bool:
    if isinstance(content, np.ndarray):
        return content.dtype.kind == "f" and not np.isfinite(content).all()
    if isinstance(content, dict):
        return any(map(_holds_non_finite, content.values()))
    if isinstance(content, list | tuple):
        return any(map(_holds_non_finite, content))
    return isinstance(content, float) and not np.isfinite(content)
