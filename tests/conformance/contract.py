"""What every test of the contract says the same way."""

import base64
import json
from typing import Any

import httpx
import numpy as np

ANSWER = {"probabilities", "classes", "scores"}


def b64(encoded: bytes) -> dict[str, str]:
    """Bytes as the REST interface takes them."""
    return {"b64": base64.b64encode(encoded).decode()}


def error(response: httpx.Response, status: int) -> str:
    """The message of a refusal, which must have this status and the protocol's form."""
    assert response.status_code == status, response.text[:300]
    body = json.loads(response.content)
    assert set(body) == {"error"}
    assert 0 < len(body["error"]) <= 1024
    return body["error"]


def answer(response: httpx.Response) -> Any:
    """What the server answers; it must not refuse."""
    assert response.status_code == 200, response.text[:300]
    assert response.headers["content-type"].startswith("application/json")
    return response.json()


def rows(response):
    assert response.status_code == 200, response.text[:300]
    assert response.headers["content-type"].startswith("application/json")
    assert set(response.json()) == {"predictions"}
    return response.json()["predictions"]


def columns(response):
    assert response.status_code == 200, response.text[:300]
    assert set(response.json()) == {"outputs"}
    return response.json()["outputs"]


def same(one, other):
    """The same classes, and figures to within float32's rounding."""
    assert set(one) == set(other) == ANSWER
    assert one["classes"] == other["classes"]
    for name in ("probabilities", "scores"):
        np.testing.assert_allclose(one[name], other[name], atol=1e-5)
