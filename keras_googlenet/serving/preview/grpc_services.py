"""TensorFlow Serving's gRPC interface, over its official servicers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
from tensorflow.core.protobuf import error_codes_pb2 as code
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataResponse, SignatureDefMap
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigResponse

from keras_googlenet.errors import UserError
from keras_googlenet.serving.preview import messages
from keras_googlenet.serving.preview.errors import StatusError, invalid
from keras_googlenet.serving.preview.models import Models
from keras_googlenet.serving.preview.record import Entry, Recorder

GRPC_STATUS = {status.value[0]: status for status in grpc.StatusCode}
THREADS = 64  # a request that waits in a batch keeps one
METADATA_FIELD = "signature_def"


class Answering:
    """What both services share: run the work, tell of it, end the call with its code where it fails.

    Args:
        models: The models.
        reload: Serves what a `ModelServerConfig` message lists.
        recorder: Is told of every request.
    """

    def __init__(self, models: Models, reload: Callable[[Any], None], recorder: Recorder) -> None:
        self.models, self.reload, self._recorder = models, reload, recorder

    @contextmanager
    def answering(self, name: str, request: Any, context: grpc.ServicerContext) -> Iterator[Entry]:
        """A context in which a request is answered; it ends the call where the work raises."""
        entry = Entry("GRPC", name, time.perf_counter(), api=name, status=None)
        entry.bytes_in = request.ByteSize()
        try:
            yield entry
        except Exception as caught:
            error = StatusError.of(caught)
            entry.code, entry.error = error.code, error.message
            context.abort(GRPC_STATUS[error.code], error.message)
        finally:
            self._recorder.record(entry)


class PredictionService(Answering, prediction_service_pb2_grpc.PredictionServiceServicer):
    """Serving's `PredictionService`."""

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Run a signature on tensors."""
        return self._infer(messages.predict, "Predict", request, request, context)

    def Classify(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Classify examples."""
        return self._infer(messages.classify, "Classify", request, request, context)

    def Regress(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Regress on examples."""
        return self._infer(messages.regress, "Regress", request, request, context)

    def MultiInference(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Run several signatures on the same examples."""
        if not request.tasks:
            with self.answering("MultiInference", request, context):
                raise invalid("Inference request must have at least one task.")
        return self._infer(messages.multi_inference, "MultiInference", request, request.tasks[0], context)

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """The signatures of a version."""
        with self.answering("GetModelMetadata", request, context) as entry:
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

    def _infer(self, work: Any, name: str, request: Any, of: Any, context: grpc.ServicerContext) -> Any:
        """Answer with `work`; `of` is the message whose `model_spec` names the model."""
        with self.answering(name, request, context) as entry:
            if of is request and not request.HasField("model_spec"):
                raise invalid("Missing ModelSpec")
            entry.model = of.model_spec.name
            with self.models.use(*_servable(of.model_spec)) as handle:
                entry.version = handle.version
                start = time.perf_counter()
                response = work(handle.runner, handle.version, request)
                entry.runtime = time.perf_counter() - start
                entry.bytes_out = response.ByteSize()
                return response


class ModelService(Answering, model_service_pb2_grpc.ModelServiceServicer):
    """Serving's `ModelService`."""

    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """The states of a model's versions."""
        with self.answering("GetModelStatus", request, context) as entry:
            if not request.HasField("model_spec"):
                raise invalid("Missing ModelSpec")
            entry.model = request.model_spec.name
            return self.models.status(*_servable(request.model_spec))

    def HandleReloadConfigRequest(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Serve other models, versions or labels."""
        with self.answering("HandleReloadConfigRequest", request, context):
            self.reload(request.config)
            response = ReloadConfigResponse()
            response.status.error_code = code.OK
            return response


def grpc_server(
    models: Models,
    reload: Callable[[Any], None],
    *,
    host: str,
    port: int,
    recorder: Recorder | None = None,
    max_message_bytes: int = -1,
) -> tuple[grpc.Server, int]:
    """A server, bound and not yet started, and its port.

    Args:
        models: The models.
        reload: Serves what a `ModelServerConfig` message lists.
        host: Address to listen on.
        port: Port to listen on; 0 for any free one.
        recorder: Is told of every request.
        max_message_bytes: The longest message taken; -1 for any, as in TensorFlow Serving.

    Raises:
        UserError: The port cannot be had.
    """
    options = [
        ("grpc.so_reuseport", 0),  # else a second server would share a used port in silence
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", -1),
    ]
    server = grpc.server(futures.ThreadPoolExecutor(THREADS, "preview-grpc"), options=options)
    arguments = (models, reload, recorder or Recorder())
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(*arguments), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(*arguments), server)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError:
        bound = 0
    if not bound:
        raise UserError(f"cannot listen on {address}: choose another --grpc-port")
    return server, bound


def _servable(spec: Any) -> tuple[str, int | None, str | None]:
    choice = spec.WhichOneof("version_choice")
    version = spec.version.value if choice == "version" else None
    return spec.name, version, spec.version_label if choice == "version_label" else None
