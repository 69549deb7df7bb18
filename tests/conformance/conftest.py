"""The endpoint under test: any TensorFlow Serving endpoint that serves an export of this package.

`TFS_REST_URL` (such as http://127.0.0.1:8501), `TFS_GRPC_ADDRESS` (127.0.0.1:8500) and `TFS_MODEL`
name one; without them a preview is started over a small export.
"""

import os
from dataclasses import dataclass

import cv2
import grpc
import httpx
import numpy as np
import pytest
from google.protobuf import json_format
from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap

from conformance.server import preview

VARIABLES = ("TFS_REST_URL", "TFS_GRPC_ADDRESS", "TFS_MODEL")


@dataclass(frozen=True)
class Endpoint:
    """A server's addresses, the model's name there, and the server's process if it is ours."""

    rest: str
    grpc: str
    model: str
    process: int | None = None


@pytest.fixture(scope="session")
def endpoint(request):
    given = [os.environ.get(name) for name in VARIABLES]
    if any(given):
        assert all(given), f"expected all of {VARIABLES} or none"
        rest, address, model = given
        yield Endpoint(rest.rstrip("/"), address, model)
        return
    exported = request.getfixturevalue("exported")
    with preview(exported.parent) as server:
        yield Endpoint(server.rest, server.grpc, exported.parent.name, server.process.pid)


@pytest.fixture(scope="session")
def http(endpoint):
    """An HTTP client whose paths begin at the server's root."""
    with httpx.Client(base_url=endpoint.rest, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def channel(endpoint):
    with grpc.insecure_channel(endpoint.grpc) as channel:
        grpc.channel_ready_future(channel).result(30)
        yield channel


@pytest.fixture(scope="session")
def path(endpoint):
    """The model's path."""
    return f"/v1/models/{endpoint.model}"


@pytest.fixture(scope="session")
def signatures(http, path):
    """The `SignatureDef` protos that the server declares, by name."""
    metadata = http.get(f"{path}/metadata").raise_for_status().json()["metadata"]
    return json_format.ParseDict(metadata["signature_def"], SignatureDefMap()).signature_def


@pytest.fixture(scope="session")
def pixels_shape(signatures):
    """Height, width and channels of the `tensor` signature."""
    return tuple(dim.size for dim in signatures["tensor"].inputs["images"].tensor_shape.dim)[1:]


@pytest.fixture(scope="session")
def classes(signatures):
    """How many classes the model knows."""
    return signatures["serving_default"].outputs["probabilities"].tensor_shape.dim[1].size


@pytest.fixture(scope="session")
def pixels(pixels_shape):
    """Two unlike images of the network's size, uint8 (2, height, width, channels)."""
    height, width, channels = pixels_shape
    ramp = np.linspace(0, 255, height * width * channels).reshape(pixels_shape)
    disc = np.hypot(*np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]) < 0.6
    return np.stack([ramp, np.broadcast_to(disc[..., None] * 200, pixels_shape)]).astype("uint8")


@pytest.fixture(scope="session")
def pngs(pixels):
    """The same images as PNG files, losslessly."""
    return [cv2.imencode(".png", image[..., ::-1])[1].tobytes() for image in pixels]


@pytest.fixture(scope="session")
def jpeg():
    """A photograph-like JPEG of another size."""
    smooth = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 8, 3), "uint8"), (160, 120))
    return cv2.imencode(".jpg", smooth)[1].tobytes()
