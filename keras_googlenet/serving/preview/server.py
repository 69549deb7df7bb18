"""The preview's process: ports, models, both protocols, and a shutdown that loses no request."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

import uvicorn

from keras_googlenet.errors import UserError
from keras_googlenet.serving.preview import bounds
from keras_googlenet.serving.preview.batching import BatchScheduler
from keras_googlenet.serving.preview.batching_parameters import BatchingParameters, read_parameters
from keras_googlenet.serving.preview.config import ModelConfig, find_models, parse_models, read_models
from keras_googlenet.serving.preview.connections import Protocol
from keras_googlenet.serving.preview.errors import StatusError
from keras_googlenet.serving.preview.grpc_server import grpc_server
from keras_googlenet.serving.preview.metrics import Metrics
from keras_googlenet.serving.preview.metrics import read_path as metrics_path
from keras_googlenet.serving.preview.models import Models
from keras_googlenet.serving.preview.options import Options
from keras_googlenet.serving.preview.record import Recorder
from keras_googlenet.serving.preview.reports import report, supervised
from keras_googlenet.serving.preview.rest import rest_app
from keras_googlenet.serving.preview.servable import Servable

GRACE_SECONDS = 30  # for the requests in flight when the preview is told to stop
NAME = "preview of TensorFlow Serving"


def serve(directory: Path, options: Options) -> None:
    """Serve until told to stop by SIGINT or SIGTERM.

    Args:
        directory: One model's folder of versions, named like the model, or a folder of such folders.
        options: How to serve.

    Raises:
        UserError: A port is in use, a file is wrong, or a model does not load.
    """
    options.check()
    configs = _configs(directory, options.model_config_file)
    metrics = Metrics(lambda name: name in models.available())
    scheduler = _scheduler(options, metrics)
    monitoring_path = metrics_path(options.monitoring_config_file) if options.monitoring_config_file else None

    def load(name: str, number: int, folder: Path) -> Servable:
        start, failed = time.perf_counter(), True
        try:
            servable = Servable(number, folder, scheduler, options.rest_timeout_ms, options.max_rows)
            failed = False
            return servable
        finally:
            metrics.loaded(folder, time.perf_counter() - start, failed=failed)

    models, memory = Models(load), bounds.Memory()
    with contextlib.ExitStack() as stack:
        recorder = Recorder(stack.enter_context(_opened(options.access_log)), (metrics.answered,))
        listener = stack.enter_context(_bound(options))
        grpc, grpc_port = grpc_server(
            models,
            lambda message: models.reload(parse_models(message, directory)),
            host=options.host,
            port=_port(options.grpc_port),
            recorder=recorder,
            max_message_bytes=options.max_request_bytes,
            memory=memory,
        )
        gc.collect()
        gc.freeze()  # a search for cycles among TensorFlow's own objects would hold all requests up
        try:
            models.reload(configs, first=True)
        except StatusError as error:
            raise UserError(f"cannot serve {directory}: {error.message}") from None
        stop = threading.Event()

        def poll() -> bool:
            if stop.wait(options.poll_seconds):
                return False
            models.poll()
            return True

        if options.poll_seconds:
            supervised(poll, lambda error: None, "polling")  # `Models` itself reports its errors
        grpc.start()
        with _port_errors(options):
            listener.listen()

        def announce() -> None:
            port = listener.getsockname()[1]
            _announce(models, options.host, port, grpc_port, open_page=options.open)

        patient = True
        try:
            app = rest_app(
                models,
                max_bytes=options.max_request_bytes,
                recorder=recorder,
                monitoring=(monitoring_path, metrics.text) if monitoring_path else None,
                memory=memory,
                cors=options.rest_api_enable_cors_support,
            )
            patient = asyncio.run(_run(app, listener, announce))
        finally:
            stop.set()
            grpc.stop(GRACE_SECONDS if patient else 0)
            models.close()
            report(f"{NAME}: stopped", sys.stdout)


def _scheduler(options: Options, metrics: Metrics) -> BatchScheduler | None:
    file = options.batching_parameters_file
    if not options.enable_batching:
        if file is not None:
            raise UserError("`batching_parameters_file` needs `enable_batching`: pass both")
        return None
    parameters = read_parameters(file) if file is not None else BatchingParameters()
    return BatchScheduler(parameters, partial(metrics.waited, parameters.thread_pool_name))


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: uvicorn would end the process with the signal that stopped it."""
        yield


async def _run(app: Any, listener: socket.socket, announce: Callable[[], None]) -> bool:
    """Answer until told to stop; returns whether once, so that requests in flight may be finished."""
    config = uvicorn.Config(
        app,
        http=Protocol,
        lifespan="off",
        ws="none",
        log_level="critical",  # it would show a traceback for each client too slow for the end
        access_log=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = _Server(config)

    def stop() -> None:
        server.force_exit = server.should_exit
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    announce()
    await server.serve(sockets=[listener])
    return not server.force_exit


def _configs(directory: Path, file: Path | None) -> list[ModelConfig]:
    if file is None:
        return find_models(directory)
    if not directory.is_dir():
        raise UserError(f"no models at {directory}: expected the folder that holds those of {file}")
    return read_models(file, directory)


def _port(port: int) -> int:
    if not 0 <= port < 2**16:
        raise UserError(f"expected a port between 0 and 65535, got {port}")
    return port


@contextlib.contextmanager
def _bound(options: Options) -> Iterator[socket.socket]:
    # Bound before the models load, so that a port in use is reported at once; it listens once they serve.
    host, port = options.host, _port(options.rest_port)
    if port and port == options.grpc_port:
        raise UserError(f"expected two ports, got {port} for both: choose another `rest_port` or `grpc_port`")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named; without it an answer waits 40 ms.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with _port_errors(options):
            listener.bind((host, port))
        yield listener


@contextlib.contextmanager
def _port_errors(options: Options) -> Iterator[None]:
    try:
        yield
    except socket.gaierror as error:
        raise UserError(
            f"cannot listen on {options.host} ({error.strerror}): choose another `host`"
        ) from None
    except OSError as error:
        raise UserError(
            f"cannot listen on {options.host}:{options.rest_port} ({error.strerror}): choose another "
            "`rest_port`, or `host`"
        ) from None


@contextlib.contextmanager
def _opened(log: str | None) -> Iterator[IO[str] | None]:
    if log is None or log == "-":
        yield None if log is None else sys.stderr
        return
    try:
        file = open(log, "a")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise UserError(f"cannot write to {log} ({error.strerror}): choose another `access_log`") from None
    try:
        yield file
    finally:
        with contextlib.suppress(OSError):  # a full disk was already reported
            file.close()


def _announce(models: Models, host: str, rest_port: int, grpc_port: int, *, open_page: bool) -> None:
    shown = f"[{host}]" if ":" in host else host
    for name, numbers in models.available().items():
        version = "version" if len(numbers) == 1 else "versions"
        listed = ", ".join(map(str, numbers))
        report(
            f"{NAME}: model {name!r} {version} {listed} at http://{shown}:{rest_port}/v1/models/{name}",
            sys.stdout,
        )
    page = f"http://{'127.0.0.1' if host == '0.0.0.0' else shown}:{rest_port}/"
    report(f"{NAME}: page at {page}", sys.stdout)
    if open_page and not webbrowser.open(page):
        report(f"{NAME}: no browser found, open {page} yourself")
    report(f"{NAME}: gRPC at {shown}:{grpc_port} (stop with Ctrl-C)", sys.stdout)
