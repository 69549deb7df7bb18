"""A SavedModel loaded the way TensorFlow Serving loads it. Needs TensorFlow alone, no Keras."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework.types_pb2 import DT_STRING
from tensorflow.core.protobuf.config_pb2 import CallableOptions, RunOptions
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from keras_googlenet.errors import UserError
from keras_googlenet.text import reason
from keras_googlenet.versions import MAX_WARMUP_RECORDS, WARMUP

CALLABLES = 64  # kept for each session: a signature's outputs can be asked for in any selection


class SavedModelSession:
    """A version folder in a session: its signatures by name, and a way to run them.

    Args:
        folder: The version folder.
        timeout_ms: Milliseconds after which to give up a run; 0 for never.

    Attributes:
        signature_defs: All `SignatureDef` protos of the SavedModel by name.
        signatures: Those that can be run.

    Raises:
        UserError: The folder holds no SavedModel, or a broken one; its cause is the loader's error.
    """

    def __init__(self, folder: Path, timeout_ms: int = 0) -> None:
        self._timeout_ms = timeout_ms
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        loader = tf.compat.v1.saved_model.loader
        try:
            meta_graph = loader.load(self._session, ["serve"], str(folder))
        except (OSError, RuntimeError, ValueError, tf.errors.OpError) as error:
            self._session.close()
            raise UserError(f"cannot load {folder}: {reason(error)}; export the model again") from error
        self.signature_defs: dict[str, Any] = dict(meta_graph.signature_def)
        self.signatures: dict[str, Any] = {
            name: signature
            for name, signature in self.signature_defs.items()
            if name != "__saved_model_init_op"
        }
        self._callables: dict[tuple[str, tuple[str, ...]], Any] = {}
        self._making = threading.Lock()

    def run(
        self, signature_name: str, inputs: Mapping[str, Any], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Run a signature.

        Args:
            signature_name: One of `signatures`.
            inputs: A value for each of the signature's inputs, of the dtype that it declares.
            outputs: Names of the outputs to compute; by default all.

        Returns:
            Arrays by output name.

        Raises:
            tf.errors.OpError: The session or the graph rejects the values, or the time limit is exceeded.
        """
        signature = self.signatures[signature_name]
        names = tuple(sorted(signature.outputs)) if outputs is None else tuple(outputs)
        feeds = [_checked(name, inputs[name], signature.inputs[name]) for name in sorted(signature.inputs)]
        return dict(zip(names, self._callable(signature_name, names)(*feeds), strict=True))

    def _callable(self, signature_name: str, outputs: tuple[str, ...]) -> Any:
        key = (signature_name, outputs)
        found = self._callables.get(key)
        if found is None:
            with self._making:  # a second or so each: requests that come together must not make one each
                found = self._callables.get(key)
                if found is None:
                    found = self._make_callable(signature_name, outputs)
                    if len(self._callables) >= CALLABLES:
                        del self._callables[next(iter(self._callables))]
                    self._callables[key] = found
        return found

    def _make_callable(self, signature_name: str, outputs: tuple[str, ...]) -> Any:
        # Session.run takes seven times as long per call, casts dtypes silently, and has longer messages.
        signature = self.signatures[signature_name]
        options = CallableOptions(
            feed=[signature.inputs[name].name for name in sorted(signature.inputs)],
            fetch=[signature.outputs[name].name for name in outputs],
            run_options=RunOptions(timeout_in_ms=self._timeout_ms),
        )
        return self._session._make_callable_from_options(options)

    def close(self) -> None:
        """Free the session's resources; it cannot be used afterwards."""
        self._callables.clear()
        self._session.close()
        # It frees the variables only when it is deleted, and others may still hold this object.
        del self._session


def warmup_records(folder: Path) -> Iterator[PredictionLog]:
    """A version's warm-up records. Source: TensorFlow Serving's `saved_model_warmup_util.cc`.

    Raises:
        tf.errors.InvalidArgumentError: One cannot be read, or there are too many.
    """
    path = folder / WARMUP
    if not path.is_file():
        return
    for count, record in enumerate(tf.compat.v1.io.tf_record_iterator(str(path))):
        complaint = None
        if count == MAX_WARMUP_RECORDS:
            complaint = f"Number of warmup records exceeds the maximum ({MAX_WARMUP_RECORDS}) at {path}"
        try:
            log = PredictionLog.FromString(record)
        except DecodeError:
            complaint = f"Failed to parse warmup record: record {count} of {path}"
        if complaint:
            raise tf.errors.InvalidArgumentError(None, None, complaint)
        yield log


def _checked(name: str, value: Any, declared: Any) -> np.ndarray:
    # As an array of NumPy's own bytes, trailing zeros would be lost.
    array = np.asarray(value, dtype=object if declared.dtype == DT_STRING else None)
    # The session does not check shapes, and a graph that does not either could abort the process.
    complaint = unfit_shape(name, array.shape, declared)
    if complaint:
        raise tf.errors.InvalidArgumentError(None, None, complaint)
    return array


def unfit_shape(name: str, shape: Sequence[int], declared: Any) -> str | None:
    """Why a shape does not fit; `None` if it fits.

    Args:
        name: The input's name.
        shape: The array's.
        declared: The input's `TensorInfo`.
    """
    if declared.tensor_shape.unknown_rank:
        return None
    sizes = [dim.size for dim in declared.tensor_shape.dim]
    fits = len(shape) == len(sizes) and all(
        size in (-1, actual) for size, actual in zip(sizes, shape, strict=True)
    )
    return None if fits else f"input {name!r}: expected shape {sizes}, got {list(shape)}"
