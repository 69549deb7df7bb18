import base64

import httpx
import numpy as np
import pytest
from google.protobuf import json_format
from tensorflow.core.framework.types_pb2 import DT_FLOAT, DT_STRING
from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse

from keras_googlenet.data.images import decode_image, resize
from keras_googlenet.preprocessing import Preprocessing
from keras_googlenet.serving.preview.config import find_models
from keras_googlenet.serving.preview.models import Models

pytest_plugins = ["small_models"]

MODEL = "/v1/models/shoes"
PREDICT = f"{MODEL}:predict"
SIDE = 80  # of the fixture's network


@pytest.fixture(scope="module")
def ask(exported, load, asking):
    """Send one request to the preview of the exported model, and return the response."""
    models = Models(load)
    models.reload(find_models(exported.parent), first=True)
    yield asking(models)
    models.close()


@pytest.fixture(scope="module")
def b64(png_bytes):
    return {"b64": base64.b64encode(png_bytes).decode()}


def error(response: httpx.Response, status: int) -> str:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert set(response.json()) == {"error"}
    assert len(response.json()["error"]) <= 1024
    return response.json()["error"]


def answer(response: httpx.Response) -> dict:
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    return response.json()


# --- predict -------------------------------------------------------------------------------------


def test_rows(ask, b64):
    predictions = answer(ask("POST", PREDICT, {"instances": [b64, b64]}))["predictions"]
    assert len(predictions) == 2
    for row in predictions:
        assert set(row) == {"probabilities", "classes", "scores"}
        assert sorted(row["classes"]) == ["Sneaker", "Trouser"]
        assert row["scores"] == sorted(row["probabilities"], reverse=True)
        assert sum(row["probabilities"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("named", [False, True])
def test_columns_hold_what_rows_hold(ask, b64, named):
    value = {"images": [b64]} if named else [b64]
    (row,) = answer(ask("POST", PREDICT, {"instances": [b64]}))["predictions"]
    columns = answer(ask("POST", PREDICT, {"inputs": value}))["outputs"]
    assert columns == {name: [pytest.approx(row[name])] for name in row}


def test_pixels_get_the_answer_of_their_image(ask, b64, png_bytes):
    pixels = resize(decode_image(png_bytes, 3), Preprocessing(SIDE, SIDE)).numpy().tolist()
    requests = ({"instances": [b64]}, {"signature_name": "tensor", "instances": [pixels]})
    (of_bytes,), (of_pixels,) = (answer(ask("POST", PREDICT, body))["predictions"] for body in requests)
    assert of_pixels["probabilities"] == pytest.approx(of_bytes["probabilities"], abs=1e-5)
    assert of_pixels["classes"] == of_bytes["classes"]


PIXELS = (SIDE, SIDE, 3)
WRONG = [(), (3,), PIXELS, (1, 40, 40, 3), (1, SIDE, SIDE, 1), (1, 1, *PIXELS), (0,)]


@pytest.mark.parametrize("shape", WRONG, ids=str)
def test_pixels_of_a_wrong_shape_are_refused(ask, shape):
    error(ask("POST", PREDICT, {"signature_name": "tensor", "inputs": np.zeros(shape).tolist()}), 400)


@pytest.mark.parametrize("shape", [(), (1, 1), (0,)], ids=str)
def test_bytes_of_a_wrong_shape_are_refused(ask, b64, shape):
    error(ask("POST", PREDICT, {"inputs": np.full(shape, b64).tolist()}), 400)


@pytest.mark.parametrize("corrupt", [b"", b"not an image", None], ids=["empty", "text", "truncated"])
def test_corrupt_image_is_refused(ask, b64, png_bytes, corrupt):
    encoded = base64.b64encode(png_bytes[:-20] if corrupt is None else corrupt).decode()
    error(ask("POST", PREDICT, {"instances": [b64, {"b64": encoded}]}), 400)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "JSON Parse error"),
        (b"{", "JSON Parse error"),
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"instances": []}, "No values in 'instances'"),
        ({"instances": [1]}, "not of expected type: string"),
        ({"instances": ["\ud800"]}, "surrogate"),
        ({"instances": [{"images": "", "extra": 1}]}, "must only have keys: images"),
        ({"inputs": {}}, "Missing named input: images"),
        ({"instances": [""], "signature_name": "absent"}, '"absent" not found'),
        ({"instances": [[[[1e39]]]], "signature_name": "tensor"}, "without loss of precision"),
    ],
)
def test_body_is_refused(ask, body, message):
    assert message in error(ask("POST", PREDICT, body), 400)


def test_long_message_is_cut(ask):
    message = error(ask("POST", PREDICT, {"instances": [""], "signature_name": "x" * 3000}), 400)
    assert len(message) == 1024


# --- paths and methods ---------------------------------------------------------------------------


def test_version_in_the_path(ask, b64):
    assert answer(ask("POST", f"{MODEL}/versions/1:predict", {"instances": [b64]}))["predictions"]
    assert ask("GET", f"{MODEL}/versions/1").json() == ask("GET", MODEL).json()
    assert ask("GET", f"{MODEL}/versions/1/metadata").json() == ask("GET", f"{MODEL}/metadata").json()


@pytest.mark.parametrize("suffix", ["", "/metadata", ":predict"])
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/models/boots", 404),
        ("/v1/models/boots/versions/1", 404),
        (f"{MODEL}/versions/2", 404),
        (f"{MODEL}/labels/stable", 400),
    ],
)
def test_other_servables(ask, b64, path, status, suffix):
    method = "POST" if suffix == ":predict" else "GET"
    error(ask(method, path + suffix, {"instances": [b64]}), status)


MALFORMED = f"""
PUT {MODEL}, PUT {PREDICT}, DELETE {MODEL}, GET {PREDICT}, GET /v1/,
GET {MODEL}/versions/latest, GET {MODEL}/other, POST {MODEL}, POST {MODEL}:explain"""


@pytest.mark.parametrize("request_line", [line.strip() for line in MALFORMED.split(",")])
def test_malformed_request(ask, request_line):
    assert error(ask(*request_line.split()), 400) == f"Malformed request: {request_line}"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
@pytest.mark.parametrize("path", ["/", "/v1", "/v2/models/shoes", "/metrics"])
def test_outside_of_v1_is_not_json(ask, method, path):
    response = ask(method, path)
    assert response.status_code == 404
    assert response.headers["content-type"].startswith("text/plain")


def test_model_without_a_name(ask):
    assert error(ask("GET", "/v1/models"), 400) == "Missing model name in request."


@pytest.mark.parametrize(
    ("method", "message"),
    [("classify", "Expected one or two output Tensors, found 3"), ("regress", "Expected one output Tensor.")],
)
def test_predict_signature_neither_classifies_nor_regresses(ask, b64, method, message):
    assert error(ask("POST", f"{MODEL}:{method}", {"examples": [{"images": b64}]}), 400) == message


# --- status, metadata, versions ------------------------------------------------------------------


def test_status(ask):
    status = answer(ask("GET", MODEL))
    assert status == {
        "model_version_status": [
            {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ]
    }
    json_format.ParseDict(status, GetModelStatusResponse())


def test_metadata_declares_the_signatures(ask):
    metadata = answer(ask("GET", f"{MODEL}/metadata"))
    assert metadata["model_spec"] == {"name": "shoes", "signature_name": "", "version": "1"}
    parsed = json_format.ParseDict(metadata["metadata"]["signature_def"], SignatureDefMap())
    declared = {
        name: {
            key: (info.dtype, [dim.size for dim in info.tensor_shape.dim])
            for key, info in [*signature.inputs.items(), *signature.outputs.items()]
        }
        for name, signature in parsed.signature_def.items()
    }
    outputs = {name: (DT_FLOAT, [-1, 2]) for name in ("probabilities", "scores")}
    outputs["classes"] = (DT_STRING, [-1, 2])
    expected = {
        "serving_default": {"images": (DT_STRING, [-1])} | outputs,
        "tensor": {"images": (DT_FLOAT, [-1, SIDE, SIDE, 3])} | outputs,
    }
    assert {name: declared[name] for name in expected} == expected


def test_metadata_has_the_protocols_field_names(ask):
    metadata = answer(ask("GET", f"{MODEL}/metadata"))["metadata"]
    signature = metadata["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"]["images"]["dtype"] == "DT_STRING"
    shape = {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}
    assert signature["inputs"]["images"]["tensor_shape"] == shape
