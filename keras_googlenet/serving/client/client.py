"""A client of a model behind TensorFlow Serving, or of one in this process."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_googlenet.errors import UserError
from keras_googlenet.serving.client import address, answers
from keras_googlenet.serving.client.answers import BATCH, Failure, Item, Prediction, Run
from keras_googlenet.serving.client.images import Image
from keras_googlenet.serving.client.rest import RestModel
from keras_googlenet.serving.client.retries import PASSING, Deadline, ServingError, with_retries

if TYPE_CHECKING:
    from keras_googlenet.serving.client.rpc import GrpcModel

__all__ = ["Client", "Prediction", "ServingError", "VersionStatus"]

TIMEOUT_SECONDS = 60.0
RETRIES = 4
POLL_SECONDS = 0.5  # between two questions whether a model is ready


@dataclass(frozen=True)
class VersionStatus:
    """One version of a served model.

    Attributes:
        version: Its number.
        state: `START`, `LOADING`, `AVAILABLE`, `UNLOADING` or `END`.
        error: Why it did not load; empty if it loaded.
    """

    version: int
    state: str
    error: str


class Client:
    """A model behind TensorFlow Serving, over REST or gRPC.

    Threads may share one. It keeps its connections open; close it, or use it as a context manager.

    Args:
        url: The model's URL, such as `http://host:8501/v1/models/googlenet`, or the server's,
            `http://host:8501`, and `model`. `grpc://host:8500` asks over gRPC, `https://` and `grpcs://` over
            TLS. Over gRPC TensorFlow is imported; over REST it is not.
        model: The model's name, if it is not part of the URL.
        version: The version to ask; by default the latest.
        label: The version to ask, by its label, such as `stable`.
        timeout: Time limit of a call in seconds, retries included.
        retries: Number of retries if the server is busy or cannot be reached
            (`RESOURCE_EXHAUSTED`, `UNAVAILABLE`: 429, 502 and 503 over REST).
        batch_size: Maximum number of images per request.
        ca: A PEM file of the certificates to trust; by default the system's.

    Raises:
        UserError: The URL is not a model's, gRPC's packages are missing, or an argument is invalid.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float = TIMEOUT_SECONDS,
        retries: int = RETRIES,
        batch_size: int = BATCH,
        ca: str | Path | None = None,
    ) -> None:
        if not 0 < timeout < math.inf or retries < 0 or batch_size < 1:
            raise UserError(
                "expected `timeout` above 0 and finite, `retries` of 0 or more and `batch_size` of 1 or "
                f"more; received timeout={timeout}, retries={retries}, batch_size={batch_size}"
            )
        self.address = address.parse(url, model=model, version=version, label=label)
        self.timeout = timeout
        self.retries = retries
        self.batch_size = batch_size
        self._closed = False
        ca = Path(ca) if ca is not None else None
        if ca is not None and not ca.is_file():
            raise UserError(f"no file of certificates at {ca}")
        if self.address.scheme in ("grpc", "grpcs"):
            from keras_googlenet.serving.client.rpc import GrpcModel

            self._model: RestModel | GrpcModel = GrpcModel(self.address, ca)
        else:
            self._model = RestModel(self.address, ca)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        self._closed = True
        self._model.close()

    def predict(self, images: Image | Iterable[Image]) -> list[Prediction]:
        """Classify images.

        Args:
            images: One image or several. Each is a file's path, the bytes of a file, or pixels as in OpenCV:
                uint8 (height, width, 3) in the order blue, green, red, or gray, (height, width) or (height,
                width, 1). JPEG and PNG files are sent unchanged. Pixels and other formats (the first frame of
                an animation) are sent as PNG, which changes no pixel; those files are first turned upright by
                their EXIF.

        Returns:
            A prediction for each image, in order.

        Raises:
            UserError: An image cannot be read.
            ServingError: The server gave no answer, or refused an image, which is named.
        """
        run = self._run(Deadline(self.timeout))
        return answers.predictions(run, images, self.batch_size, source=str(self.address))

    def features(self, images: Image | Iterable[Image]) -> np.ndarray:
        """The network's features of images, as its classifier sees them.

        Args:
            images: As for `predict`.

        Returns:
            float32 (images, features), 1024 of them in the paper's network.

        Raises:
            UserError: An image cannot be read.
            ServingError: The server gave no answer, or refused an image, which is named.
        """
        run = self._run(Deadline(self.timeout))
        return answers.features(run, images, self.batch_size, source=str(self.address))

    def labels(self) -> list[str]:
        """The class names in the order of `Prediction.probabilities`, all of one version.

        Raises:
            ServingError: The server gave no answer, or the model has no signature `labels`.
        """
        deadline = Deadline(self.timeout)
        metadata = self._retried(lambda: self._open().metadata(deadline), deadline)
        try:
            version = int(metadata["model_spec"]["version"])
            signatures = metadata["metadata"]["signature_def"]["signature_def"]
            shape = signatures["serving_default"]["outputs"]["probabilities"]["tensor_shape"]
            count = int(shape["dim"][-1]["size"])
        except (KeyError, IndexError, TypeError, ValueError):
            raise ServingError(
                "UNKNOWN", f"{self.address} is not from this package: no `probabilities`"
            ) from None
        if "labels" not in signatures:
            raise ServingError("UNIMPLEMENTED", f"{self.address} has no signature `labels`: export it again")
        names: list[str] = []
        for start in range(0, count, self.batch_size):  # a server that batches takes no more at once
            indices = list(range(start, min(start + self.batch_size, count)))
            ask = partial(self._open().run, "labels", "indices", indices, deadline, version)
            outputs = self._retried(ask, deadline)
            names += answers.checked(
                outputs, "labels", len(indices), answers.TEXT, str(self.address), ndim=1
            ).tolist()
        return names

    def metadata(self) -> dict[str, Any]:
        """The model's name, version and signatures: the body of REST's `/metadata`, over gRPC too.

        Raises:
            ServingError: The server gave no answer, or the version is not loaded: `NOT_FOUND`.
        """
        deadline = Deadline(self.timeout)
        return self._retried(lambda: self._open().metadata(deadline), deadline)

    def status(self) -> list[VersionStatus]:
        """The versions that the server lists, in its order.

        Raises:
            ServingError: The server gave no answer, or has no such model.
        """
        deadline = Deadline(self.timeout)
        rows = self._retried(lambda: self._open().status(deadline), deadline)
        try:
            return [
                VersionStatus(
                    int(row["version"]), row["state"], row.get("status", {}).get("error_message", "")
                )
                for row in rows
            ]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ServingError("UNKNOWN", f"{self.address} lists no versions as a server does") from None

    def wait_until_ready(self, timeout: float = TIMEOUT_SECONDS) -> None:
        """Wait until the server responds and the version is loaded.

        Args:
            timeout: Seconds to wait.

        Raises:
            ServingError: `DEADLINE_EXCEEDED` if it is not ready in time; another code if it never will be.
        """
        if not 0 <= timeout < math.inf:
            raise UserError(f"expected `timeout` of 0 or more seconds, and finite; received {timeout}")
        deadline = Deadline(timeout)
        # A label is unknown, not absent, until its version is loaded.
        unready = {*PASSING, "NOT_FOUND", *(["INVALID_ARGUMENT"] if self.address.label else [])}
        with_retries(
            lambda: self._open().metadata(deadline),
            deadline=deadline,
            retries=None,
            codes=unready,
            longest_wait=POLL_SECONDS,
        )

    def each(self, items: Iterable[Item]) -> Iterator[Prediction | Failure]:
        """Classify any number of images; `timeout` applies to each batch.

        Args:
            items: The images.

        Raises:
            ServingError: The server does not respond, or rejects every image.
        """

        def run(signature: str, encoded: Sequence[bytes]) -> dict[str, np.ndarray]:
            return self._run(Deadline(self.timeout))(signature, encoded)

        return answers.each(run, items, self.batch_size, source=str(self.address))

    def _run(self, deadline: Deadline) -> Run:
        return lambda signature, encoded: self._retried(
            lambda: self._open().run(signature, "images", encoded, deadline), deadline
        )

    def _open(self) -> RestModel | GrpcModel:
        if self._closed:
            raise UserError(f"the client of {self.address} is closed: make a new one")
        return self._model

    def _retried(self, attempt: Callable[[], Any], deadline: Deadline) -> Any:
        return with_retries(attempt, deadline=deadline, retries=self.retries)
