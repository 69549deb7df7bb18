"""TensorFlow Serving's REST interface, and a page to try it, as an ASGI application.

Sources: TensorFlow Serving's `http_rest_api_util.cc` (paths), `http_rest_api_handler.cc`, `http_server.cc`
(codes), `evhttp_request.cc` (gzip). Serving bounds no body; the preview does. With CORS, any `OPTIONS` under
`/v1/` is answered with 200, and each answer under it allows every origin: Serving's flag is described as
"Enable CORS headers in response", and a page can read no error without them.
"""

from __future__ import annotations

import asyncio
import re
import time
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import unquote

import anyio
import anyio.to_thread
from google.protobuf import json_format
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from tensorflow.core.protobuf import error_codes_pb2 as code

from keras_googlenet.serving.preview import bounds, examples, inference, wire
from keras_googlenet.serving.preview.errors import StatusError, invalid
from keras_googlenet.serving.preview.models import Models
from keras_googlenet.serving.preview.options import Options
from keras_googlenet.serving.preview.page import page_response
from keras_googlenet.serving.preview.record import Entry, Recorder

V1 = re.compile(r"(?i)/v1/.*", re.DOTALL)
SERVABLE = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
PREDICTION = re.compile(rf"(?i)/v1/models/(?P<model>[^/:]+){SERVABLE}:(?P<method>classify|regress|predict)")
STATUS = re.compile(rf"(?i)/v1/models(?:/(?P<model>[^/:]+))?{SERVABLE}(?P<metadata>/metadata)?")

# HTTP status by canonical code, as `http_server.cc` maps them; 500 for the rest.
HTTP_STATUS = {
    code.OK: 200,
    code.CANCELLED: 499,
    code.INVALID_ARGUMENT: 400,
    code.DEADLINE_EXCEEDED: 504,
    code.NOT_FOUND: 404,
    code.ALREADY_EXISTS: 409,
    code.PERMISSION_DENIED: 403,
    code.RESOURCE_EXHAUSTED: 429,
    code.FAILED_PRECONDITION: 400,
    code.ABORTED: 409,
    code.OUT_OF_RANGE: 400,
    code.UNIMPLEMENTED: 501,
    code.UNAVAILABLE: 503,
    code.UNAUTHENTICATED: 401,
}
TOO_LARGE = 413
TIMED_OUT = 408
THREADS = 64  # a request that waits in a batch keeps one
BODY_SECONDS = 60.0  # for a body to arrive
PIECE = 2**20  # bytes to decompress before others have their turn
CORS = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "GET, POST, OPTIONS",
    "access-control-allow-headers": "content-type, content-encoding",
}


class BodyTooLargeError(Exception):
    """A body is beyond the limit."""


def rest_app(
    models: Models,
    *,
    max_bytes: int = Options.max_request_bytes,
    recorder: Recorder | None = None,
    monitoring: tuple[str, Callable[[], bytes]] | None = None,
    memory: bounds.Memory | None = None,
    body_seconds: float = BODY_SECONDS,
    cors: bool = False,
) -> ASGIApp:
    """The REST interface of `models`.

    Args:
        models: The models.
        max_bytes: Of a body, as sent and as unpacked.
        recorder: Receives every request.
        monitoring: A path, and what to answer there.
        memory: What large requests share.
        body_seconds: Seconds for a body to arrive.
        cors: Let pages of any site read the answers.
    """
    recorder, memory = recorder or Recorder(), memory or bounds.Memory()
    shared = CORS if cors else {}
    limiter = anyio.CapacityLimiter(THREADS)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        target = scope.get("raw_path", scope["path"].encode()).decode("latin-1")
        if monitoring and target == monitoring[0]:
            response: Response = PlainTextResponse(monitoring[1]())
        elif not V1.fullmatch(target):
            response = page_response(request.method, scope["path"], models.available())
        else:
            if scope["query_string"]:  # Serving matches it as a part of the path
                target += "?" + scope["query_string"].decode("latin-1")
            entry = Entry("REST", f"{request.method} {target}", time.perf_counter())
            body = _Body(max_bytes, memory)
            try:
                async with asyncio.timeout(body_seconds):
                    content = await body.read(request)
            except (BodyTooLargeError, TimeoutError, StatusError) as error:
                response = _refused_body(error, max_bytes, body_seconds, entry)
            except (ClientDisconnect, asyncio.CancelledError):  # gone, or too slow for the server's end
                return
            else:
                if cors and request.method == "OPTIONS":
                    response = Response()
                else:
                    entry.bytes_in = len(content)
                    work = partial(_answer, models, request.method, target, content, entry, memory)
                    response = await anyio.to_thread.run_sync(work, limiter=limiter)
            finally:
                body.free()
            response.headers.update(shared)
            entry.bytes_out = len(response.body)
            recorder.record(entry)
        await response(scope, receive, send)

    return app


class _Body:
    """A body as it arrives, decompressed where it is gzipped, counted in the memory that requests share."""

    def __init__(self, limit: int, memory: bounds.Memory) -> None:
        self._limit, self._memory = limit, memory
        self._chunks: list[bytes] = []
        self._size = self._counted = 0

    async def read(self, request: Request) -> bytes:
        """All of it.

        Raises:
            BodyTooLargeError: It is beyond the limit.
            StatusError: Large requests in flight leave too little memory.
        """
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self._limit:
            raise BodyTooLargeError
        unpacker = zlib.decompressobj(31) if "gzip" in request.headers.get("content-encoding", "") else None
        async for chunk in request.stream():
            if unpacker is None:
                self._add(chunk)
                continue
            try:
                while chunk and not unpacker.eof:
                    self._add(unpacker.decompress(chunk, PIECE))
                    chunk = unpacker.unconsumed_tail
                    await asyncio.sleep(0)
            except zlib.error:
                return b""  # Serving continues without the body
        if unpacker is not None and not unpacker.eof:
            return b""
        whole = b"".join(self._chunks)
        self._chunks.clear()
        return whole

    def free(self) -> None:
        """Count its bytes as free again."""
        self._memory.give(self._counted)
        self._counted = 0

    def _add(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size > self._limit:
            raise BodyTooLargeError
        if self._size > bounds.SMALL:
            self._memory.take(self._size - self._counted)
            self._counted = self._size
        self._chunks.append(chunk)


def _refused_body(error: Exception, max_bytes: int, seconds: float, entry: Entry) -> Response:
    # The rest of the body is not read: the connection cannot be reused.
    if isinstance(error, StatusError):
        entry.code, entry.status = error.code, HTTP_STATUS[error.code]
        entry.error = error.message
    elif isinstance(error, BodyTooLargeError):
        entry.code, entry.status = code.INVALID_ARGUMENT, TOO_LARGE
        entry.error = f"Request body exceeds the limit of {max_bytes} bytes"
    else:
        entry.code, entry.status = code.DEADLINE_EXCEEDED, TIMED_OUT
        entry.error = f"Request body did not arrive within {seconds:g} seconds"
    return _error(entry.status, entry.error, {"connection": "close"})


def _answer(
    models: Models, method: str, target: str, body: bytes, entry: Entry, memory: bounds.Memory
) -> Response:
    try:
        content = _dispatch(models, method, target, body, entry, memory)
    except Exception as caught:
        error = StatusError.of(caught)
        entry.code, entry.status = error.code, HTTP_STATUS.get(error.code, 500)
        entry.error = error.message
        return _error(entry.status, error.message)
    return Response(content, media_type="application/json")


def _dispatch(
    models: Models, method: str, target: str, body: bytes, entry: Entry, memory: bounds.Memory
) -> bytes:
    pattern = {"POST": PREDICTION, "GET": STATUS}.get(method)
    match = pattern.fullmatch(target) if pattern else None
    if match is None:
        raise invalid(f"Malformed request: {method} {target}")
    if not match["model"]:
        raise invalid("Missing model name in request.")
    name, label = unquote(match["model"]), unquote(match["label"]) if match["label"] else None
    version = int(match["version"]) if match["version"] else None
    if version is not None and version >= 2**63:
        raise invalid(f"Failed to convert version: {match['version']} to numeric.")
    entry.model = name
    if method == "POST":
        entry.api = match["method"].capitalize()
        with models.use(name, version, label) as handle:
            entry.version = handle.version
            runner = handle.runner
            parsed = bounds.check_json(body, runner.signatures, runner.max_rows)
            with memory.holding(parsed):
                return METHODS[match["method"].lower()](runner, body, entry)
    if match["metadata"]:
        entry.api = "GetModelMetadata"
        with models.use(name, version, label) as handle:
            entry.version = handle.version
            return _metadata(handle)
    entry.api = "GetModelStatus"
    return wire.dumps(_as_json(models.status(name, version, label)))


def _predict(runner: inference.Runner, body: bytes, entry: Entry) -> bytes:
    request = wire.parse_predict(body, runner.signatures, runner.max_rows)
    start = time.perf_counter()
    outputs = inference.predict(runner, request.signature_name, request.inputs)
    entry.runtime = time.perf_counter() - start
    return wire.format_predict(outputs, row_form=request.row_form)


def _classify(runner: inference.Runner, body: bytes, entry: Entry) -> bytes:
    parsed = examples.parse_examples(body, runner.max_rows)
    return wire.dumps({"results": inference.classify(runner, *parsed)})


def _regress(runner: inference.Runner, body: bytes, entry: Entry) -> bytes:
    parsed = examples.parse_examples(body, runner.max_rows)
    return wire.dumps({"results": inference.regress(runner, *parsed)})


METHODS = {"predict": _predict, "classify": _classify, "regress": _regress}


def _metadata(handle: Any) -> bytes:
    signatures = {name: _as_json(signature) for name, signature in handle.runner.signature_defs.items()}
    return wire.dumps(
        {
            "model_spec": {"name": handle.model, "signature_name": "", "version": str(handle.version)},
            "metadata": {"signature_def": {"signature_def": signatures}},
        }
    )


def _as_json(message: Any) -> dict[str, Any]:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return Response(wire.dumps({"error": message}), status, headers, "application/json")
