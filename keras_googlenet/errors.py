"""The exceptions that a command reports in one line, and how it does so."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from keras_googlenet.text import nearest, say

P = ParamSpec("P")
R = TypeVar("R")


class UserError(ValueError):
    """A user error, reported in one line: what was expected, what came, what to do.

    The message has Python arguments in backticks; the command line shows them as its options.
    `reported` prints it after `error: ` and exits with 2.
    """


class Interrupted(Exception):  # noqa: N818 (like KeyboardInterrupt, it is nobody's error)
    """A signal ended the work at a point from which it can be resumed.

    `reported` prints it in one line and exits with 128 plus the signal's number, as shells do.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


def checked_names(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function report an unknown keyword with the argument it may be a misspelling of."""
    known = inspect.signature(function).parameters

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in known:
                meant = nearest(name, known)
                raise TypeError(
                    f"{function.__qualname__.removesuffix('.__init__')}() has no argument {name!r}"
                    + (f"; did you mean {meant!r}?" if meant else "")
                )
        return function(*args, **kwargs)

    return call


def checked_fields(cls: type[R]) -> type[R]:
    """`checked_names` for a class's constructor."""
    setattr(cls, "__init__", checked_names(cls.__init__))  # noqa: B010 (mypy)
    return cls


@contextmanager
def reported(*others: type[Exception]) -> Iterator[None]:
    """Run a command: report user errors, and the file system's, in one line on standard error, and exit.

    The exit code is 2 for an error, and 128 plus its number for a signal. All else is a traceback.

    Args:
        others: Further exceptions to report in the same way, such as a command line parser's.
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
