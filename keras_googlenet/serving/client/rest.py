"""A model behind TensorFlow Serving's REST interface."""

from __future__ import annotations

import base64
import email.utils
import json
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from keras_googlenet.errors import UserError
from keras_googlenet.serving.client.address import Address
from keras_googlenet.serving.client.retries import Deadline, ServingError, unreachable

# The canonical codes of HTTP statuses, as sent by TensorFlow Serving and by proxies in front of it.
CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    413: "RESOURCE_EXHAUSTED",  # as gRPC calls a message that is too large
    429: "RESOURCE_EXHAUSTED",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

MOST_OF_A_MESSAGE = 200  # characters that are passed on


class RestModel:
    """Sends requests over one pool of HTTP connections, which are kept open.

    Args:
        address: The model's.
        ca: A PEM file of the certificates to trust; by default the system's.
    """

    def __init__(self, address: Address, ca: Path | None = None) -> None:
        self.address = address
        try:
            self._http = httpx.Client(verify=ssl.create_default_context(cafile=ca) if ca else True)
        except OSError as error:  # an ssl.SSLError is one
            raise UserError(f"expected a PEM file of certificates at {ca}: {error}") from None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def run(
        self,
        signature: str,
        name: str,
        values: Sequence[bytes] | Sequence[int],
        deadline: Deadline,
        version: int | None = None,
    ) -> dict[str, Any]:
        """Run a signature of one input; returns its outputs by name, or one output under ""."""
        column = [
            {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
            for value in values
        ]
        body = json.dumps({"signature_name": signature, "inputs": {name: column}}).encode()
        url = f"{self.address.pinned(version)}:predict"
        outputs = self._ask("POST", url, deadline, body).get("outputs")
        outputs = outputs if isinstance(outputs, dict) else {"": outputs}
        return {key: _array(value) for key, value in outputs.items()}

    def metadata(self, deadline: Deadline) -> dict[str, Any]:
        """The answer to a model metadata request."""
        return self._ask("GET", f"{self.address}/metadata", deadline)

    def status(self, deadline: Deadline) -> list[dict[str, Any]]:
        """The versions and their states."""
        versions: list[dict[str, Any]] = self._ask("GET", str(self.address), deadline).get(
            "model_version_status", []
        )
        return versions

    def _ask(self, method: str, url: str, deadline: Deadline, body: bytes | None = None) -> dict[str, Any]:
        phases = ("connect", "read", "write", "pool")
        timeout: dict[str, float] = {}

        def left(*_: Any) -> None:
            # httpx times out each phase separately; here they share one deadline.
            timeout.update(dict.fromkeys(phases, max(deadline.left(), 1e-3)))

        left()
        extensions = {"timeout": timeout, "trace": left}
        try:
            with self._http.stream(method, url, content=body, extensions=extensions) as response:
                content = b""
                for chunk in response.iter_bytes():
                    content += chunk
                    if not deadline.left():
                        raise httpx.ReadTimeout("the answer came too slowly")
        except httpx.TimeoutException:
            raise ServingError(
                "DEADLINE_EXCEEDED", f"no answer from {self.address} in {deadline.seconds:g} s"
            ) from None
        except httpx.TransportError as error:
            raise unreachable(self.address, str(error)) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ServingError("UNKNOWN", f"cannot ask {self.address}: {error}") from None
        return self._object(response, content)

    def _object(self, response: httpx.Response, content: bytes) -> dict[str, Any]:
        status = response.status_code
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        if isinstance(answer, dict) and status == httpx.codes.OK:
            return answer
        if isinstance(answer, dict) and "error" in answer:
            text = str(answer["error"])
        else:
            text = content.decode(errors="replace")
        message = f"{self.address} answered {status}: {' '.join(text.split())[:MOST_OF_A_MESSAGE]}"
        raise ServingError(
            CODES.get(status, "UNKNOWN"),
            message,
            seconds_to_wait(response.headers.get("retry-after")),
            lasting=status == httpx.codes.REQUEST_ENTITY_TOO_LARGE,
        )


def _array(value: Any) -> np.ndarray:
    try:
        return np.array(value)
    except ValueError:  # ragged
        return np.array(None)


def seconds_to_wait(retry_after: str | None) -> float:
    """A `Retry-After` header, seconds or a date, in seconds from now."""
    if not retry_after:
        return 0
    try:
        if retry_after.isascii() and retry_after.isdigit():
            return float(retry_after)
        moment = email.utils.parsedate_to_datetime(retry_after)
    except (ValueError, OverflowError):
        return 0
    if moment.tzinfo is None:  # HTTP's dates are UTC, whether they say so or not
        moment = moment.replace(tzinfo=UTC)
    return max((moment - datetime.now(UTC)).total_seconds(), 0)
