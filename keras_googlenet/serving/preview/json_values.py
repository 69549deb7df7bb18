"""JSON values to arrays of a TensorFlow type, with the checks and messages of Serving's `json_tensor.cc`."""

from __future__ import annotations

import base64
import binascii
import contextlib
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import error_codes_pb2 as code

from keras_googlenet.serving.preview.errors import MAX_MESSAGE, StatusError, invalid

# The least and greatest JSON integers that a type takes; Serving reads the narrow ones as int32 and wraps.
INTEGERS = {
    **dict.fromkeys((tf.int32, tf.int16, tf.int8, tf.uint8), (-(2**31), 2**31 - 1)),
    tf.int64: (-(2**63), 2**63 - 1),
    tf.uint32: (0, 2**32 - 1),
    tf.uint64: (0, 2**64 - 1),
}
MAX_RANK = 32  # NumPy has 64; no signature of images needs more than four
# The greatest integer and the greatest decimal that lose no precision.
FLOATS = {
    tf.float32: (2**24 - 1, float(np.finfo(np.float32).max)),
    tf.float64: (2**53 - 1, float(np.finfo(np.float64).max)),
}


def to_array(value: Any, dtype: int, name: str) -> np.ndarray:
    """A JSON value to an array of a TensorFlow `DataType`.

    Args:
        value: The value.
        dtype: The `DataType`.
        name: The input's name, for messages.

    Raises:
        StatusError: It is ragged, holds a value of another type, or the type has no JSON form.
    """
    expected = tf.dtypes.as_dtype(dtype)
    # As objects: NumPy would allocate the length of the longest string for every number.
    leaves = _leaves(value, name)
    _check_leaves(leaves, expected, name)
    if expected == tf.string:
        return object_array([_to_bytes(leaf) for leaf in leaves.flat], leaves.shape)
    if expected in INTEGERS:
        wide = np.int64 if INTEGERS[expected][1] < 2**63 else np.uint64
        return leaves.astype(wide).astype(expected.as_numpy_dtype)
    return leaves.astype(expected.as_numpy_dtype)


def _leaves(value: Any, name: str) -> np.ndarray:
    depth, inner = 0, value
    while isinstance(inner, list) and inner:
        depth, inner = depth + 1, inner[0]
    if depth > MAX_RANK:
        raise invalid(f"input {name!r}: expected at most {MAX_RANK} dimensions, got {depth}")
    return np.array(value, dtype=object)


def is_base64(value: Any) -> bool:
    """Whether a JSON value is an object that holds bytes."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def decode_base64(value: Mapping[str, str]) -> bytes:
    """The bytes of such an object; padding may be missing and blanks present, as in TensorFlow Serving.

    Raises:
        StatusError: They are not in the standard alphabet.
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


def encode(text: str) -> bytes:
    """A JSON string as UTF-8.

    Raises:
        StatusError: It holds half of a surrogate pair.
    """
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise invalid("JSON Parse error: The surrogate pair in string is invalid.") from None


def shown(value: Any) -> str:
    """A JSON value in a message."""
    if isinstance(value, dict | list):
        value = _shortened(value)
    if isinstance(value, int) and abs(value) >= 2**64:
        return f"an integer of {value.bit_length()} bits"  # Python refuses to print thousands of digits
    return json.dumps(value, default=str)[:MAX_MESSAGE]


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
        first = shown(next(leaves.flat))
        raise StatusError(code.UNIMPLEMENTED, f"Conversion of JSON Value: {first} to type: {expected.name}")
    else:
        return
    if not types <= allowed:
        wrong = next(leaf for leaf in leaves.flat if type(leaf) not in allowed)
        raise _type_error(wrong, expected)
    if expected in INTEGERS and leaves.size:
        least, greatest = INTEGERS[expected]
        for leaf in (leaves.min(), leaves.max()):
            if not least <= leaf <= greatest:
                raise _type_error(leaf, expected)
    elif expected in FLOATS:
        _check_precision(leaves, expected)


def _check_precision(leaves: np.ndarray, expected: Any) -> None:
    integer, decimal = FLOATS[expected]
    with contextlib.suppress(OverflowError):  # an integer of hundreds of digits
        if not (np.abs(leaves.astype(np.float64)) > integer).any():
            return
    for leaf in leaves.flat:
        limit = integer if type(leaf) is int else decimal
        if abs(leaf) > limit and abs(leaf) != np.inf:
            raise invalid(
                f"Cannot convert JSON value: {shown(leaf)} to {expected.name} without loss of precision."
            )


def _type_error(leaf: Any, expected: Any) -> StatusError:
    kinds = {bool: str(leaf), dict: "Object", str: "String", type(None): "Null"}
    kind = kinds.get(type(leaf), "Number")
    return invalid(f"JSON Value: {shown(leaf)} Type: {kind} is not of expected type: {expected.name}")


def _shortened(value: Any, depth: int = 3) -> Any:
    # A message is cut anyway, so a body of megabytes is not formatted in full.
    if isinstance(value, dict):
        items = itertools.islice(value.items(), 8)
        return {key[:40]: _shortened(item, depth - 1) for key, item in items} if depth else {}
    if isinstance(value, list):
        return [_shortened(item, depth - 1) for item in value[:8]] if depth else []
    if isinstance(value, str):
        return value[:40]
    return str(value.bit_length()) + " bits" if isinstance(value, int) and abs(value) >= 2**64 else value


def _to_bytes(leaf: Any) -> bytes:
    if isinstance(leaf, str):
        return encode(leaf)
    if not is_base64(leaf):
        raise invalid(f"JSON Value: {shown(leaf)} not formatted correctly for base64 data")
    return decode_base64(leaf)


def object_array(items: Sequence[Any], shape: tuple[int, ...]) -> np.ndarray:
    """An array of Python objects, whatever they hold."""
    result = np.empty(len(items), dtype=object)
    result[:] = items
    return result.reshape(shape)
