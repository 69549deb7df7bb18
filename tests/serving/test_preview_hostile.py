"""The worst requests of each kind against a real process: refused soon, in little memory, delaying no one."""

import re
import resource
import threading
import time
from pathlib import Path

import grpc
import httpx
import pytest
import tensorflow as tf
from conformance.server import preview
from hostile_requests import GRPC, MODEL, REST, marked, predicting, save_wide

GROWTH, SECONDS, PATIENCE = 2**30, 30, 5
LIMIT = 6 * 2**30  # of the process, so that a fault ends it and not the machine
CODES = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}
ANY_LENGTH = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
HONEST = {"instances": [{"b64": "QUJD"}]}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("hostile")
    save_wide(directory)
    with preview(directory) as server:
        resource.prlimit(server.process.pid, resource.RLIMIT_DATA, (LIMIT, LIMIT))
        Honest(server).ask()
        yield server


class Honest:
    """A client that asks again and again, over both protocols; keeps how long the slowest answer took."""

    def __init__(self, server):
        self.http = httpx.Client(base_url=server.rest, timeout=60)
        self.channel = grpc.insecure_channel(server.grpc)
        self.predict = self.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        self.worst = 0.0
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.keep_asking)
        self.error = None

    def ask(self):
        start = time.perf_counter()
        answer = self.http.post(f"/v1/models/{MODEL}:predict", json=HONEST)
        assert answer.json() == {"predictions": [3]}, answer.text
        half = time.perf_counter()
        self.predict(predicting(dtype=tf.string, shape=[1], string_val=[b"ABC"]), timeout=60)
        self.worst = max(self.worst, half - start, time.perf_counter() - half)

    def keep_asking(self):
        try:
            while not self.stopped.wait(0.02):
                self.ask()
        except Exception as error:
            self.error = error

    def __enter__(self):
        self.ask()
        self.worst = 0.0
        self.thread.start()
        return self

    def __exit__(self, *caught):
        self.stopped.set()
        self.thread.join()
        if caught == (None, None, None) and self.error is None:
            self.ask()  # a request that was refused at once may have left the server blocked
        self.channel.close()
        self.http.close()


def memory(process, name):
    """Bytes of `VmRSS` or `VmHWM`."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(rf"{name}:\s+(\d+) kB", text)[1]) * 1024


@pytest.fixture
def measured(server):
    """A function that sends a request while an honest client asks, and checks what it cost."""

    def measure(send):
        Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")  # the peak begins anew
        before = memory(server.process, "VmRSS")
        with Honest(server) as honest:
            start = time.perf_counter()
            answer = send()
            seconds = time.perf_counter() - start
        grown = memory(server.process, "VmHWM") - before
        print(f"FIGURES {answer}: {seconds:.2f} s, {grown / 2**20:.0f} MiB, honest {honest.worst:.2f} s")
        assert honest.error is None
        assert seconds < SECONDS
        assert grown < GROWTH
        assert honest.worst < PATIENCE
        return answer

    return measure


@pytest.mark.parametrize("request_", marked(REST))
def test_over_rest(server, measured, request_):
    content, headers = request_.content()
    path = f"{server.rest}/v1/models/{MODEL}:{request_.method}"
    status = measured(lambda: httpx.post(path, content=content, headers=headers, timeout=120).status_code)
    assert status in request_.statuses


@pytest.mark.parametrize("request_", marked(GRPC))
def test_over_grpc(server, measured, request_):
    data = request_.data()
    compression = grpc.Compression.Gzip if request_.compressed else None
    with grpc.insecure_channel(server.grpc, ANY_LENGTH, compression) as channel:
        call = channel.unary_unary(f"/tensorflow.serving.{request_.service}/{request_.method}")
        code = measured(lambda: call.future(data, timeout=120).code())
    assert code in CODES
