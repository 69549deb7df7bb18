"""The worst requests of each kind that we know, for a model of `WIDE`; none takes long to make.

Over REST: a name, a method of the model, the body, and whether to gzip it. Over gRPC: a name, a method, the
serialized message, and whether to compress it.
"""

import gzip
import json
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.regression_pb2 import RegressionRequest

MODEL = "wide"
PIXELS = [None, 224, 224, 3]
MILLION = 10**6
MB = 2**20
# Those of a kind that `make test` sends; `make test-ci` sends all.
QUICK = {
    "lists, gzipped",
    "lists within the bound",
    "numbers within the bound",
    "nested 100 deep",
    "a feature of many numbers",
    "the same with a string",
    "strings declared",
    "a string repeated",
    "floats declared",
    "a float repeated",
    "many strings",
    "packed integers within the bound",
    "compressed beyond the limit",
    "many examples, Classify",
    "a context for many examples, Classify",
    "many groups",
}
AT_LIMIT = 49  # rows of pixels that JSON may just hold


class Wide(tf.Module):
    """Signatures with inputs as those of an export, and next to nothing to compute."""

    @tf.function(input_signature=[tf.TensorSpec(PIXELS, tf.float32, "images")])
    def tensor(self, images):
        return {"mean": tf.reduce_mean(images, (1, 2, 3))}

    @tf.function(input_signature=[tf.TensorSpec(PIXELS, tf.uint8, "images")])
    def tensor_uint8(self, images):
        return {"mean": tf.reduce_mean(tf.cast(images, tf.float32), (1, 2, 3))}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "images")])
    def files(self, images):
        return {"length": tf.strings.length(images)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def classify(self, inputs):
        features = {"image/encoded": tf.io.FixedLenFeature([], tf.string, "")}
        length = tf.strings.length(tf.io.parse_example(inputs, features)["image/encoded"])
        return {"scores": tf.cast(length, tf.float32)[:, None]}


def save_wide(directory):
    """Write version 1 of the model."""
    module = Wide()
    signatures = {
        "serving_default": module.files,
        "tensor": module.tensor,
        "tensor_uint8": module.tensor_uint8,
        "classify": module.classify,
    }
    tf.saved_model.save(module, str(directory / MODEL / "1"), signatures)


class Rest(NamedTuple):
    """A request over HTTP; `body` makes it."""

    name: str
    body: Callable[[], bytes]
    gzipped: bool = False
    method: str = "predict"
    statuses: frozenset[int] = frozenset({400, 413})

    def content(self):
        """The body as it is sent, and its headers."""
        whole = self.body()
        return (gzip.compress(whole, 1), {"content-encoding": "gzip"}) if self.gzipped else (whole, {})


class Grpc(NamedTuple):
    """A request over gRPC; `data` makes the serialized message."""

    name: str
    method: str
    data: Callable[[], bytes]
    compressed: bool = False
    service: str = "PredictionService"


def listed(item, size, signature="serving_default", start='"instances"'):
    """A JSON list of `item`, about `size` bytes long."""
    body = (item + b",") * (size // (len(item) + 1)) + item
    return b'{"signature_name":"%s",%s:[%s]}' % (signature.encode(), start.encode(), body)


def pixels(rows, end=b""):
    """Pixels as floats; `end` takes the last one's place."""
    row = json.dumps(np.full(PIXELS[1:], 123.4567).tolist()).replace(" ", "").encode()
    whole = b'{"signature_name":"tensor","instances":[%s]}' % b",".join([row] * rows)
    return whole.removesuffix(b"123.4567]]]]}") + (end or b"123.4567") + b"]]]]}"


def nested(depth):
    """A list in a list, and so on."""
    return b'{"signature_name":"tensor","instances":' + b"[" * depth + b"1" + b"]" * depth + b"}"


REST = (
    Rest("lists, gzipped beyond the limit", lambda: listed(b"[]", 200 * MB), True),
    Rest("lists, gzipped", lambda: listed(b"[]", 120 * MB), True),
    Rest("objects, gzipped", lambda: listed(b"{}", 120 * MB), True),
    Rest("strings, gzipped", lambda: listed(b'"ab"', 120 * MB), True),
    Rest("small integers, gzipped", lambda: listed(b"1", 120 * MB, "tensor"), True),
    Rest("floats, gzipped", lambda: listed(b"1.5", 120 * MB, "tensor"), True),
    Rest("lists within the bound", lambda: listed(b"[]", 11 * MB, "tensor")),
    Rest("objects within the bound", lambda: listed(b"{}", 5 * MB, "tensor")),
    Rest("strings within the bound", lambda: listed(b'"ab"', 20 * MB)),
    Rest("numbers within the bound", lambda: listed(b"1.5", 48 * MB, "tensor")),
    Rest("an object of many keys", lambda: json.dumps({str(key): 0 for key in range(3 * MILLION)}).encode()),
    Rest("as many pixels as fit", lambda: pixels(AT_LIMIT), statuses=frozenset({200})),
    Rest("the same with a string", lambda: pixels(AT_LIMIT, b'"x"'), True),
    Rest("the same with a constant of its own", lambda: pixels(AT_LIMIT, b"-Infinity1"), True),
    Rest("nested 100 deep", lambda: nested(100)),
    Rest("nested 900 deep", lambda: nested(900)),
    Rest("nested a million deep", lambda: nested(MILLION)),
    Rest("a number of 100 MB", lambda: b'{"signature_name":"tensor","inputs":[1.%s]}' % (b"1" * (100 * MB))),
    Rest("an integer of 100 MB", lambda: b'{"signature_name":"tensor","inputs":[%s]}' % (b"1" * (100 * MB))),
    Rest("a string of 120 MB", lambda: b'{"instances":["%s"],"x":}' % (b"a" * (120 * MB))),
    Rest("base64 of 120 MB", lambda: b'{"instances":[{"b64":"%s"},1]}' % (b"QUFB" * (30 * MB))),
    Rest("escapes of 120 MB", lambda: b'{"instances":["%s",1]}' % (b"\\u00e9" * (20 * MB))),
    Rest("many examples", lambda: listed(b"{}", 120 * MB, "classify", '"examples"'), True, "classify"),
    Rest(
        "examples within the bound",
        lambda: listed(b"{}", 5 * MB, "classify", '"examples"'),
        False,
        "classify",
    ),
    Rest(
        "a context for many examples",
        lambda: listed(b"{}", 180, "classify", '"context":{"x":"%s"},"examples"' % ("a" * (100 * MB))),
        method="classify",
    ),
    Rest(
        "a feature of many numbers",
        lambda: b'{"signature_name":"classify","examples":[{"x":[%s1]}]}' % (b"1," * (12 * MILLION)),
        method="classify",
        statuses=frozenset({200}),
    ),
)


def predicting(signature="serving_default", **settings):
    """A request to predict, whose one input is set up as told."""
    request = PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = MODEL, signature
    proto = request.inputs["images"]
    for name, value in settings.items():
        if name == "shape":
            for size in value:
                proto.tensor_shape.dim.add(size=size)
        elif name == "dtype":
            proto.dtype = value.as_datatype_enum
        elif name == "content":
            proto.tensor_content = value
        else:
            getattr(proto, name).extend(value)
    return request.SerializeToString()


def with_model(kind, **settings):
    """A request of another kind, serialized."""
    request = kind(**settings)
    request.model_spec.name, request.model_spec.signature_name = MODEL, "classify"
    return request.SerializeToString()


def field(number, data):
    """A field of bytes, serialized."""
    length, encoded = len(data), bytearray([number << 3 | 2])
    while length > 127:
        encoded.append(length & 127 | 128)
        length >>= 7
    return bytes(encoded) + bytes([length]) + data


def tensor_of(dtype, value_field, values, size):
    """A request whose tensor has this serialized list of values."""
    shape = tf.TensorShape([size]).as_proto().SerializeToString()
    proto = bytes([8, dtype.as_datatype_enum]) + field(2, shape) + value_field(values)
    return predicting() + field(2, field(1, b"images") + field(2, proto))


def examples(count, context=b""):
    """The `input` of a request for empty examples, serialized."""
    listed_ = b"\x0a\x00" * count
    kind = 2 if context else 1
    example = tf.train.Example()
    if context:
        example.features.feature["x"].bytes_list.value.append(context)
        listed_ += field(2, example.SerializeToString())
    return field(2, field(kind, listed_))


STRING, FLOAT, INT64 = tf.string, tf.float32, tf.int64
GRPC = (
    Grpc("strings declared", "Predict", lambda: predicting(dtype=STRING, shape=[2**28])),
    Grpc("a string repeated", "Predict", lambda: predicting(dtype=STRING, shape=[2**28], string_val=[b"a"])),
    Grpc("floats declared", "Predict", lambda: predicting("tensor", dtype=FLOAT, shape=[2**20, 224, 224, 3])),
    Grpc(
        "a float repeated",
        "Predict",
        lambda: predicting("tensor", dtype=FLOAT, shape=[64, 224, 224, 3], float_val=[1]),
    ),
    Grpc("a rank of 300", "Predict", lambda: predicting(dtype=STRING, shape=[1] * 300, string_val=[b"a"])),
    Grpc("sizes that overflow", "Predict", lambda: predicting(dtype=STRING, shape=[2**62, 2**62])),
    Grpc(
        "many strings",
        "Predict",
        lambda: tensor_of(STRING, lambda count: b"\x42\x00" * count, 50 * MILLION, 50 * MILLION),
    ),
    Grpc(
        "packed integers within the bound",
        "Predict",
        lambda: tensor_of(INT64, lambda count: field(10, b"\1" * count), 24 * MB - 8, 24 * MB - 8),
    ),
    Grpc(
        "many packed integers",
        "Predict",
        lambda: tensor_of(INT64, lambda count: field(10, b"\1" * count), 120 * MB, 120 * MB),
    ),
    Grpc(
        "many sizes",
        "Predict",
        lambda: predicting() + field(2, field(2, field(2, b"\x12\x00" * 50 * MILLION))),
    ),
    Grpc("many inputs", "Predict", lambda: predicting() + b"\x12\x00" * 50 * MILLION),
    Grpc("many outputs", "Predict", lambda: predicting() + b"\x1a\x00" * 50 * MILLION),
    Grpc("many groups", "Predict", lambda: b"\x0b" * 50 * MILLION),
    Grpc(
        "a corrupt message", "Predict", lambda: predicting() + b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
    ),
    Grpc(
        "content of 120 MB", "Predict", lambda: predicting(dtype=FLOAT, shape=[64], content=bytes(120 * MB))
    ),
    Grpc(
        "beyond the limit",
        "Predict",
        lambda: predicting(dtype=STRING, shape=[1], string_val=[bytes(200 * MB)]),
    ),
    Grpc(
        "compressed beyond the limit",
        "Predict",
        lambda: predicting(dtype=STRING, shape=[1], string_val=[bytes(300 * MB)]),
        True,
    ),
    *(
        Grpc(f"{what}, {method}", method, lambda kind=kind, of=of: with_model(kind) + of())
        for method, kind in (("Classify", ClassificationRequest), ("Regress", RegressionRequest))
        for what, of in (
            ("many examples", lambda: examples(50 * MILLION)),
            ("examples within the bound", lambda: examples(190_000)),
            ("a context for many examples", lambda: examples(64, bytes(100 * MB))),
        )
    ),
    Grpc(
        "many tasks",
        "MultiInference",
        lambda: b"\x0a\x00" * 50 * MILLION,
    ),
    Grpc(
        "many fields of metadata",
        "GetModelMetadata",
        lambda: with_model(GetModelMetadataRequest) + field(2, b"signature_def") * 5 * MILLION,
    ),
    Grpc(
        "unknown fields",
        "GetModelStatus",
        lambda: with_model(GetModelStatusRequest) + b"\x78\x01" * 50 * MILLION,
        service="ModelService",
    ),
    Grpc(
        "many models",
        "HandleReloadConfigRequest",
        lambda: field(1, field(1, b"\x0a\x00" * 50 * MILLION)),
        False,
        "ModelService",
    ),
)


def marked(requests):
    """The requests as a test's parameters."""
    return [
        pytest.param(each, id=each.name, marks=[] if each.name in QUICK else pytest.mark.ci)
        for each in requests
    ]
