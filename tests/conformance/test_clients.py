"""Clients that others wrote, and the request shapes of TensorFlow Serving's own examples."""

import base64
import json

import numpy as np
import pytest
import tensorflow as tf
from ovmsclient import make_grpc_client, make_http_client
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc


@pytest.fixture(scope="module")
def version(http, path):
    """Its default version 0 would be sent as it is."""
    return int(http.get(path).json()["model_version_status"][0]["version"])


@pytest.fixture(scope="module")
def of_http(endpoint):
    return make_http_client(endpoint.rest.removeprefix("http://"))


@pytest.fixture(scope="module")
def of_grpc(endpoint):
    return make_grpc_client(endpoint.grpc)


@pytest.mark.parametrize("client", ["of_http", "of_grpc"])
def test_ovmsclient_predicts(request, client, endpoint, version, pngs, classes):
    outputs = request.getfixturevalue(client).predict({"images": pngs}, endpoint.model, version, timeout=60)
    assert np.shape(outputs["probabilities"]) == (2, classes)
    np.testing.assert_allclose(np.sum(outputs["probabilities"], axis=1), 1, atol=1e-4)


@pytest.mark.parametrize("client", ["of_http", "of_grpc"])
def test_ovmsclient_reads_the_status(request, client, endpoint, version):
    status = request.getfixturevalue(client).get_model_status(endpoint.model, version)
    assert status[version]["state"] == "AVAILABLE"
    assert status[version]["error_code"] == 0


def test_ovmsclient_reads_the_metadata(of_grpc, endpoint, version, classes):
    metadata = of_grpc.get_model_metadata(endpoint.model, version)
    assert metadata["model_version"] == version
    assert metadata["inputs"]["images"] == {"shape": [-1], "dtype": "DT_STRING"}
    assert metadata["outputs"]["probabilities"] == {"shape": [-1, classes], "dtype": "DT_FLOAT"}


@pytest.mark.parametrize("client", ["of_http", "of_grpc"])
def test_ovmsclient_is_refused(request, client, endpoint, version):
    from ovmsclient.tfs_compat.base.errors import InvalidInputError, ModelNotFoundError

    client = request.getfixturevalue(client)
    with pytest.raises(ModelNotFoundError):
        client.predict({"images": [b"x"]}, "absent", version, timeout=60)
    with pytest.raises(InvalidInputError):
        client.predict({"images": [b"no image"]}, endpoint.model, version, timeout=60)


def test_resnet_client_of_encoded_images(http, path, jpeg, classes):
    """`resnet_client.py` of TensorFlow Serving's examples: a JSON text with one b64 object."""
    encoded = base64.b64encode(jpeg).decode("utf-8")
    response = http.post(f"{path}:predict", content='{"instances" : [{"b64": "' + encoded + '"}]}')
    response.raise_for_status()
    assert len(response.json()["predictions"][0]["probabilities"]) == classes


def test_resnet_client_of_pixels(http, path, pixels, classes):
    """The same example's form for a model that takes pixels."""
    body = json.dumps({"instances": pixels.tolist(), "signature_name": "tensor"})
    response = http.post(f"{path}:predict", content=body)
    response.raise_for_status()
    assert len(response.json()["predictions"][0]["probabilities"]) == classes


def test_resnet_client_of_grpc(channel, endpoint, jpeg, classes):
    """`resnet_client_grpc.py`: one encoded image as a tensor of shape (1,)."""
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = endpoint.model
    request.model_spec.signature_name = "serving_default"
    request.inputs["images"].CopyFrom(tf.make_tensor_proto(jpeg, shape=[1]))
    result = stub.Predict(request, 60.0)
    assert tf.make_ndarray(result.outputs["probabilities"]).shape == (1, classes)
