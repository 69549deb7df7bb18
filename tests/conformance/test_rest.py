"""The REST interface, row by row of its contract: forms, paths, versions (`api_rest`, and its sources)."""

import base64
import json

import cv2
import numpy as np
import pytest
from google.protobuf import json_format
from tensorflow.core.example.example_pb2 import Example
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse

from conformance.contract import ANSWER, b64, columns, error, rows, same

pytest_plugins = ["conformance.rest_requests"]


# --- predict: the forms of a request ---------------------------------------------------------------


def test_rows_are_objects_of_several_outputs(answers, classes):
    assert len(answers) == 2
    for row in answers:
        assert set(row) == ANSWER
        assert len(row["probabilities"]) == classes
        assert sum(row["probabilities"]) == pytest.approx(1, abs=1e-4)
        best = np.sort(row["probabilities"])[::-1][: len(row["scores"])]
        np.testing.assert_allclose(row["scores"], best)
        assert len(row["classes"]) == len(row["scores"]) == min(5, classes)
        assert all(isinstance(name, str) for name in row["classes"])


@pytest.mark.parametrize("named", [False, True], ids=["bare", "named"])
@pytest.mark.parametrize("form", ["instances", "inputs"])
def test_rows_and_columns_named_or_bare_say_the_same(predict, pngs, answers, form, named):
    values = [b64(png) for png in pngs]
    if form == "instances":
        body = {"instances": [{"images": value} for value in values] if named else values}
        result = rows(predict(body))
    else:
        outputs = columns(predict({"inputs": {"images": values} if named else values}))
        assert set(outputs) == ANSWER
        result = [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]
    for one, other in zip(result, answers, strict=True):
        same(one, other)


def test_a_single_output_is_bare(predict, pngs, signatures):
    body = {"signature_name": "features", "instances": [b64(png) for png in pngs]}
    of_rows = rows(predict(body))
    (width,) = [dim.size for dim in signatures["features"].outputs["features"].tensor_shape.dim][1:]
    assert np.shape(of_rows) == (2, width)
    of_columns = columns(predict({"signature_name": "features", "inputs": body["instances"]}))
    np.testing.assert_allclose(of_columns, of_rows, atol=1e-5)


@pytest.mark.parametrize("signature", ["tensor", "tensor_uint8"])
def test_pixels_get_the_answer_of_their_image(predict, pixels, answers, signature):
    """The official clients' `{"instances": pixels}`."""
    result = rows(predict({"signature_name": signature, "instances": pixels.tolist()}))
    for one, other in zip(result, answers, strict=True):
        same(one, other)


def test_jpeg_of_another_size(predict, jpeg, pixels_shape, http, path):
    height, width, _ = pixels_shape
    (row,) = rows(predict({"instances": [b64(jpeg)]}))
    decoded = cv2.imdecode(np.frombuffer(jpeg, "uint8"), cv2.IMREAD_COLOR)
    area = cv2.resize(decoded, (width, height), interpolation=cv2.INTER_AREA)[..., ::-1]
    near = rows(predict({"signature_name": "tensor_uint8", "instances": [area.tolist()]}))[0]
    np.testing.assert_allclose(row["probabilities"], near["probabilities"], atol=0.1)


def test_plain_string_is_bytes_too(predict):
    """As text is no image, the refusal must come from the decoder and not from the parser."""
    assert "JPEG, PNG, BMP or WebP" in error(predict({"instances": ["text"]}), 400)


def test_labels_tell_the_order_of_probabilities(predict, answers, classes):
    names = rows(predict({"signature_name": "labels", "instances": list(range(classes))}))
    assert len(names) == classes
    for row in answers:
        assert row["classes"][0] == names[int(np.argmax(row["probabilities"]))]


@pytest.mark.parametrize("index", [-1, 10**6])
def test_labels_of_no_class_are_refused(predict, index):
    error(predict({"signature_name": "labels", "instances": [index]}), 400)


def test_serialized_example_through_predict(predict, pngs, answers):
    example = Example()
    example.features.feature["image/encoded"].bytes_list.value.append(pngs[0])
    body = {"signature_name": "classify", "instances": [b64(example.SerializeToString())]}
    (row,) = rows(predict(body))
    assert row["classes"] == answers[0]["classes"]
    np.testing.assert_allclose(row["scores"], answers[0]["scores"], atol=1e-5)


@pytest.mark.parametrize("name", ["serving_default", ""])
def test_default_signature_by_its_name(predict, pngs, answers, name):
    body = {"signature_name": name, "instances": [b64(pngs[0])]}
    same(rows(predict(body))[0], answers[0])


def test_batch_of_many(predict, pngs, answers):
    for one, other in zip(rows(predict({"instances": [b64(pngs[1])] * 20})), [answers[1]] * 20, strict=True):
        same(one, other)


# --- classify and regress --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def classify(http, path):
    def classify(body):
        return http.post(f"{path}:classify", content=json.dumps(body).encode())

    return classify


def test_classify(classify, pngs, answers):
    examples = [{"image/encoded": b64(png)} for png in pngs]
    response = classify({"signature_name": "classify", "examples": examples})
    assert response.status_code == 200, response.text[:300]
    assert set(response.json()) == {"results"}
    for result, row in zip(response.json()["results"], answers, strict=True):
        assert [label for label, _ in result] == row["classes"]
        np.testing.assert_allclose([score for _, score in result], row["scores"], atol=1e-5)


def test_classify_with_a_context_of_all_examples(classify, pngs, answers):
    body = {
        "signature_name": "classify",
        "context": {"image/encoded": b64(pngs[0])},
        "examples": [{}, {"image/format": "png"}],
    }
    for result in classify(body).json()["results"]:
        assert [label for label, _ in result] == answers[0]["classes"]


@pytest.mark.parametrize(
    "body",
    [
        {"examples": []},
        {"examples": {}},
        {"examples": [1]},
        {},
        {"examples": [{}]},
        {"examples": [{"image/encoded": 1.5}]},
        {"examples": [{"image/encoded": {"b64": "AAAA"}}]},
        {"examples": [{"image/encoded": [{"b64": "AAAA"}, 1]}]},
    ],
    ids=json.dumps,
)
def test_classify_refuses(classify, body):
    error(classify({"signature_name": "classify"} | body), 400)


@pytest.mark.parametrize("method", ["classify", "regress"])
@pytest.mark.parametrize("signature", [None, "tensor", "absent"])
def test_signatures_that_neither_classify_nor_regress(http, path, pngs, method, signature):
    body = {"examples": [{"image/encoded": b64(pngs[0])}]}
    if signature:
        body["signature_name"] = signature
    error(http.post(f"{path}:{method}", json=body), 400)


# --- paths, methods, versions ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def version(http, path):
    """The highest version that is available."""
    status = http.get(path).json()["model_version_status"]
    return max(int(one["version"]) for one in status if one["state"] == "AVAILABLE")


def test_status(http, path, version):
    status = http.get(path).json()
    assert {"version", "state", "status"} == set(status["model_version_status"][0])
    assert json_format.ParseDict(status, GetModelStatusResponse()).model_version_status
    (one,) = http.get(f"{path}/versions/{version}").json()["model_version_status"]
    assert one == {
        "version": str(version),
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }


def test_metadata(http, path, endpoint, version, signatures):
    metadata = http.get(f"{path}/metadata").json()
    assert set(metadata) == {"model_spec", "metadata"}
    assert metadata["model_spec"]["name"] == endpoint.model
    assert metadata["model_spec"]["version"] == str(version)
    assert {"serving_default", "tensor", "tensor_uint8", "classify", "features", "labels"} <= set(signatures)
    served = {name: one for name, one in signatures.items() if name != "__saved_model_init_op"}
    for signature in served.values():
        for info in [*signature.inputs.values(), *signature.outputs.values()]:
            assert info.tensor_shape.dim[0].size == -1
    assert http.get(f"{path}/versions/{version}/metadata").json() == metadata


def test_metadata_spells_types_and_shapes_out(http, path):
    declared = http.get(f"{path}/metadata").json()["metadata"]["signature_def"]["signature_def"]
    signature = declared["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"]["images"]["dtype"] == "DT_STRING"
    shape = signature["inputs"]["images"]["tensor_shape"]
    assert shape == {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}


def test_predict_of_a_version(predict, path, version, pngs, answers):
    result = rows(predict({"instances": [b64(pngs[0])]}, at=f"{path}/versions/{version}"))
    same(result[0], answers[0])


@pytest.mark.parametrize("suffix", ["", "/metadata", ":predict", ":classify", ":regress"])
@pytest.mark.parametrize(
    ("model", "status"),
    [
        ("absent-model", 404),
        ("absent-model/versions/1", 404),
        ("{model}/versions/987654321", 404),
        ("{model}/labels/absent", 400),
    ],
)
def test_other_servables(http, endpoint, pngs, model, status, suffix):
    url = f"/v1/models/{model.format(model=endpoint.model)}{suffix}"
    body = {"examples": [{}]} if suffix in (":classify", ":regress") else {"instances": [b64(pngs[0])]}
    response = http.post(url, json=body) if suffix.startswith(":") else http.get(url)
    error(response, status)


@pytest.mark.parametrize(
    "request_line",
    [
        "PUT {path}",
        "DELETE {path}",
        "PUT {path}:predict",
        "GET {path}:predict",
        "GET /v1/models",
        "GET /v1/",
        "GET {path}/versions/latest",
        "GET {path}/other",
        "POST {path}",
        "POST {path}:explain",
        "POST {path}/versions/latest:predict",
    ],
)
def test_malformed_requests(http, path, request_line):
    method, url = request_line.format(path=path).split()
    error(http.request(method, url), 400)


@pytest.mark.parametrize("url", ["/v1", "/v2/models/m", "/index.html"])
def test_outside_of_v1_is_not_json(http, url):
    response = http.get(url)
    assert response.status_code == 404
    with pytest.raises(ValueError):  # noqa: PT011 (httpx's own)
        response.json()


def test_base64_may_go_without_padding(predict, pngs, answers):
    longer = pngs[0] + b"\0" * (-len(pngs[0]) % 3 + 1)  # a PNG's decoder stops at its end
    encoded = base64.b64encode(longer).decode()
    assert encoded.endswith("==")
    for text in (encoded, encoded.rstrip("="), encoded[:8] + "\n" + encoded[8:]):
        same(rows(predict({"instances": [{"b64": text}]}))[0], answers[0])
