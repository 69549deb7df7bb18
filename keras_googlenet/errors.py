"""The exceptions that a command reports in one line, and how it does so."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from keras_googlenet.text import say


class UserError(ValueError):
    """A user error, reported in one line: what was expected, what came, what to do.

    `reported` prints it after `error: ` and exits with 2.
    """


class Interrupted(Exception):  # noqa: N818 (like KeyboardInterrupt, it is nobody's error)
    """A signal ended the work, at a point from which it can go on.

    `reported` prints its one line and exits with 128 and the signal's number, as shells do.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


@contextmanager
def reported(*others: type[Exception]) -> Iterator[None]:
    """Run a command: report user errors, and the file system's, in one line on standard error, and exit.

    The exit code is 2 for an error, and 128 plus its number for a signal. All else is a traceback.

    Args:
        others: Further exceptions to report so, such as a command line parser's.
    """
    mistakes: tuple[type[Exception], ...] = (UserError, OSError, *others)
    try:
        yield
    except mistakes as error:
        say(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except Interrupted as stopped:
        say(stopped, file=sys.stderr)
        sys.exit(128 + stopped.signal)
    except KeyboardInterrupt:
        say("interrupted", file=sys.stderr)
        sys.exit(130)
