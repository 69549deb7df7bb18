"""Images at `https://` addresses: downloaded over kept connections, transient errors retried."""

from __future__ import annotations

from functools import cache

import httpx

from keras_googlenet.errors import UserError
from keras_googlenet.serving.client.images import unreadable
from keras_googlenet.serving.client.rest import seconds_to_wait
from keras_googlenet.serving.client.retries import Deadline, ServingError, with_retries
from keras_googlenet.text import reason

MOST_BYTES = 64 * 2**20  # per download
TIMEOUT_SECONDS = 30.0  # without a byte
RETRIES = 3
LONGEST_SECONDS = 120.0  # of an image, with all retries: no retry starts later
TRANSIENT = {408, 429, 500, 502, 503, 504}  # HTTP statuses


def downloaded(address: str) -> bytes:
    """The content at an address.

    Raises:
        UserError: It cannot be downloaded, after retries where the error may be transient.
    """
    try:
        return with_retries(lambda: _attempt(address), deadline=Deadline(LONGEST_SECONDS), retries=RETRIES)
    except ServingError as error:
        raise UserError(unreadable(address, str(error))) from None


def _attempt(address: str) -> bytes:
    try:
        with _client().stream("GET", address) as answer:
            if answer.status_code in TRANSIENT:
                raise ServingError(
                    "UNAVAILABLE",
                    f"{answer.status_code} {answer.reason_phrase}",
                    seconds_to_wait(answer.headers.get("retry-after")),
                )
            answer.raise_for_status()
            content = bytearray()
            for chunk in answer.iter_bytes():
                content += chunk
                if len(content) > MOST_BYTES:
                    raise UserError(unreadable(address, f"it has more than {MOST_BYTES // 2**20} MiB"))
            return bytes(content)
    except (httpx.UnsupportedProtocol, httpx.HTTPStatusError, httpx.InvalidURL, UnicodeError) as error:
        raise UserError(unreadable(address, reason(error))) from None
    except httpx.HTTPError as error:  # the connection failed or ended early
        raise ServingError("UNAVAILABLE", reason(error)) from None


@cache
def _client() -> httpx.Client:
    return httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=True)
