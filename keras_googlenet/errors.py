"""The exceptions that are reported to a user in one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from keras_googlenet.text import say


class UserError(ValueError):
    """A user error, reported in one line: what was expected, what came, what to do."""


class Interrupted(Exception):  # noqa: N818 (like KeyboardInterrupt, it is nobody's error)
    """A signal ended the work, at a point from which it can go on.

    The command line prints its one line and exits with 128 and the signal's number, as shells do.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


@contextmanager
def reported(*others: type[Exception]) -> Iterator[None]:
    """Report user errors, and errors of the file system, as one line on standard error; exit with code 2.

    Args:
        others: Further exceptions to report so.
    """
    kinds: tuple[type[Exception], ...] = (UserError, OSError, *others)
    try:
        yield
    except kinds as error:
        say(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
