"""A gRPC server whose clients can be slow: a request takes a thread only once it is complete.

gRPC's threaded server uses a thread for each arriving message, so a few clients that send nothing would block
all threads. This server receives on an event loop, in a separate thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent import futures
from typing import Any

import grpc
from tensorflow.core.protobuf import error_codes_pb2 as code

from keras_googlenet.errors import UserError
from keras_googlenet.serving.preview.bounds import Memory
from keras_googlenet.serving.preview.errors import StatusError, invalid
from keras_googlenet.serving.preview.grpc_services import SERVICES, Services
from keras_googlenet.serving.preview.models import Models
from keras_googlenet.serving.preview.record import Recorder

GRPC_STATUS = {status.value[0]: status for status in grpc.StatusCode}
THREADS = 64  # a request that waits in a batch keeps one
WAITING = 256  # requests that may wait for a thread
RECEIVE_SECONDS = 60.0  # for a request to arrive
OPTIONS = (
    ("grpc.so_reuseport", 0),  # else a second server would silently share a used port
    ("grpc.max_send_message_length", -1),
    # gRPC bounds a message only before it is decompressed; `proto_scan.unpack` bounds it afterwards.
    ("grpc.per_message_decompression", 0),
    ("grpc.max_concurrent_streams", 128),
    ("grpc.server_handshake_timeout_ms", 30_000),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)


class GrpcServer:
    """A server, bound and not yet started.

    Args:
        services: The services that answer.
        address: Where to listen, `host:port`.
        max_message_bytes: The longest message taken, as sent; -1 for any.
        receive_seconds: Seconds for a request to arrive.

    Attributes:
        port: Its port.

    Raises:
        UserError: The port is not available.
    """

    def __init__(
        self,
        services: Services,
        address: str,
        max_message_bytes: int = -1,
        receive_seconds: float = RECEIVE_SECONDS,
    ) -> None:
        self._services, self._receive_seconds = services, receive_seconds
        self._pool = futures.ThreadPoolExecutor(THREADS, "preview-grpc")
        self._answering = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="preview-grpc-loop", daemon=True)
        self._thread.start()
        options = (*OPTIONS, ("grpc.max_receive_message_length", max_message_bytes))
        self._server, self.port = self._wait(self._bind(address, options))
        if not self.port:
            self.stop(None)
            raise UserError(f"cannot listen on {address}: choose another `grpc_port`")

    def start(self) -> None:
        """Begin to answer."""
        self._wait(self._server.start())

    def stop(self, grace: float | None) -> None:
        """Stop: accept no new request, and give those in flight this many seconds."""
        self._wait(self._server.stop(grace))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._pool.shutdown(wait=False)

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _bind(self, address: str, options: Any) -> tuple[Any, int]:
        server = grpc.aio.server(options=options)
        for service, names in SERVICES.items():
            # A stream of one message looks like a message on the wire, and waiting for it can have a time
            # limit.
            handlers = {name: grpc.stream_unary_rpc_method_handler(self._handler(name)) for name in names}
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        try:
            return server, server.add_insecure_port(address)
        except RuntimeError:
            return server, 0

    def _handler(self, name: str) -> Callable[[AsyncIterator[bytes], Any], Coroutine[Any, Any, bytes]]:
        async def handle(requests: AsyncIterator[bytes], context: Any) -> bytes:
            try:
                data = await self._received(requests)
                if self._answering >= THREADS + WAITING:
                    raise StatusError(code.RESOURCE_EXHAUSTED, "Too many requests wait for an answer")
                self._answering += 1
                try:
                    return await self._loop.run_in_executor(self._pool, self._services.answer, name, data)
                finally:
                    self._answering -= 1
            except StatusError as error:
                await context.abort(GRPC_STATUS[error.code], error.message)
                raise

        return handle

    async def _received(self, requests: AsyncIterator[bytes]) -> bytes:
        try:
            async with asyncio.timeout(self._receive_seconds):
                return await anext(aiter(requests))
        except TimeoutError:
            message = f"The request did not arrive within {self._receive_seconds:g} seconds"
            raise StatusError(code.DEADLINE_EXCEEDED, message) from None
        except StopAsyncIteration:
            raise invalid("expected a message, got none") from None


def grpc_server(
    models: Models,
    reload: Callable[[Any], None],
    *,
    host: str,
    port: int,
    recorder: Recorder | None = None,
    max_message_bytes: int = -1,
    memory: Memory | None = None,
) -> tuple[GrpcServer, int]:
    """A server, bound and not yet started, and its port.

    Args:
        models: The models.
        reload: Serves what a `ModelServerConfig` message lists.
        host: Address to listen on.
        port: Port to listen on; 0 for any free one.
        recorder: Receives every request.
        max_message_bytes: The longest message taken; -1 for any, as in TensorFlow Serving.
        memory: What large requests share.

    Raises:
        UserError: The port is not available.
    """
    services = Services(models, reload, recorder, memory, max_message_bytes)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    server = GrpcServer(services, address, max_message_bytes)
    return server, server.port
