"""The REST interface's paths and methods, in Serving's own words, over small models."""

import pytest
from conformance.contract import answer, error

pytest_plugins = ["small_models"]

ADDER = "/v1/models/adder"
ROWS = {"instances": [[1, 2]]}


@pytest.fixture(scope="module")
def ask(serving, asking):
    return asking(serving)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (ADDER, 3),
        (f"{ADDER}/versions/1", 1),
        (f"{ADDER}/versions/3", 3),
        (f"{ADDER}/labels/stable", 1),
        ("/V1/Models/adder", 3),  # Serving's pattern takes any case
        ("/v1/models/add%65r/labels/st%61ble", 1),
        ("/v1/models/other", 1),
    ],
)
def test_servables(ask, path, value):
    assert answer(ask("POST", f"{path}:predict", ROWS)) == {"predictions": [[1 + value, 2 + value]]}
    assert (
        "serving_default"
        in answer(ask("GET", f"{path}/metadata"))["metadata"]["signature_def"]["signature_def"]
    )
    assert answer(ask("GET", path))["model_version_status"][0]["state"] == "AVAILABLE"


def test_status_of_each_version(ask):
    assert [one["version"] for one in answer(ask("GET", ADDER))["model_version_status"]] == ["3", "1"]
    assert [
        one["version"] for one in answer(ask("GET", f"{ADDER}/labels/stable"))["model_version_status"]
    ] == ["1"]


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        (f"{ADDER}/versions/2:predict", 404, "Servable not found for request: Specific(adder, 2)"),
        (f"{ADDER}/versions/{2**63}:predict", 400, f"Failed to convert version: {2**63} to numeric."),
        (f"{ADDER}/labels/canary:predict", 400, "Unrecognized servable version label: canary"),
        (f"{ADDER}/versions/1/labels/stable:predict", 400, "Malformed request"),
        (f"{ADDER}:predict?pretty", 400, f"Malformed request: POST {ADDER}:predict?pretty"),
        ("/v1/models/none:predict", 404, "Servable not found for request: Latest(none)"),
    ],
)
def test_servables_that_are_not_there(ask, path, status, message):
    assert message in error(ask("POST", path, ROWS), status)


MALFORMED = f"""
PUT {ADDER}, PUT {ADDER}:predict, DELETE {ADDER}, GET {ADDER}:predict, GET /v1/,
GET {ADDER}/versions/latest, GET {ADDER}/other, POST {ADDER}, POST {ADDER}:explain"""


@pytest.mark.parametrize("request_line", [line.strip() for line in MALFORMED.split(",")])
def test_malformed_request(ask, request_line):
    assert error(ask(*request_line.split()), 400) == f"Malformed request: {request_line}"


def test_model_without_a_name(ask):
    assert error(ask("GET", "/v1/models"), 400) == "Missing model name in request."


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
@pytest.mark.parametrize("path", ["/v1", "/v2/models/adder", "/metrics", "/page/", "/page/../page.py"])
def test_outside_of_v1_is_not_json(ask, method, path):
    response = ask(method, path)
    assert response.status_code == 404
    assert response.headers["content-type"].startswith("text/plain")


def test_long_message_is_cut(ask):
    message = error(ask("POST", f"{ADDER}:predict", ROWS | {"signature_name": "x" * 3000}), 400)
    assert len(message) == 1024


# --- pages of other sites ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ask_with_cors(serving, asking):
    return asking(serving, cors=True)


@pytest.mark.parametrize("path", [f"{ADDER}:predict", ADDER, "/v1/models/none:predict"])
def test_a_preflight_is_answered(ask_with_cors, ask, path):
    response = ask_with_cors("OPTIONS", path, headers={"origin": "http://page"})
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["access-control-allow-origin"] == "*"
    assert "POST" in response.headers["access-control-allow-methods"]
    assert "content-type" in response.headers["access-control-allow-headers"]
    assert error(ask("OPTIONS", path), 400) == f"Malformed request: OPTIONS {path}"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", f"{ADDER}:predict", ROWS, 200),
        ("POST", f"{ADDER}:predict", b"{", 400),
        ("POST", f"{ADDER}:predict", b" " * (2**27 + 1), 413),
        ("POST", "/v1/models/none:predict", ROWS, 404),
        ("GET", ADDER, None, 200),
    ],
)
def test_pages_may_read_answers_and_errors(ask_with_cors, ask, method, path, body, status):
    response = ask_with_cors(method, path, body)
    assert response.status_code == status
    assert response.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-origin" not in ask(method, path, body).headers
