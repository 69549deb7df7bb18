"""The record of each request: a line of the access log, and its part in the metrics."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any

from tensorflow.core.protobuf import error_codes_pb2 as code

from keras_googlenet.serving.preview.reports import report


@dataclass
class Entry:
    """One request, filled in as it is answered.

    Attributes:
        protocol: `REST` or `GRPC`.
        request: The method and path, or the name of the remote procedure.
        start: When it came, in `time.perf_counter` seconds.
        api: Serving's name of the requested method, such as `Predict`.
        runtime: Seconds that the model ran, with the wait for its batch.
        code: The canonical code of the answer.
        status: The HTTP status of a REST answer.
    """

    protocol: str
    request: str
    start: float
    api: str = ""
    model: str = ""
    version: int | None = None
    runtime: float | None = None
    code: int = code.OK
    status: int | None = 200
    error: str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0


class Recorder:
    """Logs and counts every request.

    Args:
        log: Where to write a JSON line for each.
        observers: Called with each entry.
    """

    def __init__(
        self, log: IO[str] | None = None, observers: tuple[Callable[[Entry], None], ...] = ()
    ) -> None:
        self._log, self._observers = log, observers
        self._complained = False

    def record(self, entry: Entry) -> None:
        """Count an answered request."""
        entry.seconds = time.perf_counter() - entry.start
        for observe in self._observers:
            try:
                observe(entry)
            except Exception as error:  # the request was answered
                report(f"preview: cannot count a request: {type(error).__name__}: {error}")
        if self._log is not None:
            self._write(json.dumps(_line(entry)) + "\n")

    def _write(self, line: str) -> None:
        assert self._log is not None
        try:
            self._log.write(line)  # one write: lines of threads do not mix
            self._log.flush()
            self._complained = False
        except (OSError, ValueError) as error:  # a full disk must not stop the answers
            if not self._complained:
                report(f"preview: cannot write the access log: {getattr(error, 'strerror', None) or error}")
            self._complained = True


def _line(entry: Entry) -> dict[str, Any]:
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "protocol": entry.protocol,
        "request": entry.request,
        "model": entry.model or None,
        "version": entry.version,
        "status": entry.status,
        "code": code.Code.Name(entry.code),
        "ms": round(entry.seconds * 1000, 3),
        "bytes_in": entry.bytes_in,
        "bytes_out": entry.bytes_out,
    }
    return line | ({"error": entry.error} if entry.error else {})
