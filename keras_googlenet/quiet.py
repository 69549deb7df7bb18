"""Keep TensorFlow's log and C libraries' messages off the terminal; choose fast kernels for commands."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import platform
import sys
import traceback
import warnings
from collections.abc import Iterator
from types import TracebackType

from keras_googlenet.text import say

X86 = ("x86_64", "AMD64")
LOG_LEVEL, OFF = "TF_CPP_MIN_LOG_LEVEL", "3"


def set_up() -> None:
    """Choose oneDNN's kernels, and silence warnings and TensorFlow's log, unless the user chose otherwise."""
    # TensorFlow takes them by itself only with AVX-512 VNNI or AMX; with AVX2 they halve a step's time.
    if platform.machine() in X86:
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault(LOG_LEVEL, OFF)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    sys.excepthook = _printable_traceback


def _printable_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """A traceback also contains names, which must not control the terminal."""
    say("".join(traceback.format_exception(kind, error, trace)), end="", file=sys.stderr)


@contextlib.contextmanager
def silenced_libraries() -> Iterator[None]:
    """Drop what libraries in C, such as libjpeg, write to standard error; Python's own still gets there."""
    if sys.stderr is None:  # a process without standard error
        yield
        return
    terminal = os.fdopen(os.dup(2), "w", buffering=1)  # left open: loggers made meanwhile may keep it
    with _dropped_stderr(), contextlib.redirect_stderr(terminal):
        yield


def import_tensorflow() -> None:
    """Import TensorFlow, if installed, without its log."""
    if importlib.util.find_spec("tensorflow") is None:
        return
    with without_log():
        import tensorflow as tf
    tf.get_logger().setLevel("ERROR")


@contextlib.contextmanager
def without_log() -> Iterator[None]:
    """Turn off TensorFlow's log, and drop what its first import prints before the level applies.

    A `TF_CPP_MIN_LOG_LEVEL` that the user has set applies instead.
    """
    if os.environ.setdefault(LOG_LEVEL, OFF) != OFF or "tensorflow" in sys.modules:
        yield
        return
    with _dropped_stderr():
        yield
    if "tensorflow" in sys.modules:  # whose Python log begins at INFO in a notebook
        logging.getLogger("tensorflow").setLevel(logging.ERROR)


@contextlib.contextmanager
def _dropped_stderr() -> Iterator[None]:
    if sys.stderr is None:  # a process without standard error
        yield
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
