"""A model behind TensorFlow Serving's gRPC interface. The official stubs import TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_googlenet.errors import UserError
from keras_googlenet.serving.client.address import Address
from keras_googlenet.serving.client.retries import Deadline, ServingError, unreachable

try:
    import grpc
    import tensorflow as tf
    from google.protobuf import json_format
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_service_pb2_grpc,
    )
except ModuleNotFoundError as error:
    raise UserError(f'gRPC needs {error.name}: pip install "keras-googlenet[serving]"') from None

OPTIONS = [
    ("grpc.max_receive_message_length", -1),  # the default, 4 MiB, is less than a large batch's features
    ("grpc.initial_reconnect_backoff_ms", 100),  # by default a second, in which our tries would all fail
    ("grpc.max_reconnect_backoff_ms", 5000),
]

FULL = "queue"  # in TensorFlow Serving's words for a full one
TOO_LARGE = "message larger than max"  # gRPC's own words; its code is that of a server without memory


class GrpcModel:
    """Sends requests over one channel.

    Args:
        address: The model's.
        ca: For `grpcs`, a PEM file of the certificates to trust; by default gRPC's own.
    """

    def __init__(self, address: Address, ca: Path | None = None) -> None:
        self.address = address
        if address.scheme == "grpcs":
            credentials = grpc.ssl_channel_credentials(ca.read_bytes() if ca else None)
            self._channel = grpc.secure_channel(address.host, credentials, OPTIONS)
        else:
            self._channel = grpc.insecure_channel(address.host, OPTIONS)
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._model = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def run(
        self,
        signature: str,
        name: str,
        values: Sequence[bytes] | Sequence[int],
        deadline: Deadline,
        version: int | None = None,
    ) -> dict[str, Any]:
        """Run a signature of one input; returns its outputs by name."""
        request = predict_pb2.PredictRequest(model_spec=self._spec(self.address.pinned(version), signature))
        dtype = tf.string if isinstance(values[0], bytes) else tf.int64
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values, dtype))
        answer = self._ask(self._prediction.Predict, request, deadline)
        return {key: _array(tensor) for key, tensor in answer.outputs.items()}

    def metadata(self, deadline: Deadline) -> dict[str, Any]:
        """The answer to a model metadata request, in its REST form."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=self._spec(self.address), metadata_field=["signature_def"]
        )
        answer = _json(self._ask(self._prediction.GetModelMetadata, request, deadline))
        answer["metadata"].get("signature_def", {}).pop("@type", None)
        return answer

    def status(self, deadline: Deadline) -> list[dict[str, Any]]:
        """The versions and their states."""
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=self._spec(self.address))
        versions = _json(self._ask(self._model.GetModelStatus, request, deadline))["model_version_status"]
        return list(versions)

    def _spec(self, address: Address, signature: str = "") -> Any:
        spec = model_pb2.ModelSpec(name=address.model, signature_name=signature)
        if address.version is not None:
            spec.version.value = address.version
        elif address.label is not None:
            spec.version_label = address.label
        return spec

    def _ask(self, method: Callable[..., Any], request: Any, deadline: Deadline) -> Any:
        try:
            return method(request, timeout=deadline.left())
        except grpc.RpcError as failure:
            code, details = failure.code().name, failure.details()
            if code == "UNAVAILABLE" and FULL not in str(details):
                raise unreachable(self.address, str(details)) from None
            message = f"{self.address} answered {code}: {details}"
            if code == "DEADLINE_EXCEEDED":
                message = f"no answer from {self.address} in {deadline.seconds:g} s"
            too_large = code == "RESOURCE_EXHAUSTED" and TOO_LARGE in str(details)
            raise ServingError(code, message, lasting=too_large) from None


def _array(tensor: Any) -> np.ndarray:
    array = tf.make_ndarray(tensor)
    if array.dtype == object:
        return np.char.decode(array.astype(bytes), errors="replace")
    return array


def _json(message: Any) -> dict[str, Any]:
    """A message as TensorFlow Serving writes it over REST."""
    answer: dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return answer
