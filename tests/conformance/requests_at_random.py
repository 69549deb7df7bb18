"""Hypothesis strategies for requests that are wrong in some way, or only just right."""

import base64
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from tensorflow.core.framework import types_pb2
from tensorflow.core.framework.tensor_pb2 import TensorProto

SIGNATURES = ("serving_default", "tensor", "tensor_uint8", "features", "labels", "classify")
INPUTS = ("images", "indices", "inputs")

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([2**31, 2**63, 2**64, -1, 1e39, math.nan, math.inf, "", "\0", "\ud800", "é"])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["b64", *INPUTS]) | st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=12,
)


@dataclass(frozen=True)
class Images:
    """Files to begin with, and the network's size (height, width, channels)."""

    files: tuple[bytes, ...]
    shape: tuple[int, int, int]


@st.composite
def broken_file(draw: Any, images: Images) -> bytes:
    """A file cut short, changed in some bytes, with another size in its header, or no image at all."""
    whole = draw(st.sampled_from(images.files))
    how = draw(st.sampled_from(["cut", "changed", "size", "other", "longer"]))
    if how == "cut":
        return whole[: draw(st.integers(0, len(whole) - 1))]
    if how == "changed":
        changed = bytearray(whole)
        for _ in range(draw(st.integers(1, 8))):
            changed[draw(st.integers(0, len(whole) - 1))] = draw(st.integers(0, 255))
        return bytes(changed)
    if how == "size":
        return resized(whole, draw(sides), draw(sides))
    if how == "other":
        return draw(st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF"])) + draw(
            st.binary(max_size=64)
        )
    return whole + draw(st.binary(min_size=1, max_size=64))


sides = st.sampled_from([0, 1, 2, 20_000, 65_535, 2**31 - 1, 2**32 - 1]) | st.integers(1, 30_000)


def resized(file: bytes, width: int, height: int) -> bytes:
    """The file with another size in its header."""
    if file.startswith(b"\x89PNG"):
        return file[:16] + width.to_bytes(4) + height.to_bytes(4) + file[24:]
    start = file.index(b"\xff\xc0") + 5
    return file[:start] + (height % 65_536).to_bytes(2) + (width % 65_536).to_bytes(2) + file[start + 4 :]


def encoded(file: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(file).decode()}


@st.composite
def array_shape(draw: Any, images: Images) -> tuple[int, ...]:
    """Small, or near to what the network takes, or large."""
    near = [(*images.shape,), (1, *images.shape), (1, 1, *images.shape), (2, *images.shape), images.shape[:2]]
    large = [(100_000,), (1, 300, 300, 3), (60, 60, 60), (1,) * 30]
    small = st.lists(st.integers(0, 3), max_size=6).map(tuple)
    return draw(st.sampled_from(near + large) | small)


@st.composite
def rest_body(draw: Any, images: Images) -> bytes:
    """The body of a request over HTTP."""
    kind = draw(
        st.sampled_from(["bytes", "json", "file", "files", "array", "row", "cut", "examples", "junk"])
    )
    if kind == "junk":
        return draw(st.binary(max_size=200))
    body: dict[str, Any] = {"signature_name": draw(st.sampled_from(SIGNATURES))}
    if draw(st.integers(0, 9)) == 0:
        body["signature_name"] = draw(scalars)
    key = draw(st.sampled_from(["instances", "inputs"]))
    if kind in ("file", "cut"):
        body[key] = [encoded(draw(broken_file(images)))]
    elif kind == "files":
        body[key] = [encoded(draw(broken_file(images))) for _ in range(draw(st.integers(2, 4)))]
    elif kind == "row":
        body[key] = {draw(st.sampled_from(INPUTS)): draw(values)}
    elif kind == "array":
        array = np.full(
            draw(array_shape(images)), draw(st.sampled_from([0, 255, 1.5, 300, math.nan, -math.inf]))
        )
        body[key] = array.tolist()
        if draw(st.booleans()) and isinstance(body[key], list) and body[key]:
            body[key][-1] = draw(values)
    elif kind == "examples":
        feature = st.one_of(values, broken_file(images).map(encoded))
        body["examples"] = draw(st.lists(st.dictionaries(st.just("image/encoded"), feature), max_size=3))
    else:
        body |= draw(st.dictionaries(st.sampled_from(["instances", "inputs", "examples"]), values))
    text = json.dumps(body).encode()
    return text[: draw(st.integers(0, len(text)))] if kind == "cut" else text


@st.composite
def rest_request(draw: Any, model: str, images: Images) -> tuple[str, str, bytes]:
    """Method, path and body; mostly a predict request to the model."""
    path = f"/v1/models/{model}" + draw(
        st.sampled_from([":predict"] * 12 + [":classify"] * 4)
        | st.sampled_from([":regress", ":explain", "", "/metadata", "/versions/99:predict", "/versions/-1"])
        | st.from_regex(r"(/[a-z0-9%]{1,8}){1,3}", fullmatch=True)
    )
    method = draw(st.sampled_from(["POST"] * 12 + ["GET", "PUT", "PATCH", "HEAD"]))
    return method, path, draw(rest_body(images))


@st.composite
def tensor(draw: Any, images: Images) -> TensorProto:
    """A tensor over gRPC whose type, shape and content need not agree."""
    proto = TensorProto(dtype=draw(st.sampled_from(list(types_pb2.DataType.values())[:24])))
    proto.tensor_shape.unknown_rank = draw(st.integers(0, 9)) == 0
    shape = draw(array_shape(images) | st.lists(st.sampled_from([-1, 0, 1, 2**31, 2**62]), max_size=4))
    if not proto.tensor_shape.unknown_rank:
        for size in shape:
            proto.tensor_shape.dim.add(size=size)
    content = draw(st.sampled_from(["content", "strings", "floats", "ints", "none", "files"]))
    if content == "content":
        proto.tensor_content = draw(st.binary(max_size=64))
    elif content == "strings":
        proto.string_val.extend(draw(st.lists(st.binary(max_size=20), max_size=3)))
    elif content == "files":
        proto.dtype = types_pb2.DT_STRING
        proto.string_val.extend(draw(st.lists(broken_file(images), min_size=1, max_size=3)))
        proto.tensor_shape.Clear()
        proto.tensor_shape.dim.add(size=len(proto.string_val))
    elif content == "floats":
        proto.float_val.extend(draw(st.lists(st.floats(width=32), max_size=4)))
    elif content == "ints":
        proto.int_val.extend(draw(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4)))
    return proto
