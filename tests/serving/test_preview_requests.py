"""The REST interface's other methods and its bounds, over small models."""

import asyncio
import base64
import gzip
import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from keras_googlenet.errors import UserError
from keras_googlenet.serving.preview.config import ModelConfig, VersionPolicy
from keras_googlenet.serving.preview.metrics import Metrics, read_path
from keras_googlenet.serving.preview.models import Models
from keras_googlenet.serving.preview.record import Recorder
from keras_googlenet.serving.preview.rest import Limits, rest_app

pytest_plugins = ["small_models"]

ADDER = "/v1/models/adder"
ROWS = {"instances": [[1, 2]]}
LIMIT = 100_000


@pytest.fixture(scope="module")
def serving(adders, load):
    """Versions 1 (`stable`) and 3 of `adder`, and `other`."""
    models = Models(load)
    policy = VersionPolicy("specific", numbers=frozenset({1, 3}))
    configs = [
        ModelConfig("adder", adders / "adder", policy, {"stable": 1}),
        ModelConfig("other", adders / "other"),
    ]
    models.reload(configs, first=True)
    yield models
    models.close()


@pytest.fixture(scope="module")
def ask(serving, asking):
    return asking(serving, limits=Limits(LIMIT, timeout_ms=500))


def error(response, status):
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"}
    return response.json()["error"]


def answer(response):
    assert response.status_code == 200, response.text
    return response.json()


def b64(encoded):
    return {"b64": base64.b64encode(encoded).decode()}


# --- several models, versions and labels ---------------------------------------------------------


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


# --- forms and types -----------------------------------------------------------------------------


def test_bytes_come_back_as_base64_where_the_name_says_so(ask):
    body = {"signature_name": "describe", "instances": [b64(b"caf\xc3\xa9"), "tea"]}
    assert answer(ask("POST", f"{ADDER}:predict", body))["predictions"] == [
        {"length": 5, "image_bytes": b64(b"caf\xc3\xa9"), "text": "café"},
        {"length": 3, "image_bytes": b64(b"tea"), "text": "tea"},
    ]


def test_several_inputs(ask):
    body = {"signature_name": "both", "instances": [{"image": "four", "weight": 0.5}]}
    assert answer(ask("POST", f"{ADDER}:predict", body)) == {"predictions": [2]}
    body = {"signature_name": "both", "inputs": {"image": ["four"], "weight": [0.5], "extra": None}}
    assert answer(ask("POST", f"{ADDER}:predict", body)) == {"outputs": [2]}


def test_integers_as_unsigned_bytes(ask):
    body = {"signature_name": "pixels", "instances": [[0, 255]]}
    assert answer(ask("POST", f"{ADDER}:predict", body)) == {"predictions": [[0, 510]]}
    body["instances"] = [[0, 1.0]]
    assert "not of expected type: uint8" in error(ask("POST", f"{ADDER}:predict", body), 400)


@pytest.mark.parametrize(
    ("signature", "status", "message"),
    [
        ("half_in", 501, "Conversion of JSON Value: 1.5 to type: float16"),
        ("half_out", 400, "Failed to write JSON value for tensor type: float16"),
    ],
)
def test_half_floats(ask, signature, status, message):
    body = {"signature_name": signature, "instances": [1.5]}
    assert error(ask("POST", f"{ADDER}:predict", body), status) == message


def test_numbers_that_json_has_not(ask):
    response = ask("POST", f"{ADDER}:predict", b'{"instances": [[NaN, -Infinity]]}')
    assert response.text == '{"predictions": [[NaN, -Infinity]]}'


def test_floats_are_written_as_short_as_they_are(ask):
    response = ask("POST", f"{ADDER}/versions/1:predict", {"instances": [[0.1, -1]]})
    assert response.text == '{"predictions":[[1.1,0.0]]}'


def test_row_form_wants_rows(ask):
    body = {"signature_name": "single", "instances": [1.0, 2.0]}
    assert "has no shape information" in error(ask("POST", f"{ADDER}:predict", body), 400)
    body = {"signature_name": "single", "inputs": [1.0, 2.0]}
    assert answer(ask("POST", f"{ADDER}:predict", body)) == {"outputs": 3}


# --- classify and regress ------------------------------------------------------------------------


def test_classify(ask):
    examples = [{"name": "cat", "x": 0.25}, {"name": b64(b"dog"), "x": [0.5]}]
    body = {"signature_name": "classify", "examples": examples}
    assert answer(ask("POST", f"{ADDER}:classify", body)) == {
        "results": [[["cat", 0.25], ["cat!", 3]], [["dog", 0.5], ["dog!", 3]]]
    }


def test_context_goes_into_every_example(ask):
    examples = [{"x": 1.0}, {"x": 2.0}]
    body = {"signature_name": "classify", "context": {"name": "both"}, "examples": examples}
    results = answer(ask("POST", f"{ADDER}:classify", body))["results"]
    assert [one[0] for one in results] == [["both", 1], ["both", 2]]


def test_regress(ask):
    body = {"signature_name": "regress", "examples": [{"x": 0.25}, {"x": 4.5}]}
    assert answer(ask("POST", f"{ADDER}:regress", body)) == {"results": [0.25, 4.5]}


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "key 'examples' is expected and was not found"),
        ({"examples": {}}, "to be an list/array"),
        ({"examples": []}, "empty array"),
        ({"examples": [1]}, "Example must be JSON object"),
        ({"examples": [{"x": None}]}, "unexpected JSON type"),
        ({"examples": [{"x": {"a": 1}}]}, "unexpected JSON type"),
        ({"examples": [{"x": [[1]]}]}, "unexpected JSON type"),
        ({"examples": [{"x": [1, 2.5]}]}, "Unexpected element type in feature: x expecting type: float"),
        ({"examples": [{"x": ["a", 1]}]}, "Unexpected element type in feature: x"),
        ({"examples": [{"x": 2**63}]}, "Only int64 is supported"),
        ({"examples": [{"x": 1e39}]}, "without loss of precision"),
        ({"examples": [{"x": {"b64": "?"}}]}, "Unable to base64 decode"),
        ({"examples": [{"name": "cat", "x": 1}]}, ""),  # an integer is no float: the graph refuses it
        ({"examples": [{}]}, ""),
        ({"examples": [{"x": 1.0}], "context": 1}, "Example must be JSON object"),
        ({"examples": [{"x": 1.0}], "signature_name": "none"}, "No signature was found with the name: none"),
        ({"examples": [{"x": 1.0}], "signature_name": "describe"}, "found 3"),
    ],
)
def test_classify_refuses(ask, request_, message):
    assert message in error(ask("POST", f"{ADDER}:classify", {"signature_name": "classify"} | request_), 400)


# --- bounds --------------------------------------------------------------------------------------


def test_timeout(ask):
    body = {"signature_name": "count", "inputs": [10**9]}
    assert "Timed out" in error(ask("POST", f"{ADDER}:predict", body), 504)
    assert answer(ask("POST", f"{ADDER}:predict", body | {"inputs": [10]})) == {"outputs": [10]}


class Sender:
    """A client that counts the chunks of a body that are taken from it."""

    def __init__(self, chunks, headers=()):
        self.chunks, self.taken, self.headers = chunks, 0, list(headers)

    async def receive(self):
        self.taken += 1
        return {"type": "http.request", "body": b" " * 1000, "more_body": self.taken < self.chunks}

    def send_to(self, app):
        sent = []

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": f"{ADDER}:predict", "query_string": b""}
        asyncio.run(app(scope | {"headers": self.headers}, self.receive, send))
        return sent[0]["status"], dict(sent[0]["headers"]), json.loads(sent[1]["body"])


def test_body_beyond_the_limit_is_refused_while_it_arrives(serving):
    app = rest_app(serving, limits=Limits(LIMIT))
    endless = Sender(10**9)
    status, headers, body = endless.send_to(app)
    assert (status, headers[b"connection"]) == (413, b"close")
    assert body == {"error": f"Request body exceeds the limit of {LIMIT} bytes"}
    assert endless.taken == LIMIT // 1000 + 1
    declared = Sender(10**9, [(b"content-length", b"1000000")])
    assert declared.send_to(app)[0] == 413
    assert declared.taken == 0


def test_gzip(ask):
    packed = gzip.compress(json.dumps(ROWS).encode())
    headers = {"content-encoding": "gzip"}
    assert answer(ask("POST", f"{ADDER}:predict", packed, headers)) == {"predictions": [[4, 5]]}
    for broken in (packed[:-9], b"not gzip"):
        assert "document is empty" in error(ask("POST", f"{ADDER}:predict", broken, headers), 400)


def test_gzip_bomb(ask):
    bomb = gzip.compress(b" " * 10**8)
    assert len(bomb) < LIMIT
    assert "exceeds the limit" in error(
        ask("POST", f"{ADDER}:predict", bomb, {"content-encoding": "gzip"}), 413
    )


# --- metrics and the access log ------------------------------------------------------------------


def samples(text):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics(serving, asking, tmp_path):
    metrics = Metrics(lambda name: name in serving.available())
    path = "/monitoring/prometheus/metrics"
    ask = asking(serving, recorder=Recorder(observers=(metrics.answered,)), monitoring=(path, metrics.text))
    assert samples(ask("GET", path).text) == {}
    for body in (ROWS, ROWS, {}):
        ask("POST", f"{ADDER}:predict", body)
    ask("POST", "/v1/models/none:predict", ROWS)
    ask("GET", ADDER)
    metrics.waited("pool", 0.001)
    metrics.loaded(tmp_path, 1.5, failed=False)
    metrics.loaded(tmp_path, 0.5, failed=True)
    response = ask("GET", path)
    assert response.headers["content-type"].startswith("text/plain")
    found = samples(response.text)

    # Serving's counters have no `_total` at their end; the parser adds it.
    assert '\n:tensorflow:serving:request_count{model_name="adder",status="OK"} 2\n' in response.text

    def value(name, **labels):
        return found[(f":tensorflow:{name}", *sorted(labels.items()))]

    assert value("serving:request_count_total", model_name="adder", status="OK") == 2
    assert value("serving:request_count_total", model_name="adder", status="INVALID_ARGUMENT") == 1
    latency = {"model_name": "adder", "API": "predict", "entrypoint": "REST"}
    assert value("serving:request_latency_count", **latency) == 2
    assert value("serving:request_latency_bucket", **latency, le="+Inf") == 2
    assert value("serving:request_latency_bucket", **latency, le="10") == 0
    runtime = {"model_name": "adder", "API": "Predict", "runtime": "TF1"}
    assert (
        0 < value("serving:runtime_latency_sum", **runtime) < value("serving:request_latency_sum", **latency)
    )
    pool = {"thread_pool_name": "pool"}
    assert value("serving:batching_session:queuing_latency_sum", **pool) == 1000
    assert value("cc:saved_model:load_attempt_count_total", model_path=str(tmp_path), status="success") == 1
    assert value("cc:saved_model:load_attempt_count_total", model_path=str(tmp_path), status="fail") == 1
    assert value("cc:saved_model:load_latency_total", model_path=str(tmp_path)) == 1.5e6
    assert not [key for key in found if ("model_name", "none") in key]


def test_labels_of_metrics_are_escaped():
    metrics = Metrics(lambda name: True)
    metrics.waited('a"b\\c\nd', 0.001)
    assert any(("thread_pool_name", 'a"b\\c\nd') in key for key in samples(metrics.text().decode()))


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('prometheus_config { enable: true path: "/metrics" }', "/metrics"),
        ("prometheus_config { enable: true }", "/monitoring/prometheus/metrics"),
        ('prometheus_config { enable: false path: "/metrics" }', None),
        ("", None),
    ],
)
def test_monitoring_file(tmp_path, text, path):
    file = tmp_path / "monitoring.config"
    file.write_text(text)
    assert read_path(file) == path


@pytest.mark.parametrize("text", ["prometheus { }", 'prometheus_config { path: "metrics" }'])
def test_wrong_monitoring_files_are_named(tmp_path, text):
    file = tmp_path / "monitoring.config"
    file.write_text(text)
    with pytest.raises(UserError, match=str(file)):
        read_path(file)


def test_access_log(serving, asking, tmp_path):
    with open(tmp_path / "log", "w") as log:
        ask = asking(serving, recorder=Recorder(log))
        ask("POST", f"{ADDER}/versions/1:predict", ROWS)
        ask("POST", "/v1/models/none:predict", ROWS)
    answered, refused = map(json.loads, (tmp_path / "log").read_text().splitlines())
    length = len(json.dumps(ROWS))
    assert answered.pop("ms") > 0
    assert answered.pop("time")
    assert answered == {
        "protocol": "REST",
        "request": f"POST {ADDER}/versions/1:predict",
        "model": "adder",
        "version": 1,
        "status": 200,
        "code": "OK",
        "bytes_in": length,
        "bytes_out": len('{"predictions":[[2.0,3.0]]}'),
    }
    assert (refused["status"], refused["code"]) == (404, "NOT_FOUND")
    assert refused["error"] == "Servable not found for request: Latest(none)"
