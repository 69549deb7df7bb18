"""The preview as a user meets it: a process, with its flags, ports, lines and signals."""

import json
import os
import signal
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf
from conformance.server import preview
from conftest import run_python
from tensorflow_serving.apis import prediction_service_pb2_grpc
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from keras_googlenet.errors import UserError
from keras_googlenet.serving.preview.options import Options
from keras_googlenet.serving.preview.server import serve

pytestmark = pytest.mark.ci
pytest_plugins = ["small_models"]


def test_life_of_a_process(adders, tmp_path, capfd):
    log = tmp_path / "access.jsonl"
    with preview(adders / "adder", "--access-log", str(log)) as server:
        assert all(line.startswith("preview of TensorFlow Serving: ") for line in server.lines)
        assert "model 'adder' version 3 at " in server.lines[0]
        assert "stop with Ctrl-C" in server.lines[-1]
        answer = httpx.post(f"{server.rest}/v1/models/adder:predict", json={"instances": [[1, 2]]})
        assert answer.json() == {"predictions": [[4, 5]]}

        request = PredictRequest()
        request.model_spec.name = "adder"
        request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.float32([[1, 2]])))
        with grpc.insecure_channel(server.grpc) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            assert list(stub.Predict(request, timeout=60).outputs["y"].float_val) == [4, 5]

        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(60) == 0
        assert server.process.stdout.read() == "preview of TensorFlow Serving: stopped\n"
    assert "Traceback" not in capfd.readouterr().err
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(entry["protocol"], entry["model"], entry["version"], entry["code"]) for entry in logged] == [
        ("REST", "adder", 3, "OK"),
        ("GRPC", "adder", 3, "OK"),
    ]
    assert all(entry["ms"] > 0 and entry["bytes_in"] > 0 for entry in logged)


def cpu_seconds(process):
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_requests_in_flight_are_finished(adders, capfd):
    body = {"signature_name": "count", "inputs": [300_000]}  # counts for seconds

    def over_rest(address):
        return httpx.post(f"{address}/v1/models/adder:predict", json=body, timeout=60).json()["outputs"]

    def over_grpc(address):
        request = PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = "adder", "count"
        request.inputs["n"].CopyFrom(tf.make_tensor_proto(np.int64(body["inputs"])))
        with grpc.insecure_channel(address) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            return list(stub.Predict(request, timeout=60).outputs["last"].int64_val)

    with preview(adders) as server, ThreadPoolExecutor(2) as pool:
        before = cpu_seconds(server.process)
        answers = [pool.submit(over_rest, server.rest), pool.submit(over_grpc, server.grpc)]
        while cpu_seconds(server.process) < before + 0.5:  # both are being computed
            time.sleep(0.02)
        server.process.terminate()
        assert [answer.result() for answer in answers] == [body["inputs"]] * 2
        assert server.process.wait(60) == 0
        assert server.process.stdout.read() == "preview of TensorFlow Serving: stopped\n"
    assert "Traceback" not in capfd.readouterr().err


MODELS = """
model_config_list {
  config {
    name: "sum" base_path: "/models/adder"
    model_version_policy { all { } }
    version_labels { key: "stable" value: 1 }
  }
}
"""
BATCHING = "max_batch_size { value: 2 } allowed_batch_sizes: [1, 2] thread_pool_name { value: 'pool' }"
MONITORING = 'prometheus_config { enable: true path: "/metrics" }'


def test_threads_as_told(adders):
    flags = ["--tensorflow-intra-op-parallelism", "40", "--tensorflow-inter-op-parallelism", "5"]
    with preview(adders / "adder", *flags) as server:
        tasks = Path(f"/proc/{server.process.pid}/task").iterdir()
        names = Counter((task / "comm").read_text().strip() for task in tasks)
    assert names["tf_Compute"] == 5
    assert names.total() - names["tf_Compute"] > 40


def test_files_as_serving_takes_them(adders, tmp_path):
    flags = ["--enable-batching"]
    for name, text in (
        ("model-config", MODELS),
        ("batching-parameters", BATCHING),
        ("monitoring-config", MONITORING),
    ):
        (tmp_path / name).write_text(text)
        flags += [f"--{name}-file", str(tmp_path / name)]
    with preview(adders, *flags) as server:
        rest = server.rest
        assert "model 'sum' versions 1, 2, 3 at " in server.lines[0]
        answer = httpx.post(f"{rest}/v1/models/sum/labels/stable:predict", json={"instances": [[1, 2]]})
        assert answer.json() == {"predictions": [[2, 3]]}
        answer = httpx.post(f"{rest}/v1/models/sum:predict", json={"instances": [[1, 2]] * 3})
        assert answer.status_code == 400
        assert "Task size 3 is larger than maximum input batch size 2" in answer.json()["error"]
        metrics = httpx.get(f"{rest}/metrics").text
        for line in (
            ':tensorflow:serving:request_count{model_name="sum",status="OK"} 1',
            ':tensorflow:serving:batching_session:queuing_latency_count{thread_pool_name="pool"} 1',
            f':tensorflow:cc:saved_model:load_latency{{model_path="{adders}/adder/1"}} ',
        ):
            assert f"\n{line}" in metrics


ALONE = """
import os, signal, sys, threading
from pathlib import Path
import httpx
from keras_googlenet.serving.preview import server

def ask(models, host, rest_port, grpc_port, open_page):
    def asking():
        url = f"http://{host}:{rest_port}/v1/models/adder:predict"
        answer = httpx.post(url, json={"instances": [[1, 2]]})
        parts = {name.split(".")[1] for name in sys.modules if name.startswith("keras_googlenet.")}
        print(answer.json(), *sorted(parts))
        os.kill(os.getpid(), signal.SIGTERM)
    threading.Thread(target=asking).start()

server._announce = ask
server.serve(Path(sys.argv[1]), server.Options(rest_port=0, grpc_port=0))
"""


def test_nothing_that_builds_networks_is_in_the_process(adders):
    # TensorFlow itself imports Keras, whether anything needs it or not.
    printed = run_python(ALONE, str(adders)).splitlines()[0]
    assert printed == "{'predictions': [[4.0, 5.0]]} errors serving session text versions"


def test_a_second_signal_ends_it_at_once(adders, capfd):
    """The first one waits for a client that sends a byte of its body and no more."""
    with preview(adders / "adder") as server:
        host, port = server.rest.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as slow:
            head = "POST /v1/models/adder:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
            slow.sendall(head.encode())
            time.sleep(0.5)
            server.process.send_signal(signal.SIGINT)
            time.sleep(0.5)
            assert server.process.poll() is None
            server.process.send_signal(signal.SIGINT)
            assert server.process.wait(10) == 0
    assert "Traceback" not in capfd.readouterr().err


def test_answers_that_no_protocol_of_serving_s_has(adders, capfd):
    """A web socket, and an access log on a full disk."""
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    with preview(adders / "adder", "--access-log", "/dev/full") as server:
        model = f"{server.rest}/v1/models/adder"
        key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
        assert httpx.get(model, headers=upgrade | key).status_code == 200
        for _ in range(2):
            answer = httpx.post(f"{model}:predict", json={"instances": [[1, 2]]})
            assert answer.json() == {"predictions": [[4, 5]]}
    assert capfd.readouterr().err.count("cannot write the access log") == 1


# --- what a user can get wrong -------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_port_in_use_is_named_before_a_model_is_loaded(tmp_path, protocol):
    (tmp_path / "1").mkdir()  # would not load
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        options = Options(**{"rest_port": 0, "grpc_port": 0, f"{protocol}_port": port})
        with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1:{port}.*`{protocol}_port`"):
            serve(tmp_path, options)


def test_one_port_for_both_is_refused(tmp_path):
    (tmp_path / "1").mkdir()  # would not load
    with pytest.raises(UserError, match="expected two ports, got 12345 for both"):
        serve(tmp_path, Options(rest_port=12345, grpc_port=12345))


def test_an_unknown_host_is_named(tmp_path):
    (tmp_path / "1").mkdir()  # would not load
    with pytest.raises(UserError, match=r"cannot listen on nohost\.invalid .*another `host`"):
        serve(tmp_path, Options(host="nohost.invalid", rest_port=0, grpc_port=0))


@pytest.mark.parametrize("port", [-1, 65536])
@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_port_out_of_range_is_refused(tmp_path, protocol, port):
    (tmp_path / "1").mkdir()  # would not load
    with pytest.raises(UserError, match=f"between 0 and 65535, got {port}"):
        serve(tmp_path, Options(**{"rest_port": 0, "grpc_port": 0, f"{protocol}_port": port}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"tensorflow_intra_op_parallelism": -1},
            "expected `tensorflow_intra_op_parallelism` to be at least 0, got -1",
        ),
        ({"poll_seconds": -1}, "expected `poll_seconds` to be at least 0, got -1"),
        ({"poll_seconds": float("nan")}, "expected `poll_seconds` to be at least 0, got nan"),
        ({"rest_timeout_ms": -5}, "expected `rest_timeout_ms` to be at least 0, got -5"),
        ({"max_request_bytes": 0}, "expected `max_request_bytes` to be at least 1, got 0"),
        ({"max_request_bytes": 2**31}, "expected `max_request_bytes` to be at most 2147483647, got 21474836"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        serve(tmp_path, Options(**options))


@pytest.mark.parametrize(("name", "message"), [(".", "no version in {}:"), ("absent", "no model at {}:")])
def test_missing_model_is_named(tmp_path, name, message):
    with pytest.raises(UserError, match=message.format(tmp_path / name)):
        serve(tmp_path / name, Options())


@pytest.mark.parametrize("file", [None, "saved_model.pb"], ids=["empty", "without variables"])
def test_broken_version_is_named(tmp_path, adders, file):
    (tmp_path / "1").mkdir()
    if file:
        (tmp_path / "1" / file).symlink_to(adders / "adder/1" / file)
    with pytest.raises(
        UserError, match=f"cannot serve {tmp_path}: .*{tmp_path.name} .+{tmp_path / '1'}"
    ) as caught:
        serve(tmp_path, Options(rest_port=0, grpc_port=0))
    assert "\n" not in str(caught.value)


def test_batching_parameters_without_batching_are_told(adders, tmp_path):
    with pytest.raises(UserError, match="needs `enable_batching`"):
        serve(adders, Options(batching_parameters_file=tmp_path / "batching_parameters.txt"))


@pytest.mark.parametrize(
    "options",
    [
        {"model_config_file": Path("absent/file")},
        {"monitoring_config_file": Path("absent/file")},
        {"enable_batching": True, "batching_parameters_file": Path("absent/file")},
        {"access_log": "absent/file"},
    ],
)
def test_missing_files_are_named(adders, options):
    with pytest.raises(UserError, match="absent/file"):
        serve(adders, Options(rest_port=0, grpc_port=0, **options))
