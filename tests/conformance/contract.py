"""What every test of the contract says the same way."""

import base64
import json
from typing import Any

import httpx


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
