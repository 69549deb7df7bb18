"""Thousands of requests, half valid but for their content: the server answers others and keeps its size."""

import re
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import grpc
import httpx
import numpy as np
import pytest
from conformance.server import preview
from honest_client import Sender, asking
from mutated_requests import Maker

pytestmark = [pytest.mark.ci, pytest.mark.alone]  # it tells of seconds

CLIENTS, SEED = 4, 2014
FIRST = 1_000  # after these, memory has its size
LIMIT = 4 * 2**30
STATUSES = {200, 400, 404, 413, 429, 501}
CODES = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


def send(sender, request):
    """Send a request; its answer is one that the protocol has. Returns whether it was a result."""
    answer = sender.send(request)
    assert answer in STATUSES | CODES, (answer, request)
    return answer in (200, grpc.StatusCode.OK)


def resident(server):
    text = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", text)[1]) * 1024


def makers(exported, png_bytes, shape):
    smooth = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 8, 3), "uint8"), (160, 120))
    files = [png_bytes, cv2.imencode(".jpg", smooth)[1].tobytes()]
    return [Maker(SEED + client, exported.parent.name, files, shape) for client in range(CLIENTS)]


def send_share(sender, maker, count):
    """Send requests, one of each kind in turn; how many of either were results."""
    results = [0, 0]
    for index in range(count):
        request = maker.reaching() if index % 2 else maker.broken()
        results[index % 2] += send(sender, request)
    return results


@pytest.mark.parametrize("requests", [6_000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_the_server_outlives_them(requests, exported, png_bytes):
    with preview(exported.parent) as server:
        resource.prlimit(server.process.pid, resource.RLIMIT_DATA, (LIMIT, LIMIT))
        path = f"/v1/models/{exported.parent.name}/metadata"
        signatures = httpx.get(f"{server.rest}{path}").json()["metadata"]["signature_def"]["signature_def"]
        sizes = signatures["tensor"]["inputs"]["images"]["tensor_shape"]["dim"]
        fuzzing = makers(exported, png_bytes, tuple(int(size["size"]) for size in sizes)[1:])
        senders = [Sender(server.rest, server.grpc) for _ in fuzzing]
        honest = [maker.files_request(index % 2, [png_bytes]) for index, maker in enumerate(fuzzing)]
        start = time.monotonic()
        with asking(server.rest, server.grpc, honest, 0.1) as asked, ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(send_share, senders, fuzzing, [FIRST // CLIENTS] * CLIENTS))
            before = resident(server)
            rest = (requests - FIRST) // CLIENTS
            shares = list(pool.map(send_share, senders, fuzzing, [rest] * CLIENTS))
            after = resident(server)
        broken, reaching = np.sum(shares, axis=0)
        print(
            f"FIGURES {time.monotonic() - start:.0f} s; {broken} and {reaching} results; "
            f"{before / 2**20:.0f}, then {after / 2**20:.0f} MiB; honest: {len(asked.seconds)} answers, "
            f"median {np.median(asked.seconds):.3f} s, the slowest {np.sort(asked.seconds)[-5:].round(3)} s"
        )
        assert server.process.poll() is None
        assert asked.failures == []
        assert reaching > 0
        assert max(asked.seconds) < 1
        assert after < before * 1.1
