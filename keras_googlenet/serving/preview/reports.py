"""Log lines that may fail to be written, and threads that survive exceptions."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import IO, Any

from keras_googlenet.text import say

PAUSE_SECONDS = 0.1  # after a failed step, which may fail at once again


def report(line: str, stream: IO[str] | None = None) -> bool:
    """Print a line; returns whether that worked. A closed pipe or a full disk does not stop the server.

    A stream keeps a few kilobytes that it could not write, and writes them with the next line.

    Args:
        line: The line.
        stream: Where to print it; standard error by default.
    """
    stream = sys.stderr if stream is None else stream
    if stream is None:  # a process that was started without one
        return False
    try:
        say(line, file=stream, flush=True)
    except (OSError, ValueError):  # ValueError: the stream is closed
        return False
    return True


def supervised(work: Callable[[], Any], failed: Callable[[Exception], Any], name: str) -> threading.Thread:
    """Start a background thread that calls `work` until it returns False; an exception does not end it.

    Args:
        work: One step.
        failed: Called with the exception of a failed step.
        name: The thread's.
    """

    def run() -> None:
        while True:
            try:
                if work() is False:
                    return
            except Exception as error:
                try:
                    failed(error)
                except Exception:
                    report(f"preview: {name}: {type(error).__name__}: {error}")
                time.sleep(PAUSE_SECONDS)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
