"""Options of the preview. Imports no server: the command line reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from keras_googlenet.errors import UserError

MOST_OF_GRPC = 2**31 - 1  # bytes of a message


@dataclass(frozen=True, kw_only=True)
class Options:
    """Every field is an option of `keras-googlenet serve`."""

    rest_port: int = 8501
    """Port of the REST interface; 0 for any free one."""

    grpc_port: int = 8500
    """Port of the gRPC interface; 0 for any free one."""

    host: str = "127.0.0.1"
    """Address to listen on."""

    open: bool = False
    """Open the page in the browser."""

    model_config_file: Path | None = None
    """File of models, version policies and labels, as for TensorFlow Serving's flag. Only the last component
    of each base_path is used: a folder in DIRECTORY."""

    monitoring_config_file: Path | None = None
    """File that enables Prometheus metrics on the REST port, as for TensorFlow Serving's flag."""

    enable_batching: bool = False
    """Run concurrent requests as one batch."""

    batching_parameters_file: Path | None = None
    """File of batch sizes and timeouts, as for TensorFlow Serving's flag."""

    tensorflow_intra_op_parallelism: int = 0
    """Number of threads per operation; 0 for one per core."""

    tensorflow_inter_op_parallelism: int = 0
    """Number of operations at a time; 0 for one per core."""

    poll_seconds: float = 1.0
    """Seconds between checks for new versions; 0 to check only at the start."""

    rest_timeout_ms: int = 30_000
    """Timeout of a request in milliseconds, its wait for a batch included; 0 for none. A running operation is
    finished first, as in TensorFlow Serving."""

    rest_api_enable_cors_support: bool = False
    """Allow pages of any site to read REST responses."""

    max_rows: int = 64
    """Maximum number of rows (images, examples) in a request. Checked before batching, where max_batch_size
    applies, too."""

    max_request_bytes: int = 2**27
    """Maximum size of a request in bytes, as sent and as decompressed."""

    access_log: str | None = None
    """Append a line of JSON per request to this file; `--access-log=-` for standard error."""

    def check(self) -> None:
        """Refuse numbers with which it would poll without a pause, or could not answer.

        Raises:
            UserError: One is out of its range.
        """
        for name, least in (
            ("tensorflow_intra_op_parallelism", 0),
            ("tensorflow_inter_op_parallelism", 0),
            ("poll_seconds", 0),
            ("rest_timeout_ms", 0),
            ("max_rows", 1),
            ("max_request_bytes", 1),
        ):
            if not getattr(self, name) >= least:
                raise UserError(f"expected `{name}` to be at least {least}, got {getattr(self, name)}")
        if self.max_request_bytes > MOST_OF_GRPC:
            raise UserError(
                f"expected `max_request_bytes` to be at most {MOST_OF_GRPC}, got {self.max_request_bytes}"
            )
