"""Servers that answer as a test's script says: REST by the standard library, gRPC by the official servicers.

Their model has the classes "blue" and "other": an image's probability of "blue" is the blue of its first
pixel, from 0 to 1. So an answer tells which pixels came, and in which order.
"""

import base64
import json
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from keras_googlenet.serving import ServingError

CLASSES = ["blue", "other"]
OUTPUT = {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}, {"size": "2"}]}}
SIGNATURES = {"serving_default": {"outputs": {"probabilities": OUTPUT}}, "labels": {}}
VERSION = 7
STATUS = {
    "model_version_status": [
        {"version": "7", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}},
        {"version": "6", "state": "END", "status": {"error_code": "NOT_FOUND", "error_message": "no file"}},
    ]
}
# The HTTP status of a code, in the words of the contract.
HTTP = {
    "INVALID_ARGUMENT": 400,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


def pixel_png(blue: int) -> bytes:
    """A PNG of one pixel."""
    return cv2.imencode(".png", np.full((1, 1, 3), (blue, 0, 0), np.uint8))[1].tobytes()


GOOD_PNG = pixel_png(0)


class Script:
    """What a server does with each request in turn, and what it was asked.

    A step is a code to fail with, a number of seconds to sleep before answering, `bytes` to answer with
    (over REST), or a pair of a code and HTTP headers. Once they are used up, requests are answered.
    """

    def __init__(self, *steps):
        self.steps = list(steps)
        self.asked = []  # (method or path, signature, values, when)
        self.connections = 0
        self.max_batch = 32
        self.max_bytes = 2**20  # of a request
        self._lock = threading.Lock()

    def next(self, *asked):
        with self._lock:
            self.asked.append((*asked, time.monotonic()))
            return self.steps.pop(0) if self.steps else None


def outputs(signature: str, values: list) -> dict[str, np.ndarray]:
    """What the model answers; raises `ValueError` for what it refuses."""
    if signature == "labels":
        return {"labels": np.array([CLASSES[index] for index in values])}
    pixels = [cv2.imdecode(np.frombuffer(value, np.uint8), cv2.IMREAD_COLOR) for value in values]
    if any(one is None or value.endswith(b"refuse") for one, value in zip(pixels, values, strict=True)):
        raise ValueError("Expected the bytes of a JPEG, PNG, BMP or WebP image")
    if signature == "features":
        return {"features": np.array([one[0, 0] for one in pixels], "float32")}
    if signature != "serving_default":
        raise ValueError(f'Serving signature name: "{signature}" not found in signature def')
    blue = np.array([one[0, 0, 0] / 255 for one in pixels], "float32")
    probabilities = np.stack([blue, 1 - blue], axis=1)
    best = np.argsort(-probabilities, axis=1)
    return {
        "probabilities": probabilities,
        "classes": np.array(CLASSES)[best],
        "scores": np.take_along_axis(probabilities, best, axis=1),
    }


def answered(script: Script, signature: str, values: list) -> dict[str, np.ndarray]:
    if len(values) > script.max_batch:
        raise ValueError(f"Batch size {len(values)} is larger than the maximum {script.max_batch}")
    return outputs(signature, values)


@contextmanager
def rest_server(script: Script, context=None) -> Iterator[str]:
    """Serve the script over REST (over TLS with a `context`); yields the server's URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # keeps connections open
        disable_nagle_algorithm = True

        def setup(self):
            script.connections += 1
            super().setup()

        def log_message(self, *_):
            pass

        def do_GET(self):
            self.reply(b"")

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if len(body) > script.max_bytes:
                self.send(413, b"<html>Request Entity Too Large</html>", {})
            else:
                self.reply(body)

        def reply(self, body):
            request = json.loads(body) if body else {}
            column = next(iter(request.get("inputs", {}).values()), [])
            values = [base64.b64decode(v["b64"]) if isinstance(v, dict) else v for v in column]
            step = script.next(self.path, request.get("signature_name"), values)
            headers = {}
            if isinstance(step, tuple):
                step, headers = step
            if step == "HANG UP":
                self.close_connection = True
                return
            if step == "TRICKLE":
                self.trickle()
                return
            if isinstance(step, float):
                time.sleep(step)
            if isinstance(step, bytes):
                self.send(200, step, headers)
            elif isinstance(step, str):
                self.send(HTTP[step], json.dumps({"error": f"scripted {step}"}).encode(), headers)
            else:
                self.send(*self.answer(request, values), headers)

        def answer(self, request, values):
            if self.command == "GET" and self.path.endswith("/metadata"):
                metadata = {"signature_def": {"signature_def": SIGNATURES}}
                spec = {"name": "m", "signature_name": "", "version": str(VERSION)}
                return 200, json.dumps({"model_spec": spec, "metadata": metadata}).encode()
            if self.command == "GET":
                return 200, json.dumps(STATUS).encode()
            try:
                found = answered(script, request.get("signature_name", "serving_default"), values)
            except ValueError as error:
                return 400, json.dumps({"error": str(error)}).encode()
            named = {key: value.tolist() for key, value in found.items()}
            return 200, json.dumps(
                {"outputs": next(iter(named.values())) if len(named) == 1 else named}
            ).encode()

        def send(self, status, content, headers):
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def trickle(self):
            """A byte now and then, so that no single read takes long."""
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            try:
                for _ in range(1000):
                    self.wfile.write(b" ")
                    time.sleep(0.05)
            except OSError:
                pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_):
            pass

    server = Server(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"{'https' if context else 'http'}://localhost:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Servicer(
    prediction_service_pb2_grpc.PredictionServiceServicer, model_service_pb2_grpc.ModelServiceServicer
):
    def __init__(self, script):
        self.script = script

    def follow(self, context, *asked):
        step = self.script.next(*asked)
        if isinstance(step, tuple):
            step = step[0]
        if isinstance(step, float):
            time.sleep(step)
        elif step:
            context.abort(grpc.StatusCode[step], f"scripted {step}")

    def Predict(self, request, context):  # noqa: N802
        ((_, tensor),) = request.inputs.items()
        signature, values = request.model_spec.signature_name, tf.make_ndarray(tensor).tolist()
        self.follow(context, request.model_spec, signature, values)
        try:
            found = answered(self.script, signature, values)
        except ValueError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        response = predict_pb2.PredictResponse()
        for key, value in found.items():
            array = np.char.encode(value).astype(object) if value.dtype.kind == "U" else value
            response.outputs[key].CopyFrom(tf.make_tensor_proto(array))
        return response

    def GetModelMetadata(self, request, context):  # noqa: N802
        self.follow(context, request.model_spec, None, [])
        signatures = get_model_metadata_pb2.SignatureDefMap()
        json_format.ParseDict({"signature_def": SIGNATURES}, signatures)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = "m"
        response.model_spec.version.value = VERSION
        response.metadata["signature_def"].Pack(signatures)
        return response

    def GetModelStatus(self, request, context):  # noqa: N802
        self.follow(context, request.model_spec, None, [])
        return json_format.ParseDict(STATUS, get_model_status_pb2.GetModelStatusResponse())


@contextmanager
def grpc_server(script: Script, credentials=None) -> Iterator[str]:
    """Serve the script over gRPC (over TLS with `credentials`); yields the server's URL."""
    limit = [("grpc.max_receive_message_length", script.max_bytes)]
    server = grpc.server(futures.ThreadPoolExecutor(4), options=limit)
    servicer = Servicer(script)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(servicer, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(servicer, server)
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield f"{'grpcs' if credentials else 'grpc'}://localhost:{port}"
    finally:
        server.stop(None).wait()


SERVERS = {"rest": rest_server, "grpc": grpc_server}


def failure(call, *arguments) -> ServingError:
    """The error that a call of a client must raise, told in one line."""
    with pytest.raises(ServingError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return caught.value
