"""TensorFlow Serving's batching parameters, and the file of them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keras_googlenet.errors import UserError
from keras_googlenet.serving.preview import text_formats


@dataclass(frozen=True)
class BatchingParameters:
    """TensorFlow Serving's batching parameters, with its defaults.

    Attributes:
        max_batch_size: Number of rows of a full batch, and maximum of one request.
        batch_timeout_micros: Microseconds that a batch waits for more rows.
        max_enqueued_batches: Maximum number of batches in one queue; further requests are rejected.
        num_batch_threads: Number of batches that run at the same time.
        allowed_batch_sizes: A batch is padded to the next of these, ascending; the last is `max_batch_size`.
        pad_variable_length_inputs: Pad inputs whose other dimensions differ, with their first element.
        thread_pool_name: The name in the metrics.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    thread_pool_name: str = "model_server_batch_threads"


def read_parameters(path: Path) -> BatchingParameters:
    """The parameters in a file, in protobuf's text format.

    Raises:
        UserError: The file cannot be read, or its values do not fit together.
    """
    message = text_formats.read(path, "BatchingParameters")
    values: dict[str, Any] = {}
    for descriptor, value in message.ListFields():
        listed = descriptor.name == "allowed_batch_sizes"
        values[descriptor.name] = tuple(value) if listed else getattr(value, "value", value)
    parameters = BatchingParameters(**values)
    for name in ("max_batch_size", "max_enqueued_batches", "num_batch_threads"):
        if getattr(parameters, name) < 1:
            raise UserError(f"expected {name} of 1 or more in {path}, got {getattr(parameters, name)}")
    if parameters.batch_timeout_micros < 0:
        raise UserError(
            f"expected batch_timeout_micros of 0 or more in {path}, got {parameters.batch_timeout_micros}"
        )
    sizes = parameters.allowed_batch_sizes
    if sizes and (
        sizes[-1] != parameters.max_batch_size or sizes[0] < 1 or list(sizes) != sorted(set(sizes))
    ):
        raise UserError(
            f"expected ascending allowed_batch_sizes in {path}, the last of them max_batch_size "
            f"({parameters.max_batch_size}), got {list(sizes)}"
        )
    return parameters
