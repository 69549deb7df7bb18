"""Keep notes for developers off the terminal."""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings


def quieten() -> None:
    """Silence warnings and TensorFlow's log, unless the user asked for them."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def import_tensorflow() -> None:
    """Import TensorFlow, if it is here, without the notes that it prints before its log level holds."""
    if importlib.util.find_spec("tensorflow") is None:
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        import tensorflow as tf
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
    tf.get_logger().setLevel("ERROR")
