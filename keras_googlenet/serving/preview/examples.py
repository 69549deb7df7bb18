"""The bodies of `:classify` and `:regress`: JSON objects as `tf.Example`s. Source: `json_tensor.cc`."""

from __future__ import annotations

from typing import Any

import numpy as np
from tensorflow.core.example.example_pb2 import Example
from tensorflow.core.example.feature_pb2 import Feature

from keras_googlenet.serving.preview import bounds, json_values, wire
from keras_googlenet.serving.preview.errors import invalid

LARGEST = float(np.finfo(np.float32).max)


def parse_examples(body: bytes, max_rows: int | None) -> tuple[str, list[bytes]]:
    """Parse the body of a `:classify` or `:regress` request.

    Args:
        body: JSON: `examples`, a list of objects of features, and perhaps a `context` that all share.
        max_rows: The bound on their number.

    Returns:
        The signature's name, and the serialized examples.

    Raises:
        StatusError: The body does not follow the protocol.
    """
    request = wire.parse_object(body)
    name = wire.signature_name(request)
    context = _example(request["context"]).SerializeToString() if "context" in request else b""
    if "examples" not in request:
        raise invalid("When method is classify, key 'examples' is expected and was not found")
    listed = request["examples"]
    if not isinstance(listed, list):
        raise invalid("Expecting 'examples' value to be an list/array")
    if not listed:
        raise invalid("'examples' value is an empty array")
    bounds.check_rows("examples", len(listed), max_rows)
    bounds.check_made_bytes(len(context) * len(listed))
    # Messages merge where their bytes follow one another.
    return name, [context + _example(value).SerializeToString() for value in listed]


def _example(value: Any) -> Example:
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {type(value).__name__}")
    example = Example()
    for name, content in value.items():
        _fill(example.features.feature[json_values.encode(name).decode()], name, content)
    return example


def _fill(feature: Feature, name: str, content: Any) -> None:
    values = content if isinstance(content, list) else [content]
    kinds: set[Any] = set(map(type, values))
    # Millions of numbers of one type, without a call for each.
    if kinds == {float} and np.abs(np.array(values))[np.isfinite(values)].max(initial=0) <= LARGEST:
        feature.float_list.value.extend(values)
        return
    if kinds == {int} and min(values) >= -(2**63) and max(values) < 2**63:
        feature.int64_list.value.extend(values)
        return
    if kinds == {str}:
        feature.bytes_list.value.extend(map(json_values.encode, values))
        return
    for value in values:
        kind, converted = _feature_value(name, value)
        if feature.WhichOneof("kind") not in (None, kind):
            raise invalid(f"Unexpected element type in feature: {name} expecting type: {kind}")
        getattr(feature, kind).value.append(converted)


def _feature_value(name: str, value: Any) -> tuple[str, Any]:
    if isinstance(value, str):
        return "bytes_list", json_values.encode(value)
    if json_values.is_base64(value):
        return "bytes_list", json_values.decode_base64(value)
    if isinstance(value, float):
        if np.isfinite(value) and abs(value) > LARGEST:
            raise invalid(f"Cannot convert JSON value: {value} to float without loss of precision.")
        return "float_list", value
    if isinstance(value, int):  # a boolean is one
        if not -(2**63) <= value < 2**63:
            raise invalid(f"Feature: {name} has uint64 element. Only int64 is supported.")
        return "int64_list", int(value)
    raise invalid(f"Feature: {name} has element with unexpected JSON type: {type(value).__name__}")
