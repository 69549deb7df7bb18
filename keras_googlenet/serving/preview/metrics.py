"""Prometheus metrics under TensorFlow Serving's names, measured by the preview.

Sources of the names, labels, buckets and of the text: TensorFlow Serving's `servables/tensorflow/util.cc`,
`batching_session.cc` and `prometheus_exporter.cc`, TensorFlow's `cc/saved_model/loader.cc`. Prometheus's own
client cannot write these: it appends `_total` to a counter's name. Times are in microseconds.
"""

from __future__ import annotations

import bisect
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tensorflow.core.protobuf import error_codes_pb2 as code

from keras_googlenet.errors import UserError
from keras_googlenet.serving.preview import text_formats
from keras_googlenet.serving.preview.record import Entry

DEFAULT_PATH = "/monitoring/prometheus/metrics"
INFERENCE = ("Predict", "Classify", "Regress", "MultiInference")


def read_path(file: Path) -> str | None:
    """The path that a `MonitoringConfig` in a file names; `None` where it does not enable Prometheus.

    Raises:
        UserError: The file cannot be read, or the path is invalid.
    """
    config = text_formats.read(file, "MonitoringConfig").prometheus_config
    path = config.path or DEFAULT_PATH
    if not path.startswith("/"):
        raise UserError(f"expected a path that starts with / in {file}, got {path}")
    return path if config.enable else None


@dataclass
class Counter:
    """A number that grows, for each combination of labels."""

    name: str
    labels: tuple[str, ...]
    cells: dict[tuple[str, ...], float] = field(default_factory=dict)

    def add(self, values: tuple[str, ...], amount: float = 1) -> None:
        """Count on."""
        self.cells[values] = self.cells.get(values, 0) + amount

    def lines(self) -> Iterator[str]:
        """Its part of the text."""
        yield f"# TYPE {self.name} counter"
        for values, total in self.cells.items():
            yield f"{self.name}{_braces(self.labels, values)} {total:.0f}"


@dataclass
class Histogram:
    """A distribution, for each combination of labels.

    Attributes:
        buckets: Upper bounds, ascending; the last bucket is without one.
    """

    name: str
    labels: tuple[str, ...]
    buckets: Sequence[float]
    cells: dict[tuple[str, ...], tuple[list[int], list[float]]] = field(default_factory=dict)

    def add(self, values: tuple[str, ...], amount: float) -> None:
        """Count a value."""
        counts, total = self.cells.setdefault(values, ([0] * (len(self.buckets) + 1), [0.0]))
        counts[bisect.bisect_left(self.buckets, amount)] += 1
        total[0] += amount

    def lines(self) -> Iterator[str]:
        """Its part of the text."""
        yield f"# TYPE {self.name} histogram"
        bounds = [f"{bound:g}" for bound in self.buckets] + ["+Inf"]
        for values, (counts, total) in self.cells.items():
            for bound, count in zip(bounds, itertools.accumulate(counts), strict=True):
                yield f"{self.name}_bucket{_braces((*self.labels, 'le'), (*values, bound))} {count}"
            yield f"{self.name}_sum{_braces(self.labels, values)} {total[0]:.10g}"
            yield f"{self.name}_count{_braces(self.labels, values)} {sum(counts)}"


class Metrics:
    """What the preview measures.

    Args:
        serves: Whether a model of this name is served; requests for any other are not counted, so that
            clients cannot fill the memory with names.
    """

    def __init__(self, serves: Callable[[str], bool]) -> None:
        self._serves = serves
        self._lock = threading.Lock()
        latency = _exponential(10, 1.8, 33)
        serving, loader = ":tensorflow:serving:", ":tensorflow:cc:saved_model:"
        self.requests = Counter(f"{serving}request_count", ("model_name", "status"))
        self.request_latency = Histogram(
            f"{serving}request_latency", ("model_name", "API", "entrypoint"), latency
        )
        self.runtime_latency = Histogram(
            f"{serving}runtime_latency", ("model_name", "API", "runtime"), latency
        )
        self.queuing_latency = Histogram(
            f"{serving}batching_session:queuing_latency", ("thread_pool_name",), _exponential(100, 1.2, 52)
        )
        self.load_attempts = Counter(f"{loader}load_attempt_count", ("model_path", "status"))
        self.load_latency = Counter(f"{loader}load_latency", ("model_path",))

    def answered(self, entry: Entry) -> None:
        """Count an answered request."""
        if entry.api not in INFERENCE or not self._serves(entry.model):
            return
        with self._lock:
            self.requests.add((entry.model, code.Code.Name(entry.code)))
            if entry.code != code.OK:
                return
            api = entry.api.lower() if entry.protocol == "REST" else entry.api  # as Serving has them
            self.request_latency.add((entry.model, api, entry.protocol), entry.seconds * 1e6)
            if entry.runtime is not None:
                self.runtime_latency.add((entry.model, entry.api, "TF1"), entry.runtime * 1e6)

    def waited(self, thread_pool_name: str, seconds: float) -> None:
        """Count a request's wait for its batch."""
        with self._lock:
            self.queuing_latency.add((thread_pool_name,), seconds * 1e6)

    def loaded(self, folder: Path, seconds: float, *, failed: bool) -> None:
        """Count an attempt to load a version."""
        with self._lock:
            self.load_attempts.add((str(folder), "fail" if failed else "success"))
            if not failed:
                self.load_latency.add((str(folder),), seconds * 1e6)

    def text(self) -> bytes:
        """All metrics in Prometheus's text format."""
        with self._lock:
            metrics: Iterable[Counter | Histogram] = (
                metric for metric in vars(self).values() if isinstance(metric, Counter | Histogram)
            )
            return "".join(f"{line}\n" for metric in metrics for line in metric.lines()).encode()


def _exponential(scale: float, factor: float, count: int) -> list[float]:
    return [scale * factor**power for power in range(count)]


def _braces(labels: Sequence[str], values: Sequence[str]) -> str:
    escaped = (value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"") for value in values)
    return "{" + ",".join(f'{label}="{value}"' for label, value in zip(labels, escaped, strict=True)) + "}"
