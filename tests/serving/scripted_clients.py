"""Clients of servers that behave as a script says, over REST and gRPC alike."""

from contextlib import ExitStack

import pytest
from scripted_server import SERVERS

from keras_googlenet.serving import Client


@pytest.fixture(params=SERVERS)
def transport(request):
    return request.param


@pytest.fixture
def connect(transport):
    """Start a server that follows a script, and return a client of it."""
    with ExitStack() as stack:

        def connect(script, model="m", **options):
            url = stack.enter_context(SERVERS[transport](script))
            return stack.enter_context(Client(url, model, **options))

        yield connect
