"""A client in a process of its own: what a test does meanwhile does not slow it down. Imports little."""

import contextlib
import json
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import grpc
import httpx


class Rest(NamedTuple):
    """A request over HTTP."""

    verb: str
    path: str
    body: bytes


class Grpc(NamedTuple):
    """A request over gRPC."""

    method: str
    data: bytes


class Sender:
    """A client of both protocols."""

    def __init__(self, rest: str, address: str) -> None:
        self.http = httpx.Client(base_url=rest, timeout=60)
        self.channel = grpc.insecure_channel(address)

    def send(self, request: Rest | Grpc) -> int | grpc.StatusCode:
        """Send a request; the status or code of its answer."""
        if isinstance(request, Rest):
            return self.http.request(request.verb, request.path, content=request.body).status_code
        call = self.channel.unary_unary(f"/tensorflow.serving.PredictionService/{request.method}")
        return call.future(request.data, timeout=60).code()


class Asked(NamedTuple):
    """What the client met: seconds until each answer, and statuses other than of a result."""

    seconds: list[float]
    failures: list[str]


@contextlib.contextmanager
def asking(rest: str, address: str, requests: Sequence[Rest | Grpc], pause: float) -> Iterator[Asked]:
    """Ask again and again until the block ends; then what it met is filled in."""
    context = multiprocessing.get_context("spawn")
    stop, ready, told = context.Event(), context.Event(), context.SimpleQueue()
    arguments = (rest, address, list(requests), pause, stop, ready, told)
    process = context.Process(target=_ask, args=arguments)
    process.start()
    assert ready.wait(60)
    asked = Asked([], [])
    try:
        yield asked
    finally:
        stop.set()
        seconds, failures = json.loads(told.get())
        process.join()
        asked.seconds.extend(seconds)
        asked.failures.extend(failures)


def _ask(rest, address, requests, pause, stop, ready, told):
    sender, seconds, failures = Sender(rest, address), [], []
    for request in requests:  # connections, and what the first request of a kind takes
        sender.send(request)
    ready.set()
    while not stop.wait(pause):
        for request in requests:
            start = time.perf_counter()
            try:
                answer = sender.send(request)
                if answer not in (200, grpc.StatusCode.OK):
                    failures.append(str(answer))
            except Exception as error:
                failures.append(repr(error))
            seconds.append(time.perf_counter() - start)
    told.put(json.dumps([seconds, failures]))
