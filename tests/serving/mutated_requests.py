"""Requests at random from a seed: valid ones with other content, which reach TensorFlow, and broken ones."""

import base64
import json

import numpy as np
import tensorflow as tf
from honest_client import Grpc, Rest
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest
from tensorflow_serving.apis.predict_pb2 import PredictRequest

METHODS = ("Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata", "NoSuchMethod")
SCALARS = (None, True, -1, 0, 255, 2**31, 2**63, 2**64, 1.5, 1e39, "", "a", "\0", [], {}, [[]], {"b64": "?"})


class Maker:
    """Makes requests.

    Args:
        seed: The same one makes the same requests.
        model: The model's name.
        files: Valid images.
        shape: Height, width and channels of the network.
    """

    def __init__(self, seed, model, files, shape):
        self.random = np.random.default_rng(seed)
        self.model, self.files, self.shape = model, files, shape

    def choice(self, options):
        return options[self.random.integers(len(options))]

    def reaching(self):
        """A request of valid form, so that TensorFlow sees it; its content is changed."""
        kind = self.choice(["file"] * 6 + ["example"] * 4 + ["indices"] * 4 + ["pixels", "bytes"])
        over_rest = self.random.integers(2) == 0
        if kind == "file":
            return self.files_request(over_rest, [self.file() for _ in range(self.random.integers(1, 4))])
        if kind == "example":
            return self.example_request(over_rest, self.file())
        if kind == "indices":
            values = self.random.integers(-1, 4, self.random.integers(1, 9))
            return self.array_request(over_rest, "labels", "indices", values.astype("int64"))
        dtype, signature = ("float32", "tensor") if kind == "pixels" else ("uint8", "tensor_uint8")
        array = self.random.integers(0, 256, (1, *self.shape)).astype(dtype)
        if kind == "pixels" and self.random.integers(2):
            array.flat[self.random.integers(array.size)] = self.choice([np.nan, np.inf, -np.inf, -1e30, 3e38])
        return self.array_request(over_rest, signature, "images", array)

    def broken(self):
        """A request with a mistake in its form, or none of ours at all."""
        whole = self.reaching()
        is_rest = isinstance(whole, Rest)
        kind = self.choice(["cut", "changed", "spliced", "value", "where", "junk"])
        if kind == "value":
            return self.wrong_value(is_rest)
        if kind == "where":
            return self.wrong_place(whole)
        data = whole.body if is_rest else whole.data
        if kind == "junk":
            data = self.random.bytes(self.random.integers(300))
        elif kind == "cut":
            data = data[: self.random.integers(len(data))]
        elif kind == "spliced":
            start, end = sorted(self.random.integers(0, len(data), 2))
            data = data[:start] + data[start:end] * self.random.integers(2, 5) + data[end:]
        else:
            data = self.changed(data, self.random.integers(1, 20))
        return whole._replace(body=data) if is_rest else whole._replace(data=data)

    def file(self):
        """An image, most often with a few bytes changed or its end missing."""
        whole = self.choice(self.files)
        how = self.random.integers(4)
        if how == 0:
            return whole
        if how == 1:
            return whole[: self.random.integers(len(whole))]
        return self.changed(whole, self.random.integers(1, 9))

    def changed(self, data, count):
        """The bytes with a few of them changed."""
        changed = bytearray(data)
        for _ in range(count if data else 0):
            changed[self.random.integers(len(data))] = self.random.integers(256)
        return bytes(changed)

    def post(self, body, method="predict"):
        return Rest("POST", f"/v1/models/{self.model}:{method}", json.dumps(body).encode())

    def predict_message(self, signature):
        request = PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = self.model, signature
        return request

    def files_request(self, over_rest, files):
        signature = self.choice(["serving_default", "features"])
        if over_rest:
            rows = [{"b64": base64.b64encode(file).decode()} for file in files]
            return self.post({"signature_name": signature, self.choice(["instances", "inputs"]): rows})
        request = self.predict_message(signature)
        request.inputs["images"].CopyFrom(tf.make_tensor_proto(files, tf.string))
        return Grpc("Predict", request.SerializeToString())

    def example_request(self, over_rest, file):
        if over_rest:
            features = {"image/encoded": {"b64": base64.b64encode(file).decode()}}
            return self.post({"signature_name": "classify", "examples": [features]}, "classify")
        request = ClassificationRequest()
        request.model_spec.name, request.model_spec.signature_name = self.model, "classify"
        features = request.input.example_list.examples.add().features.feature
        features["image/encoded"].bytes_list.value.append(file)
        return Grpc("Classify", request.SerializeToString())

    def array_request(self, over_rest, signature, name, array):
        if over_rest:
            return self.post({"signature_name": signature, "inputs": {name: array.tolist()}})
        request = self.predict_message(signature)
        request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
        return Grpc("Predict", request.SerializeToString())

    def wrong_value(self, is_rest):
        """A value, type or shape that no signature takes; some declare what would fill any memory."""
        signature = self.choice(["serving_default", "tensor", "labels", "classify", "none"])
        if is_rest:
            depth = int(self.choice([0, 1, 2, 5, 40, 100, 2000]))
            value = self.choice(SCALARS)
            text = "[" * depth + json.dumps([value] * self.random.integers(1, 200)) + "]" * depth
            key = self.choice(["instances", "inputs", "examples"])
            body = b'{"signature_name": "%s", "%s": %s}' % (signature.encode(), key.encode(), text.encode())
            return self.post({})._replace(body=body)
        request = self.predict_message(signature)
        proto = request.inputs[self.choice(["images", "indices", "x"])]
        proto.dtype = int(self.random.integers(0, 24))
        for _ in range(self.random.integers(0, 6)):
            proto.tensor_shape.dim.add(size=int(self.choice([-1, 0, 1, 2, 80, 2**16, 2**28, 2**40, 2**62])))
        getattr(proto, self.choice(["float_val", "int_val", "int64_val"])).extend(
            [1] * self.random.integers(3)
        )
        proto.string_val.extend([b"a"] * self.random.integers(3))
        return Grpc("Predict", request.SerializeToString())

    def wrong_place(self, whole):
        """A valid message where it does not belong."""
        if isinstance(whole, Grpc):
            return whole._replace(method=self.choice(METHODS))
        path = self.choice([":regress", ":explain", "", "/versions/9:predict", "/labels/x:predict"])
        verb = self.choice(["GET", "PUT", "DELETE", "OPTIONS", "PATCH", "POST"])
        return Rest(verb, f"/v1/models/{self.model}{path}", whole.body)
