"""An S3 server on this machine, a bucket on it, and a slow link to it."""

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import fsspec
import pytest
from moto.server import ThreadedMotoServer

from keras_googlenet.storage import cache
from keras_googlenet.storage.cache import CACHE_VARIABLE

CHUNK = 16 * 1024


@contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """Serve S3 on a free port; yields the environment by which clients find it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield environment(server.get_host_and_port()[1])
    finally:
        server.stop()


def environment(port: int) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }


@contextmanager
def slow_link(to: int, bytes_per_second: float) -> Iterator[int]:
    """A proxy of a port, so slow on each connection; yields its own port."""

    def copy(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK):
                target.sendall(data)
                time.sleep(len(data) / bytes_per_second)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with suppress(OSError):  # the listener's end
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", to))
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=copy, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="session")
def s3():
    """The environment by which clients find the server."""
    with s3_server() as environment:
        yield environment


@pytest.fixture
def bucket(s3, environment, tmp_path):
    """The address of a new bucket; this process's environment leads to its server and to an empty cache."""
    os.environ.update(s3, **{CACHE_VARIABLE: str(tmp_path / "cache")})
    fsspec.filesystem("s3").clear_instance_cache()
    cache._DATA.clear()
    address = f"s3://bucket-{uuid.uuid4().hex[:8]}"
    fsspec.filesystem("s3").mkdir(address)
    yield address
    fsspec.filesystem("s3").clear_instance_cache()


@pytest.fixture
def fresh_machine(tmp_path):
    """The function that gives this process the empty cache of another machine."""

    def change():
        os.environ[CACHE_VARIABLE] = str(tmp_path / f"cache-{uuid.uuid4().hex[:8]}")
        cache._DATA.clear()

    return change
