"""What the preview tells of its requests: metrics and the access log."""

import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from keras_googlenet.errors import UserError
from keras_googlenet.serving.preview.metrics import Metrics, read_path
from keras_googlenet.serving.preview.record import Recorder

pytest_plugins = ["small_models"]

ADDER = "/v1/models/adder"
ROWS = {"instances": [[1, 2]]}


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
