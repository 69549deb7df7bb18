"""A local preview of TensorFlow Serving: its REST predict, status and metadata over one model.

It serves the highest version that it finds when it starts, as TensorFlow Serving's default policy
does. It is for trying an export where the real server is not at hand, not for production.
"""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import tensorflow as tf
import uvicorn
from google.protobuf import json_format
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from keras_googlenet.errors import UserError
from keras_googlenet.serving.session import SavedModelSession
from keras_googlenet.serving.versions import latest_version, versions
from keras_googlenet.serving.wire import InvalidRequest, format_predict, parse_predict

MODEL_PATH = r"/v1/models/(?P<model>[^/:]+)(?:/(?:versions/(?P<version>\d+)|labels/(?P<label>[^/:]+)))?"
PREDICT = re.compile(MODEL_PATH + r":(?P<method>predict|classify|regress)")
STATUS = re.compile(MODEL_PATH + r"(?P<metadata>/metadata)?")
MAX_MESSAGE = 1024  # characters; TensorFlow Serving cuts its messages there

# HTTP status by the canonical error code, as TensorFlow Serving maps them; 500 for the rest.
HTTP_STATUS = {
    tf.errors.INVALID_ARGUMENT: 400,
    tf.errors.FAILED_PRECONDITION: 400,
    tf.errors.OUT_OF_RANGE: 400,
    tf.errors.NOT_FOUND: 404,
    tf.errors.RESOURCE_EXHAUSTED: 429,
    tf.errors.UNIMPLEMENTED: 501,
    tf.errors.UNAVAILABLE: 503,
    tf.errors.DEADLINE_EXCEEDED: 504,
}


class PreviewModel:
    """The highest version in a model's directory, loaded; the model is named after the directory.

    Raises:
        UserError: There is no version, or it does not load.
    """

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():
            raise UserError(f"no model at {directory}: expected the folder given to `export --to`")
        version = latest_version(directory)
        if version is None:
            raise UserError(
                f"no version in {directory}: expected a folder of numbered versions, such as "
                f"{directory / '1'}"
            )
        self.name = directory.resolve().name
        self.version = version
        self.session = SavedModelSession(versions(directory)[version])

    def predict(self, body: bytes) -> dict[str, Any]:
        """Answer the body of a `:predict` request."""
        request = parse_predict(body, self.session.signatures)
        outputs = self.session.run(request.signature_name, request.inputs)
        return format_predict(outputs, row_form=request.row_form)

    def status(self) -> dict[str, Any]:
        """The answer to a model status request."""
        return {
            "model_version_status": [
                {
                    "version": str(self.version),
                    "state": "AVAILABLE",
                    "status": {"error_code": "OK", "error_message": ""},
                }
            ]
        }

    def metadata(self) -> dict[str, Any]:
        """The answer to a model metadata request."""
        signatures = {
            name: json_format.MessageToDict(
                signature,
                preserving_proto_field_name=True,
                always_print_fields_with_no_presence=True,
            )
            for name, signature in self.session.signatures.items()
        }
        return {
            "model_spec": {"name": self.name, "signature_name": "", "version": str(self.version)},
            "metadata": {"signature_def": {"signature_def": signatures}},
        }


def preview_app(model: PreviewModel) -> ASGIApp:
    """The ASGI application that answers for `model`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        response = await answer(model, request.method, request.url.path, await request.body())
        await response(scope, receive, send)

    return app


async def answer(model: PreviewModel, method: str, path: str, body: bytes) -> Response:
    """Answer one HTTP request."""
    if not path.startswith("/v1/"):
        return PlainTextResponse("Not Found", 404)
    match = (PREDICT if method == "POST" else STATUS).fullmatch(path)
    if match is None or method not in ("GET", "POST"):
        return _error(400, f"Malformed request: {method} {path}")
    if match["model"] != model.name or match["version"] not in (None, str(model.version)):
        version = f" Version({match['version']})" if match["version"] else ""
        return _error(404, f"Servable not found for request: {match['model']}{version}")
    if match["label"]:
        return _error(400, f"Unrecognized servable version label: {match['label']}")
    if method == "GET":
        return _json(model.metadata() if match["metadata"] else model.status())
    if match["method"] != "predict":
        return _error(400, f"Expected a signature of method tensorflow/serving/{match['method']}")
    try:
        return _json(await run_in_threadpool(model.predict, body))
    except InvalidRequest as error:
        return _error(400, str(error))
    except tf.errors.OpError as error:
        return _error(HTTP_STATUS.get(error.error_code, 500), error.message)


def _error(status: int, message: str) -> Response:
    return _json({"error": message[:MAX_MESSAGE]}, status)


def _json(content: dict[str, Any], status: int = 200) -> Response:
    # json's own NaN and Infinity, as TensorFlow Serving writes them.
    return Response(json.dumps(content), status, media_type="application/json")


def serve(directory: Path, *, host: str = "127.0.0.1", rest_port: int = 8501) -> None:
    """Serve the preview until interrupted.

    Args:
        directory: The model's directory of versions; the model is named after it.
        host: Address to listen on.
        rest_port: Port to listen on; 0 for any free one.

    Raises:
        UserError: The port is in use, or there is no model.
    """
    listener = _listen(host, rest_port)
    model = PreviewModel(directory)
    port = listener.getsockname()[1]
    print(
        f"preview of TensorFlow Serving: model {model.name!r} version {model.version} at "
        f"http://{host}:{port}/v1/models/{model.name} (stop with Ctrl-C)",
        flush=True,
    )
    config = uvicorn.Config(preview_app(model), lifespan="off", log_level="warning")
    uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port < 2**16:
        raise UserError(f"expected a port between 0 and 65535, got {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise UserError(
            f"cannot listen on {host}:{port} ({error.strerror}): choose another --rest-port"
        ) from None
    return listener
