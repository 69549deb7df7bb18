"""Predict requests over REST, and what the default signature answers."""

import json

import pytest

from conformance.contract import b64, rows


@pytest.fixture(scope="session")
def predict(http, path):
    """Send a body to `:predict`."""

    def predict(body, at=None):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return http.post(f"{at or path}:predict", content=content)

    return predict


@pytest.fixture(scope="session")
def answers(predict, pngs):
    """What the default signature says of the two images, by rows."""
    return rows(predict({"instances": [b64(png) for png in pngs]}))
