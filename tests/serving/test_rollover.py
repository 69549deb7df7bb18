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
    ended: float
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
                    version = ask()
                    self.answers.append(Answer(begun, time.monotonic(), version))
                except Exception as error:  # a wrong answer too
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


class Watch(threading.Thread):
    """Notes when the server first says of a version that it is available."""

    def __init__(self, server, model, stop):
        super().__init__()
        self.url = f"{server.rest}/v1/models/{model}"
        self.stop = stop
        self.since = {}

    def run(self):
        with httpx.Client(timeout=30) as http:
            while not self.stop.wait(0.1):
                for one in http.get(self.url).json()["model_version_status"]:
                    if one["state"] == "AVAILABLE":
                        self.since.setdefault(int(one["version"]), time.monotonic())

    def wait(self, version, seconds=120):
        deadline = time.monotonic() + seconds
        while version not in self.since:
            assert time.monotonic() < deadline, f"version {version} is not available: {self.since}"
            time.sleep(0.1)


@pytest.mark.slow
def test_no_request_fails_while_versions_come_and_go(exported, png_bytes, tmp_path):
    """A version every few seconds, whether or not the one before was loaded in time."""
    last = SECONDS // PERIOD
    prebuilt = {version: tmp_path / f"prebuilt/{version}" for version in range(1, last + 1)}
    for version, folder in prebuilt.items():
        copy_as(version, exported, folder)
    directory = tmp_path / "shoes"
    directory.mkdir()
    publish(1, prebuilt, directory)
    published = {1: time.monotonic()}
    stop = threading.Event()
    with preview(directory) as server:
        watch = Watch(server, "shoes", stop)
        clients = [Client(server, "shoes", png_bytes, stop) for _ in range(CLIENTS)]
        try:
            watch.start()
            watch.wait(1)
            for client in clients:
                client.start()
            for version in range(2, last + 1):
                time.sleep(PERIOD)
                published[version] = time.monotonic()
                publish(version, prebuilt, directory)
            watch.wait(last)
            time.sleep(1)  # answers of the last one
        finally:
            stop.set()
            for thread in (watch, *clients):
                if thread.is_alive():
                    thread.join()
    assert not [failure for client in clients for failure in client.failures]
    answers = [answer for client in clients for answer in client.answers]
    served = {answer.version for answer in answers}
    print(f"{len(answers)} answers by the versions {sorted(served)} of {last}")
    assert {1, last} < served
    for answer in answers:
        assert answer.version >= max(v for v, since in watch.since.items() if since <= answer.begun)
        assert published[answer.version] <= answer.ended
