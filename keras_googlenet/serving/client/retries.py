"""How a client handles a server that is busy, slow or unreachable: one deadline, and retries with backoff."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import TypeVar

import tenacity

from keras_googlenet.errors import UserError

# A retry may succeed: the server is unreachable or restarting, or its queue is full.
PASSING = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED"})
FIRST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 5.0

# Parts of a failed connection's message for which every retry will fail too, and what to do.
NO_TLS = ("UNAVAILABLE", "that port does not speak TLS: is it one of http:// or grpc://?")
LASTING = {
    "illegal ": ("UNAVAILABLE", "that port does not speak HTTP/1.1: is it gRPC's, grpc://?"),
    "Failed parsing HTTP/2": ("UNAVAILABLE", "that port does not speak gRPC: is it REST's, http://?"),
    "WRONG_VERSION_NUMBER": NO_TLS,
    "RECORD_LAYER_FAILURE": NO_TLS,  # the same, of another OpenSSL
    "CERTIFICATE_VERIFY_FAILED": ("UNAUTHENTICATED", "its certificate is not among those to trust"),
}

Result = TypeVar("Result")


class ServingError(UserError):
    """A served model gave no answer; the message is one line.

    Attributes:
        code: The canonical status, the same over REST and gRPC: `INVALID_ARGUMENT` for what the model
            refuses, `NOT_FOUND` for no such model or version, `UNAVAILABLE` for no server or a full queue,
            `RESOURCE_EXHAUSTED` for too large a request, `DEADLINE_EXCEEDED`, and so on; `UNKNOWN` for an
            answer that is not TensorFlow Serving's.
        retry_after: Seconds to wait before a retry, as the server asks, or 0.
        lasting: Whether a retry would fail in the same way: the port speaks another protocol (`UNAVAILABLE`),
            or the request is too large (`RESOURCE_EXHAUSTED`).
    """

    def __init__(self, code: str, message: str, retry_after: float = 0, *, lasting: bool = False) -> None:
        super().__init__(" ".join(message.split()))
        self.code = code
        self.retry_after = retry_after
        self.lasting = lasting


def unreachable(address: object, reason: str) -> ServingError:
    """The error of a connection that failed, with what to do about it."""
    message = f"cannot reach {address}: {reason}"
    for sign, (code, advice) in LASTING.items():
        if sign in reason:
            return ServingError(code, f"{message}; {advice}", lasting=True)
    return ServingError("UNAVAILABLE", f"{message}; is the server running?")


class Deadline:
    """A point in time, some seconds from now."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds until then; 0 once it is past."""
        return max(self._end - time.monotonic(), 0)


def with_retries(
    attempt: Callable[[], Result],
    *,
    deadline: Deadline,
    retries: int | None,
    codes: Collection[str] = PASSING,
    longest_wait: float = LONGEST_WAIT_SECONDS,
) -> Result:
    """Call `attempt` and retry transient errors, but never beyond the deadline.

    Args:
        attempt: The call; raises `ServingError` if it fails.
        deadline: No attempt starts after it.
        retries: Number of retries; `None` for as many as the deadline allows.
        codes: Errors to retry.
        longest_wait: Maximum wait between two attempts in seconds, unless the server asks for more. The limit
            doubles each time and the wait is drawn at random below it, so that clients do not return
            together.

    Raises:
        ServingError: The last one of `attempt`; `DEADLINE_EXCEEDED` if time ran out.
    """
    backoff = tenacity.wait_random_exponential(multiplier=FIRST_WAIT_SECONDS, max=longest_wait)

    def failure(state: tenacity.RetryCallState) -> ServingError:
        error = state.outcome and state.outcome.exception()
        assert isinstance(error, ServingError)
        return error

    def wait(state: tenacity.RetryCallState) -> float:
        return max(backoff(state), failure(state).retry_after)

    def stop(state: tenacity.RetryCallState) -> bool:
        spent = retries is not None and state.attempt_number > retries
        return spent or state.upcoming_sleep >= deadline.left()

    def give_up(state: tenacity.RetryCallState) -> Result:
        error, tries = failure(state), state.attempt_number
        if retries is None or tries <= retries:
            raise ServingError(
                "DEADLINE_EXCEEDED",
                f"no answer in {deadline.seconds:g} s, {_times(tries)} tried; the last time: {error}",
            ) from error
        if retries:
            raise ServingError(error.code, f"{error} ({_times(tries)} tried)", error.retry_after) from error
        raise error

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(
            lambda e: isinstance(e, ServingError) and e.code in codes and not e.lasting
        ),
        wait=wait,
        stop=stop,
        retry_error_callback=give_up,
    )
    return retrying(attempt)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
