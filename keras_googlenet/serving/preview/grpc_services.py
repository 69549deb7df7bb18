"""TensorFlow Serving's gRPC interface: the response of each method, from bytes to bytes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tensorflow.core.protobuf import error_codes_pb2 as code
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest
from tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    SignatureDefMap,
)
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
from tensorflow_serving.apis.inference_pb2 import MultiInferenceRequest
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest, ReloadConfigResponse
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.regression_pb2 import RegressionRequest

from keras_googlenet.serving.preview import messages, proto_scan
from keras_googlenet.serving.preview.bounds import Memory
from keras_googlenet.serving.preview.errors import StatusError, invalid
from keras_googlenet.serving.preview.models import Models
from keras_googlenet.serving.preview.record import Entry, Recorder

COPIES = 4  # of a message at a time: its bytes, its fields, its arrays, TensorFlow's tensors
METADATA_FIELD = "signature_def"


class Services:
    """Serving's `PredictionService` and `ModelService`.

    Args:
        models: The models.
        reload: Serves what a `ModelServerConfig` message lists.
        recorder: Receives every request.
        memory: What large requests share.
        max_bytes: The longest message taken, once decompressed; -1 for any.
    """

    def __init__(
        self,
        models: Models,
        reload: Callable[[Any], None],
        recorder: Recorder | None = None,
        memory: Memory | None = None,
        max_bytes: int = -1,
    ) -> None:
        self.models, self.reload = models, reload
        self._recorder, self._memory = recorder or Recorder(), memory or Memory()
        self._max_bytes = max_bytes if max_bytes >= 0 else 2**31

    def answer(self, name: str, data: bytes) -> bytes:
        """The response to a request.

        Args:
            name: The method, of `METHODS`.
            data: The serialized request, perhaps compressed.

        Raises:
            StatusError: It fails, with the code and message for the client.
        """
        entry = Entry("GRPC", name, time.perf_counter(), api=name, status=None, bytes_in=len(data))
        kind, work, *arguments = METHODS[name]
        try:
            unpacked = proto_scan.unpack(data, self._max_bytes)
            with self._memory.holding(COPIES * len(unpacked)):
                response = work(self, proto_scan.parse(kind, unpacked), entry, *arguments).SerializeToString()
            entry.bytes_out = len(response)
            return response
        except Exception as caught:
            error = StatusError.of(caught)
            entry.code, entry.error = error.code, error.message
            raise error from None
        finally:
            self._recorder.record(entry)

    def infer(self, request: Any, entry: Entry, run: Any) -> Any:
        """Answer with `run`, of `messages`."""
        named = request
        if isinstance(request, MultiInferenceRequest):
            if not request.tasks:
                raise invalid("Inference request must have at least one task.")
            named = request.tasks[0]
        elif not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        entry.model = named.model_spec.name
        with self.models.use(*_servable(named.model_spec)) as handle:
            entry.version = handle.version
            start = time.perf_counter()
            response = run(handle.runner, handle.version, request)
            entry.runtime = time.perf_counter() - start
            return response

    def metadata(self, request: Any, entry: Entry) -> Any:
        """The signatures of a version."""
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != METADATA_FIELD:
                raise invalid(f"Metadata field {field} is not supported")
        with self.models.use(*_servable(request.model_spec)) as handle:
            entry.model, entry.version = handle.model, handle.version
            response = GetModelMetadataResponse()
            response.model_spec.name = handle.model
            response.model_spec.version.value = handle.version
            signatures = SignatureDefMap(signature_def=handle.runner.signature_defs)
            response.metadata[METADATA_FIELD].Pack(signatures)
            return response

    def status(self, request: Any, entry: Entry) -> Any:
        """The states of a model's versions."""
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        entry.model = request.model_spec.name
        return self.models.status(*_servable(request.model_spec))

    def reload_config(self, request: Any, entry: Entry) -> Any:
        """Serve other models, versions or labels."""
        self.reload(request.config)
        response = ReloadConfigResponse()
        response.status.error_code = code.OK
        return response


# By name: the request's class, the function that answers it, and its further arguments.
METHODS: dict[str, tuple[Any, ...]] = {
    "Predict": (PredictRequest, Services.infer, messages.predict),
    "Classify": (ClassificationRequest, Services.infer, messages.classify),
    "Regress": (RegressionRequest, Services.infer, messages.regress),
    "MultiInference": (MultiInferenceRequest, Services.infer, messages.multi_inference),
    "GetModelMetadata": (GetModelMetadataRequest, Services.metadata),
    "GetModelStatus": (GetModelStatusRequest, Services.status),
    "HandleReloadConfigRequest": (ReloadConfigRequest, Services.reload_config),
}
PREDICTION = ("Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata")
SERVICES = {
    "tensorflow.serving.PredictionService": PREDICTION,
    "tensorflow.serving.ModelService": tuple(name for name in METHODS if name not in PREDICTION),
}


def _servable(spec: Any) -> tuple[str, int | None, str | None]:
    choice = spec.WhichOneof("version_choice")
    version = spec.version.value if choice == "version" else None
    return spec.name, version, spec.version_label if choice == "version_label" else None
