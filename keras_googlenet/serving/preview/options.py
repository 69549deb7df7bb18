"""How to serve. Imports no server: the command line reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from keras_googlenet.errors import UserError


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
    """Models, version policies and labels, as TensorFlow Serving's own flag takes them. Of each base_path the
    last component counts: a folder in the directory."""

    monitoring_config_file: Path | None = None
    """Where to answer with Prometheus metrics, on the REST port."""

    enable_batching: bool = False
    """Run concurrent requests as one batch."""

    batching_parameters_file: Path | None = None
    """How large batches get and how long they wait."""

    tensorflow_intra_op_parallelism: int = 0
    """Threads that share one operation of the network; 0 for one a core."""

    tensorflow_inter_op_parallelism: int = 0
    """Operations at a time; 0 for one a core."""

    poll_seconds: float = 1.0
    """Seconds between two looks for new versions; 0 for none after the first."""

    rest_timeout_ms: int = 30_000
    """Milliseconds that a request may compute, and wait for its batch; 0 for no bound. An operation of the
    network that has begun is finished first, as in TensorFlow Serving."""

    rest_api_enable_cors_support: bool = False
    """Let pages of any site read the REST interface's answers."""

    max_rows: int = 64
    """Rows (images, examples) that a request may have, and the numbers that its JSON may hold. Checked before
    batching, where max_batch_size applies too."""

    max_request_bytes: int = 2**27
    """Bytes that a request may have, as sent and as decompressed. Checked before batching."""

    access_log: str | None = None
    """Write a line of JSON for each request to this file; `--access-log=-` for standard error."""

    def check(self) -> None:
        """Refuse numbers that would make it poll without a pause, or answer nothing.

        Raises:
            UserError: One is out of its range.
        """
        for flag, value, least in (
            ("--tensorflow-intra-op-parallelism", self.tensorflow_intra_op_parallelism, 0),
            ("--tensorflow-inter-op-parallelism", self.tensorflow_inter_op_parallelism, 0),
            ("--poll-seconds", self.poll_seconds, 0),
            ("--rest-timeout-ms", self.rest_timeout_ms, 0),
            ("--max-rows", self.max_rows, 1),
            ("--max-request-bytes", self.max_request_bytes, 1),
        ):
            if not value >= least:
                raise UserError(f"expected {flag} of {least} or more, got {value}")
