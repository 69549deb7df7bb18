"""The preview as a user meets it: a process, with its flags, ports, lines and signals."""

import base64
import json
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_service_pb2_grpc
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from keras_googlenet.errors import UserError
from keras_googlenet.serving.preview.server import Options, serve


@contextmanager
def preview(directory, *flags):
    """A preview's process, its printed lines read so far, its REST address and its gRPC address."""
    command = [sys.executable, "-m", "keras_googlenet.cli", "serve", str(directory)]
    with subprocess.Popen(
        [*command, "--rest-port", "0", "--grpc-port", "0", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            lines = []
            while not lines or "gRPC " not in lines[-1]:
                line = process.stdout.readline()
                assert line, process.stderr.read()
                lines.append(line)
            address = re.search(r"http://[\w.:]+", lines[0])[0]
            yield process, lines, address, re.search(r"gRPC (\S+)", lines[-1])[1]
        finally:
            if process.poll() is None:
                process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_life_of_a_process(exported, png_bytes, number, tmp_path):
    log = tmp_path / "access.jsonl"
    with preview(exported.parent, "--access-log", str(log)) as (process, lines, rest, grpc_address):
        assert all(line.startswith("preview of TensorFlow Serving: ") for line in lines)
        assert "model 'shoes' version 1, REST " in lines[0]
        assert "stop with Ctrl-C" in lines[-1]
        body = {"instances": [{"b64": base64.b64encode(png_bytes).decode()}]}
        answer = httpx.post(f"{rest}/v1/models/shoes:predict", json=body, timeout=60)
        assert answer.status_code == 200

        request = PredictRequest()
        request.model_spec.name = "shoes"
        request.inputs["images"].CopyFrom(tf.make_tensor_proto([png_bytes]))
        with grpc.insecure_channel(grpc_address) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            outputs = stub.Predict(request, timeout=60).outputs
        (row,) = answer.json()["predictions"]
        np.testing.assert_allclose(outputs["probabilities"].float_val, row["probabilities"], atol=1e-6)

        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0
        assert output == "preview of TensorFlow Serving: stopped\n"
        assert "Traceback" not in errors
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(entry["protocol"], entry["model"], entry["version"], entry["code"]) for entry in logged] == [
        ("REST", "shoes", 1, "OK"),
        ("GRPC", "shoes", 1, "OK"),
    ]
    assert all(entry["ms"] > 0 and entry["bytes_in"] > len(png_bytes) for entry in logged)


# --- what a user can get wrong -------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_port_in_use_is_named_before_a_model_is_loaded(tmp_path, protocol):
    (tmp_path / "1").mkdir()  # would not load
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        options = Options(**{"rest_port": 0, "grpc_port": 0, f"{protocol}_port": port})
        with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1:{port}.*--{protocol}-port"):
            serve(tmp_path, options)


@pytest.mark.parametrize("port", [-1, 65536])
@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_port_out_of_range_is_refused(exported, protocol, port):
    with pytest.raises(UserError, match=f"between 0 and 65535, got {port}"):
        serve(exported.parent, Options(**{"rest_port": 0, "grpc_port": 0, f"{protocol}_port": port}))


@pytest.mark.parametrize(("name", "message"), [(".", "no version in {}:"), ("absent", "no model at {}:")])
def test_missing_model_is_named(tmp_path, name, message):
    with pytest.raises(UserError, match=message.format(tmp_path / name)):
        serve(tmp_path / name)


@pytest.mark.parametrize("file", [None, "saved_model.pb"], ids=["empty", "without variables"])
def test_broken_version_is_named(tmp_path, exported, file):
    (tmp_path / "1").mkdir()
    if file:
        (tmp_path / "1" / file).symlink_to(exported / file)
    with pytest.raises(
        UserError, match=f"cannot serve {tmp_path}: .*{tmp_path.name} .+{tmp_path / '1'}"
    ) as caught:
        serve(tmp_path, Options(rest_port=0, grpc_port=0))
    assert "\n" not in str(caught.value)
