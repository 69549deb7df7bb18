"""A log that cannot be written, and errors in threads that no client waits for: the preview goes on."""

import io
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time

import httpx
import numpy as np
import pytest
from conformance.server import ADDRESSES, preview
from served_versions import AVAILABLE, states

from keras_googlenet.serving.preview import models as models_module
from keras_googlenet.serving.preview.batching import BatchQueue, BatchScheduler
from keras_googlenet.serving.preview.batching_parameters import BatchingParameters
from keras_googlenet.serving.preview.config import ModelConfig
from keras_googlenet.serving.preview.record import Entry, Recorder
from keras_googlenet.serving.preview.reports import report, supervised

pytest_plugins = ["small_models"]


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def publish(adders, folder, number):
    shutil.copytree(adders / f"adder/{number}", folder / f".{number}")
    (folder / f".{number}").rename(folder / str(number))


def version_served(rest):
    status = httpx.get(f"{rest}/v1/models/adder").json()["model_version_status"][0]
    return status["version"] if status["state"] == "AVAILABLE" else None  # not yet, while it loads


@pytest.fixture
def folder(tmp_path, adders):
    shutil.copytree(adders / "adder/1", tmp_path / "adder/1")
    return tmp_path / "adder"


@pytest.mark.ci
@pytest.mark.parametrize("access_log", [(), ("--access-log=-",)], ids=["reports", "access log"])
def test_versions_are_found_though_standard_error_is_closed(adders, folder, access_log):
    """A pipe without a reader: `keras-googlenet serve ... 2>&1 | head`."""
    command = [sys.executable, "-m", "keras_googlenet.cli", "serve", str(folder), "--poll-seconds", "0.1"]
    ports = ["--rest-port", "0", "--grpc-port", "0", *access_log]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([*command, *ports], text=True, **pipes)
    try:
        rest = ADDRESSES.search("".join(process.stdout.readline() for _ in range(3)))[1]
        process.stdout.close()
        process.stderr.close()
        for number in (2, 3):
            publish(adders, folder, number)
            until(lambda number=number: version_served(rest) == str(number))
        body = {"instances": [[1, 2]]}
        assert httpx.post(f"{rest}/v1/models/adder:predict", json=body).json() == {"predictions": [[4, 5]]}
    finally:
        process.terminate()
        assert process.wait(60) in (0, 120)  # 120: Python's own, where it cannot flush standard output


@pytest.mark.ci
def test_the_log_goes_on_once_it_can_be_written(adders, folder, tmp_path, capfd):
    """A limit on files' sizes stands for a full disk, since it can be lifted."""
    log = tmp_path / "access.jsonl"
    with preview(folder, "--access-log", str(log)) as server:
        url, infinity = f"{server.rest}/v1/models/adder", resource.RLIM_INFINITY
        httpx.get(url)
        size = log.stat().st_size
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, infinity))
        assert [httpx.get(url).status_code for _ in range(3)] == [200] * 3
        assert log.stat().st_size == size
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (infinity, infinity))
        httpx.get(url)
        until(lambda: log.stat().st_size > size)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) == 5
    assert capfd.readouterr().err.count("cannot write the access log") == 1


def test_what_a_look_for_versions_meets_shows_in_the_status(models, adders, folder, monkeypatch):
    lines = []
    serving = models(ModelConfig("adder", folder), log=lines.append)

    def fail(directory):
        raise MemoryError("no room for the list")

    with monkeypatch.context() as broken:
        broken.setattr(models_module, "versions", fail)
        for _ in range(3):
            with pytest.raises(MemoryError):
                serving.poll()
        (listed,) = serving.status("adder").model_version_status
        assert listed.state == models_module.AVAILABLE
        told = "cannot look for new versions: MemoryError: no room for the list"
        assert listed.status.error_message == told
        assert sum("cannot look for new versions" in line for line in lines) == 1
    publish(adders, folder, 2)
    serving.poll()
    assert states(serving) == {2: AVAILABLE, 1: ("END", "OK")}


def test_a_supervised_thread_outlives_its_errors():
    seen, done = [], threading.Event()

    def work():
        if len(seen) < 3:
            raise ValueError(len(seen))
        done.set()
        return False

    def failed(error):
        seen.append(error)
        raise RuntimeError("the log fails too")

    thread = supervised(work, failed, "thread")
    thread.join(10)
    assert done.is_set()
    assert [error.args[0] for error in seen] == [0, 1, 2]


def test_a_batch_thread_outlives_what_a_batch_raises():
    def exploding(seconds):
        raise SystemError("waited")

    scheduler = BatchScheduler(BatchingParameters(num_batch_threads=1), exploding)
    queue = BatchQueue(scheduler, lambda inputs: {"y": inputs["x"]})

    for _ in range(2):
        with pytest.raises(Exception, match="waited"):
            queue.run({"x": np.zeros(1)})


class Broken(io.StringIO):
    """A stream that cannot be written."""

    def write(self, text):
        raise BrokenPipeError(32, os.strerror(32))


@pytest.mark.parametrize("stream", [Broken(), io.StringIO()], ids=["broken", "closed"])
def test_nothing_is_raised_where_nothing_can_be_written(stream, monkeypatch):
    if not isinstance(stream, Broken):
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    assert report("line") is False
    Recorder(stream, (lambda entry: 1 / 0,)).record(Entry("REST", "GET /", time.perf_counter()))
    monkeypatch.setattr(sys, "stderr", None)
    assert report("line") is False
