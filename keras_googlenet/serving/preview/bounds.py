"""Bounds on a request's size in memory, checked before anything is allocated.

A message of a few bytes can declare a tensor of any size, and parsed JSON takes up to thirty times the size
of its text. TensorFlow Serving bounds neither; the preview does.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import error_codes_pb2 as code

from keras_googlenet.serving.preview.errors import StatusError, invalid
from keras_googlenet.session import unfit_shape

MAX_MADE_BYTES = 2**28  # of a request's tensors, and of its examples with their context
STRING_BYTES = 64  # of an element of a string tensor: pointer, Python object and TensorFlow's copy
PADDING = 4  # how many times the values that were sent a tensor may hold
FREE_ELEMENTS = 1024  # a tensor this small may be padded from any number of values

# Bytes that the parser makes of each mark in JSON: of a comma a number and its place, of a bracket a list.
JSON_COSTS = ((b",", 40), (b"[", 96), (b"{", 240), (b'"', 32), (b":", 200))
NUMBER_COST, LIST_COST = JSON_COSTS[0][1], JSON_COSTS[1][1]
FREE_JSON_BYTES = 2**26  # for what no signature declares: features of examples, dimensions left open
MAX_JSON_BYTES = 2**29

MEMORY = 3 * 2**28  # of all large requests at a time
SMALL = 2**20  # requests that take less are not counted: a large one must not keep them out


class Memory:
    """The memory that all large requests share; one that does not fit is rejected at once, not queued.

    Args:
        total: Bytes.
    """

    def __init__(self, total: int = MEMORY) -> None:
        self._free, self._lock = total, threading.Lock()

    def take(self, count: int) -> None:
        """Count bytes in use.

        Raises:
            StatusError: RESOURCE_EXHAUSTED: requests in flight leave too little.
        """
        with self._lock:
            if count > self._free:
                message = "Large requests in flight leave too little memory for this one; send it again later"
                raise StatusError(code.RESOURCE_EXHAUSTED, message)
            self._free -= count

    def give(self, count: int) -> None:
        """Count bytes as free again."""
        with self._lock:
            self._free += count

    @contextlib.contextmanager
    def holding(self, count: int) -> Iterator[None]:
        """A context in which bytes are in use; small counts are not counted. Raises as `take`."""
        count = count if count > SMALL else 0
        self.take(count)
        try:
            yield
        finally:
            self.give(count)


def check_rows(name: str, rows: int, max_rows: int | None) -> None:
    """Refuse more rows than a request may have.

    Raises:
        StatusError: There are more than `max_rows`.
    """
    if max_rows is not None and rows > max_rows:
        raise invalid(f"{name}: expected at most {max_rows} rows in a request (--max-rows), got {rows}")


def check_shape(name: str, shape: Sequence[int], declared: Any) -> None:
    """Refuse a shape that the signature does not declare, as `SavedModelSession.run` does, but earlier.

    Raises:
        StatusError: They do not fit.
    """
    complaint = unfit_shape(name, shape, declared)
    if complaint:
        raise invalid(complaint)


def made_bytes(shape: Sequence[int], dtype: int) -> int:
    """Size of a tensor of a `DataType` in bytes, without the text of its strings."""
    kind = tf.as_dtype(dtype)
    return math.prod(shape) * (STRING_BYTES if kind == tf.string else max(1, kind.size or 1))


def check_made_bytes(count: int) -> None:
    """Refuse a request whose tensors or examples take too much memory.

    Raises:
        StatusError: They take more than `MAX_MADE_BYTES`.
    """
    if count > MAX_MADE_BYTES:
        limit = MAX_MADE_BYTES // 2**20
        raise invalid(f"expected a request that takes at most {limit} MiB as tensors, got {count} bytes")


def check_padding(name: str, elements: int, sent: int) -> None:
    """Refuse a tensor of many elements from few values: a TensorProto repeats its last value as needed.

    Raises:
        StatusError: It has more than `PADDING` times the values that were sent.
    """
    if elements > max(FREE_ELEMENTS, PADDING * sent):
        raise invalid(f"input {name!r}: expected a value for each of {elements} elements, got {sent} values")


def json_bytes(body: bytes) -> int:
    """An upper bound of a JSON text's size in memory, counted without parsing."""
    return sum(body.count(mark) * cost for mark, cost in JSON_COSTS)


def json_allowance(signatures: Mapping[str, Any], max_rows: int) -> int:
    """The size in memory of `max_rows` rows of the largest signature as parsed JSON, plus an allowance."""
    largest = max((_row_bytes(signature) for signature in signatures.values()), default=0)
    return min(MAX_JSON_BYTES, FREE_JSON_BYTES + max_rows * largest)


def check_json(body: bytes, signatures: Mapping[str, Any], max_rows: int | None) -> int:
    """Refuse a JSON text that needs more memory than these signatures; returns its upper bound in bytes.

    Raises:
        StatusError: It holds too many values, lists, objects or strings.
    """
    count = json_bytes(body)
    if max_rows is not None and count > json_allowance(signatures, max_rows):
        raise invalid(
            f"JSON Parse error: the body holds more values than {max_rows} rows (--max-rows) of any signature"
        )
    return count


def _row_bytes(signature: Any) -> int:
    total = 0
    for info in signature.inputs.values():
        sizes = [max(1, dim.size) for dim in info.tensor_shape.dim][1:]
        lists = sum(math.prod(sizes[:depth]) for depth in range(len(sizes) + 1))
        total += math.prod(sizes) * NUMBER_COST + lists * LIST_COST
    return total
