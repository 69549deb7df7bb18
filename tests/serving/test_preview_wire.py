import base64
import json
import math
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tensorflow.core.protobuf import error_codes_pb2 as code
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo

from keras_googlenet.serving.preview.errors import StatusError
from keras_googlenet.serving.preview.json_values import to_array
from keras_googlenet.serving.preview.wire import format_predict, parse_predict


def signature(**inputs):
    infos = {
        name: TensorInfo(dtype=dtype.as_datatype_enum, tensor_shape=tf.TensorShape(shape).as_proto())
        for name, (dtype, shape) in inputs.items()
    }
    return SignatureDef(inputs=infos, method_name="tensorflow/serving/predict")


SIGNATURES = {
    "serving_default": signature(images=(tf.string, [None])),
    "floats": signature(x=(tf.float32, [None, 2])),
    "integers": signature(x=(tf.int32, [None])),
    "bytes": signature(x=(tf.uint8, [None])),
    "booleans": signature(x=(tf.bool, [None])),
    "two": signature(image=(tf.string, [None]), weight=(tf.float32, [None])),
}
PNG = b"\x89PNG\x00\xff"
B64 = {"b64": base64.b64encode(PNG).decode()}


def parse(**request):
    return parse_predict(json.dumps(request).encode(), SIGNATURES)


@pytest.mark.parametrize(
    ("request_", "dtype", "expected"),
    [
        ({"instances": [B64, B64]}, object, [PNG, PNG]),
        ({"instances": [{"images": B64}]}, object, [PNG]),
        ({"instances": ["text"]}, object, [b"text"]),
        ({"instances": [[B64]]}, object, [[PNG]]),
        ({"inputs": [B64]}, object, [PNG]),
        ({"inputs": B64}, object, PNG),
        ({"inputs": {"images": [B64]}}, object, [PNG]),
        ({"inputs": {"images": [B64], "extra": 1}}, object, [PNG]),
        ({"signature_name": "", "instances": [B64]}, object, [PNG]),
        ({"signature_name": "floats", "instances": [[1, 2.5], [3, 4]]}, "float32", [[1, 2.5], [3, 4]]),
        ({"signature_name": "floats", "instances": [{"x": [1, 2]}]}, "float32", [[1, 2]]),
        ({"signature_name": "floats", "inputs": [[1, 2]]}, "float32", [[1, 2]]),
        ({"signature_name": "floats", "inputs": []}, "float32", []),
        ({"signature_name": "integers", "instances": [1, -2]}, "int32", [1, -2]),
        ({"signature_name": "bytes", "instances": [0, 255]}, "uint8", [0, 255]),
        ({"signature_name": "bytes", "instances": [256, -1]}, "uint8", [0, 255]),  # as Serving wraps them
        (
            {"signature_name": "floats", "instances": [[2.0**99, 2**24 - 1]]},
            "float32",
            [[2.0**99, 2**24 - 1]],
        ),
        ({"instances": [{"b64": "YWJj\nZGU"}]}, object, [b"abcde"]),  # blanks, and no padding
        ({"signature_name": "booleans", "instances": [True]}, "bool", [True]),
    ],
)
def test_parsed(request_, dtype, expected):
    parsed = parse(**request_)
    assert parsed.signature_name == (request_.get("signature_name") or "serving_default")
    assert parsed.row_form == ("instances" in request_)
    (array,) = parsed.inputs.values()
    assert array.dtype == dtype
    assert array.tolist() == expected


@pytest.mark.parametrize(
    "request_",
    [
        {"instances": [{"image": B64, "weight": 1}, {"weight": 2, "image": "a"}]},
        {"inputs": {"image": [B64, "a"], "weight": [1, 2]}},
        {"inputs": {"image": [B64, "a"], "weight": [1, 2], "extra": None}},
    ],
)
def test_several_inputs(request_):
    inputs = parse(signature_name="two", **request_).inputs
    assert {name: array.tolist() for name, array in inputs.items()} == {
        "image": [PNG, b"a"],
        "weight": [1, 2],
    }


def test_non_finite_floats_are_taken_as_json_writes_them():
    (array,) = parse(signature_name="floats", instances=[[math.nan, math.inf]]).inputs.values()
    np.testing.assert_array_equal(array, [[np.nan, np.inf]])


UTF_16 = json.dumps({"instances": ["text"]}).encode("utf-16")


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[]", b"1", b'"instances"', b"[" * 100_000, UTF_16])
def test_body_that_is_no_json_object_is_refused(body):
    with pytest.raises(StatusError, match="JSON"):
        parse_predict(body, SIGNATURES)


ROWS = {"instances": [B64]}


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "Missing 'inputs' or 'instances'"),
        (ROWS | {"inputs": [B64]}, "only one of"),
        (ROWS | {"signature_name": "absent"}, '"absent" not found'),
        (ROWS | {"signature_name": 1}, "must be a string"),
        ({"instances": []}, "No values in 'instances'"),
        ({"instances": None}, "to be an list"),
        ({"instances": {"images": [B64]}}, "to be an list"),
        ({"instances": [{"images": B64, "extra": 1}]}, "element: 0 .*must only have keys: images"),
        ({"instances": [{}]}, "must only have keys: images"),
        ({"instances": [{"images": B64}, B64]}, "got list at item 1"),
        ({"instances": [B64, {"images": B64}]}, "got object at item 1"),
        ({"inputs": {"other": [B64]}}, "Missing named input: images"),
        ({"instances": [1]}, "Type: Number is not of expected type: string"),
        ({"instances": [None]}, "Type: Null is not of expected type: string"),
        ({"instances": [B64, [B64]]}, "unexpected size or level"),
        ({"instances": [{"images": B64 | {"extra": 1}}]}, "not formatted correctly for base64"),
        ({"inputs": [{"b64": 1}]}, "not formatted correctly for base64"),
        ({"instances": [{"b64": "not base64!"}]}, "Unable to base64 decode"),
        ({"instances": [{"b64": "abcde"}]}, "Unable to base64 decode"),
        ({"instances": [{"b64": "abc=="}]}, "Unable to base64 decode"),
        ({"instances": [{"b64": "_-_-"}]}, "Unable to base64 decode"),  # the URL-safe alphabet
        ({"instances": [{"b64": "é"}]}, "Unable to base64 decode"),
        ({"instances": ["\ud800"]}, "surrogate"),  # half a surrogate pair has no bytes
        ({"signature_name": "floats", "instances": [[1, 2], [3]]}, "unexpected size"),
        ({"signature_name": "floats", "instances": [["1", 2]]}, "Type: String"),
        ({"signature_name": "floats", "instances": [[True, 2]]}, "Type: True"),
        ({"signature_name": "floats", "instances": [[None, 2]]}, "Type: Null"),
        ({"signature_name": "floats", "instances": [B64]}, "Type: Object"),
        ({"signature_name": "floats", "instances": [[10**400, 1]]}, "without loss of precision"),
        ({"signature_name": "floats", "instances": [[2**24, 1]]}, "without loss of precision"),
        ({"signature_name": "floats", "instances": [[2**24, 0.5]]}, "without loss of precision"),
        ({"signature_name": "floats", "instances": [[1e39, 0.5]]}, "without loss of precision"),
        ({"signature_name": "integers", "instances": [1.0]}, "Type: Number"),
        ({"signature_name": "integers", "instances": [True]}, "Type: True"),
        ({"signature_name": "integers", "instances": [2**31]}, "Type: Number"),
        ({"signature_name": "bytes", "instances": [2**31]}, "Type: Number"),
        ({"signature_name": "booleans", "instances": [1]}, "Type: Number"),
        ({"signature_name": "two", "instances": [1]}, "expecting list of objects"),
        ({"signature_name": "two", "instances": [{"image": B64}]}, "must only have keys: image,weight"),
        ({"signature_name": "two", "inputs": [B64]}, "expecting an object"),
        ({"signature_name": "two", "inputs": B64}, "expecting an object"),
        ({"signature_name": "two", "inputs": {"image": [B64]}}, "Missing named input: weight"),
    ],
)
def test_refused(request_, message):
    with pytest.raises(StatusError, match=message):
        parse(**request_)


def test_text_among_numbers_takes_no_room():
    """As an array of text, each of the numbers would take as much as the longest."""
    values = ["x" * 20_000, *range(20_000)]
    tracemalloc.start()
    try:
        for name, refused in (("integers", values), ("floats", [values])):
            with pytest.raises(StatusError, match='JSON Value: "xxx'):
                parse(signature_name=name, instances=refused)
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=4)
keys = st.sampled_from(["b64", "images", "image", "weight", "x"]) | st.text(max_size=2)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=2),
    max_leaves=6,
)
names = st.sampled_from(sorted(SIGNATURES)) | values
requests = st.fixed_dictionaries({"instances": values}, optional={"signature_name": names})
requests |= st.fixed_dictionaries({"inputs": values}, optional={"signature_name": names})


@given(st.binary(max_size=20) | (requests | values).map(lambda value: json.dumps(value).encode()))
@example(b'{"instances": ["\\ud800"]}')
@settings(max_examples=300)
def test_any_body_is_parsed_or_refused(body):
    try:
        parsed = parse_predict(body, SIGNATURES)
    except StatusError:
        return
    declared = SIGNATURES[parsed.signature_name].inputs
    assert {name: tf.as_dtype(array.dtype) for name, array in parsed.inputs.items()} == {
        name: tf.as_dtype(info.dtype) for name, info in declared.items()
    }


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64, tf.int64, tf.uint8, tf.bool])
def test_arrays_have_the_declared_dtype(dtype):
    value = [[True]] if dtype == tf.bool else [[1]]
    array = to_array(value, dtype.as_datatype_enum, "x")
    assert array.dtype == dtype.as_numpy_dtype
    assert array.tolist() == value


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_half_floats_have_no_json_form(dtype):
    with pytest.raises(StatusError, match=f"Conversion of JSON Value: 1.5 to type: {dtype.name}") as caught:
        to_array([1.5], dtype.as_datatype_enum, "x")
    assert caught.value.code == code.UNIMPLEMENTED
    with pytest.raises(StatusError, match=f"for tensor type: {dtype.name}") as caught:
        format_predict({"y": np.zeros(1, dtype.as_numpy_dtype)}, row_form=True)
    assert caught.value.code == code.INVALID_ARGUMENT


NAMES = np.array([[b"cat", b"dog"], [b"dog", b"cat"]], dtype=object)
SCORES = np.array([[0.75, 0.25], [0.5, 0.5]], dtype="float32")


@pytest.mark.parametrize(
    ("outputs", "rows", "columns"),
    [
        ({"scores": SCORES}, SCORES.tolist(), SCORES.tolist()),
        ({"classes": NAMES}, [["cat", "dog"], ["dog", "cat"]], [["cat", "dog"], ["dog", "cat"]]),
        (
            {"classes": NAMES, "scores": SCORES},
            [
                {"classes": ["cat", "dog"], "scores": [0.75, 0.25]},
                {"classes": ["dog", "cat"], "scores": [0.5, 0.5]},
            ],
            {"classes": [["cat", "dog"], ["dog", "cat"]], "scores": SCORES.tolist()},
        ),
        ({"png_bytes": np.array([PNG], dtype=object)}, [B64], [B64]),
        ({"png": np.array([b"a\xff"], dtype=object)}, ["a\ufffd"], ["a\ufffd"]),
    ],
    ids=["numbers", "strings", "several", "bytes", "not utf-8"],
)
def test_answers(outputs, rows, columns):
    assert json.loads(format_predict(outputs, row_form=True)) == {"predictions": rows}
    assert json.loads(format_predict(outputs, row_form=False)) == {"outputs": columns}


def test_rows_of_several_outputs_have_such_numbers_too():
    outputs = {name: np.array([np.nan, 1], "float32") for name in "ab"}
    assert format_predict(outputs, row_form=True) == (
        b'{"predictions": [{"a": NaN, "b": NaN}, {"a": 1.0, "b": 1.0}]}'
    )
