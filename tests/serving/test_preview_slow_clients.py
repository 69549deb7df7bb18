"""Clients that send nothing, or slowly, or read nothing: they are cut off, and no one waits for them."""

import asyncio
import contextlib
import socket
import threading
import time

import grpc
import httpx
import pytest
import tensorflow as tf
import uvicorn
from tensorflow_serving.apis import prediction_service_pb2_grpc
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from keras_googlenet.serving.preview import connections
from keras_googlenet.serving.preview.grpc_server import OPTIONS, THREADS, GrpcServer
from keras_googlenet.serving.preview.grpc_services import Services
from keras_googlenet.serving.preview.rest import rest_app

pytest_plugins = ["small_models"]

SECONDS = 1.0
HEAD = b"POST /v1/models/adder:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"


@pytest.fixture
def listening(serving, monkeypatch):
    """The address of a REST interface with short bounds."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", SECONDS)
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 8)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = rest_app(serving, body_seconds=SECONDS)
        config = uvicorn.Config(
            app, http=connections.Protocol, lifespan="off", ws="none", log_level="critical"
        )
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
        thread.start()
        yield listener.getsockname()
        server.should_exit = True
        thread.join(30)


def closed_after(connection):
    """Seconds until the other side closes, and what it sent."""
    connection.settimeout(20)
    start, received = time.monotonic(), b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(2**16):
            received += chunk
    return time.monotonic() - start, received


@pytest.mark.parametrize("sent", [b"", b"GET /v1/mod", HEAD], ids=["nothing", "half a line", "half a head"])
def test_a_connection_without_a_whole_head_is_closed(listening, sent):
    with socket.create_connection(listening) as connection:
        connection.sendall(sent)
        seconds, received = closed_after(connection)
    assert SECONDS * 0.5 < seconds < SECONDS + 5
    assert received == b""


def test_a_head_that_comes_byte_by_byte_is_not_waited_for(listening):
    with socket.create_connection(listening) as connection:
        start = time.monotonic()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while time.monotonic() < start + 10:
                connection.sendall(b"G")
                time.sleep(0.1)
    assert time.monotonic() - start < SECONDS + 5


def test_a_body_that_does_not_come_is_answered(listening):
    with socket.create_connection(listening) as connection:
        connection.sendall(HEAD + b"\r\n{")
        seconds, received = closed_after(connection)
    assert SECONDS * 0.5 < seconds < SECONDS + 5
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"did not arrive within 1 seconds" in received


def test_idle_connections_make_room(listening):
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(listening)) for _ in range(20)]
        start = time.monotonic()
        url = "http://{}:{}/v1/models/adder:predict".format(*listening)
        assert httpx.post(url, json={"instances": [[1, 2]]}).status_code == 200
        assert time.monotonic() - start < SECONDS  # it did not wait for their time to be over
        seconds, _ = closed_after(idle[0])
        assert seconds < SECONDS / 2


def test_a_connection_in_use_is_kept(listening):
    with httpx.Client(base_url="http://{}:{}".format(*listening)) as client:
        connections = set()
        for _ in range(4):
            answer = client.post("/v1/models/adder:predict", json={"instances": [[1, 2]]})
            assert answer.status_code == 200
            connections.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
            time.sleep(SECONDS / 2)
        assert len(connections) == 1  # the client would open a second one silently


@pytest.fixture
def remote(serving):
    server = GrpcServer(Services(serving, print), "127.0.0.1:0", receive_seconds=SECONDS)
    server.start()
    yield f"127.0.0.1:{server.port}"
    server.stop(None)


def request():
    made = PredictRequest(inputs={"x": tf.make_tensor_proto([[1.0, 2.0]])})
    made.model_spec.name = "adder"
    return made


def test_streams_without_a_message_hold_no_one_up(remote):
    """As many as there are threads; gRPC's own server would have answered no one else."""
    with contextlib.ExitStack() as stack:
        stalled = []
        released = threading.Event()
        for _ in range(2):
            channel = stack.enter_context(grpc.insecure_channel(remote))
            call = channel.stream_unary("/tensorflow.serving.PredictionService/Predict")
            stalled += [call.future(iter(released.wait, None)) for _ in range(THREADS)]
        channel = stack.enter_context(grpc.insecure_channel(remote))
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        start = time.monotonic()
        assert list(stub.Predict(request(), timeout=20).outputs["y"].float_val) == [4, 5]
        assert time.monotonic() - start < SECONDS
        codes = {call.code() for call in stalled}
        released.set()
    assert codes == {grpc.StatusCode.DEADLINE_EXCEEDED}
    assert time.monotonic() - start < SECONDS + 10


def test_an_empty_stream_is_an_invalid_argument(remote):
    with grpc.insecure_channel(remote) as channel:
        call = channel.stream_unary("/tensorflow.serving.PredictionService/Predict").future(iter(()))
        assert call.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("compression", list(grpc.Compression))
def test_compressed_messages_are_taken(remote, compression):
    with grpc.insecure_channel(remote, compression=compression) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        assert list(stub.Predict(request(), timeout=20).outputs["y"].float_val) == [4, 5]


def test_a_connection_that_never_speaks_grpc_is_closed(serving, monkeypatch):
    name = "grpc.server_handshake_timeout_ms"
    options = tuple((key, 1000 if key == name else value) for key, value in OPTIONS)
    monkeypatch.setattr("keras_googlenet.serving.preview.grpc_server.OPTIONS", options)
    server = GrpcServer(Services(serving, print), "127.0.0.1:0")
    server.start()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        assert closed_after(connection)[0] < 10
    server.stop(None)
