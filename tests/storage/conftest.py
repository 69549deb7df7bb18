"""A bucket on an S3 server of this machine, and an empty cache."""

import os
import uuid

import fsspec
import pytest
from storage_server import s3_server

from keras_googlenet.storage import cache
from keras_googlenet.storage.cache import CACHE_VARIABLE


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
