"""Errors of requests: a canonical code and a message, for either protocol."""

from __future__ import annotations

import tensorflow as tf
from tensorflow.core.protobuf import error_codes_pb2 as code

MAX_MESSAGE = 1024  # characters; TensorFlow Serving cuts its messages there

Codes = tuple[tuple[type[BaseException], int], ...]

# What Python's exceptions mean in a request; the first that fits.
CODES: Codes = (
    (RecursionError, code.INVALID_ARGUMENT),  # values nested too deep
    (MemoryError, code.RESOURCE_EXHAUSTED),
    (ValueError, code.INVALID_ARGUMENT),
)
# And while a version loads.
LOADING_CODES: Codes = (
    (FileNotFoundError, code.NOT_FOUND),
    (PermissionError, code.PERMISSION_DENIED),
    (OSError, code.NOT_FOUND),  # the loader's word for a folder without a SavedModel
    (RecursionError, code.INTERNAL),
    (RuntimeError, code.NOT_FOUND),  # the loader's word for a SavedModel without the `serve` tag
    *CODES,
)


class StatusError(Exception):
    """A request or a load that failed.

    Args:
        code: A canonical code, of `tensorflow.error.Code`.
        message: What went wrong, in TensorFlow Serving's words if it has any; cut at 1,024 characters.
    """

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        self.message = message[:MAX_MESSAGE]
        super().__init__(self.message)

    @classmethod
    def of(cls, error: BaseException, codes: Codes = CODES) -> StatusError:
        """An exception as a `StatusError`; INTERNAL where its kind says nothing."""
        if isinstance(error, StatusError):
            return error
        if isinstance(error, tf.errors.OpError):
            return cls(error.error_code, error.message)
        for kind, value in codes:
            if isinstance(error, kind):
                return cls(value, str(error))
        return cls(code.INTERNAL, f"{type(error).__name__}: {error}")


def invalid(message: str) -> StatusError:
    """An INVALID_ARGUMENT error."""
    return StatusError(code.INVALID_ARGUMENT, message)
