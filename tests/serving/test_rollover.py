"""Versions come and go under load: every request is answered, by a version that was due."""

import base64
import itertools
import shutil
import threading
import time
from dataclasses import dataclass

import grpc
import httpx
import pytest
import tensorflow as tf
from conformance.server import preview
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

SECONDS, PERIOD, CLIENTS = 60, 5, 4
NAME = "Sneaker"  # a class of the export; every version gets another name of the same length for it


def copy_as(version, exported, folder):
    """A copy of the export whose answers tell its version."""
    shutil.copytree(exported, folder)
    graph = (folder / "saved_model.pb").read_bytes()
    assert NAME.encode() in graph
    (folder / "saved_model.pb").write_bytes(graph.replace(NAME.encode(), f"{version:07}".encode()))


def told_version(classes):
    return int(next(name for name in classes if name.isdigit()))


@dataclass(frozen=True)
class Answer:
    begun: float
    version: int


class Client(threading.Thread):
    """Asks again and again, over REST and gRPC in turn."""

    def __init__(self, server, model, image, stop):
        super().__init__()
        self.server, self.model, self.image, self.stop = server, model, image, stop
        self.answers, self.failures = [], []

    def run(self):
        with (
            httpx.Client(base_url=self.server.rest, timeout=30) as http,
            grpc.insecure_channel(self.server.grpc) as channel,
        ):
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            for ask in itertools.cycle([lambda: self.over_rest(http), lambda: self.over_grpc(stub)]):
                if self.stop.is_set():
                    return
                begun = time.monotonic()
                try:
                    self.answers.append(Answer(begun, ask()))
                except (httpx.HTTPError, grpc.RpcError) as error:
                    self.failures.append(error)

    def over_rest(self, http):
        rows = [{"b64": base64.b64encode(self.image).decode()}]
        response = http.post(f"/v1/models/{self.model}:predict", json={"instances": rows}).raise_for_status()
        return told_version(response.json()["predictions"][0]["classes"])

    def over_grpc(self, stub):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = self.model
        request.inputs["images"].CopyFrom(tf.make_tensor_proto([self.image]))
        response = stub.Predict(request, 30)
        told = told_version([name.decode() for name in tf.make_ndarray(response.outputs["classes"])[0]])
        assert response.model_spec.version.value == told
        return told


def publish(version, prebuilt, directory):
    """One rename makes a version, another takes the one before the last away."""
    prebuilt[version].rename(directory / str(version))
    old = directory / str(version - 2)
    if old.exists():
        old.rename(directory / f".tmp-{version - 2}")
        shutil.rmtree(directory / f".tmp-{version - 2}")


def wait_until_available(version, server, model):
    """When the server says so, as the time on the clock."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        status = httpx.get(f"{server.rest}/v1/models/{model}").json()["model_version_status"]
        if any(one["version"] == str(version) and one["state"] == "AVAILABLE" for one in status):
            return time.monotonic()
        time.sleep(0.05)
    raise AssertionError(f"version {version} is not available")


@pytest.mark.slow
def test_no_request_fails_while_versions_come_and_go(exported, png_bytes, tmp_path):
    last = SECONDS // PERIOD
    prebuilt = {version: tmp_path / f"prebuilt/{version}" for version in range(1, last + 1)}
    for version, folder in prebuilt.items():
        copy_as(version, exported, folder)
    directory = tmp_path / "shoes"
    directory.mkdir()
    publish(1, prebuilt, directory)
    available = {}
    stop = threading.Event()
    with preview(directory) as server:
        available[1] = wait_until_available(1, server, "shoes")
        clients = [Client(server, "shoes", png_bytes, stop) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        begun = time.monotonic()
        try:
            for version in range(2, last + 1):
                time.sleep(max(0, begun + PERIOD * (version - 1) - time.monotonic()))
                publish(version, prebuilt, directory)
                available[version] = wait_until_available(version, server, "shoes")
            time.sleep(PERIOD)
        finally:
            stop.set()
            for client in clients:
                client.join()
    answers = [answer for client in clients for answer in client.answers]
    assert not [failure for client in clients for failure in client.failures]
    assert {answer.version for answer in answers} == set(available)
    for answer in answers:
        due = max(version for version, since in available.items() if since <= answer.begun)
        # The next one may answer before the status was asked again.
        assert answer.version in (due, due + 1)
