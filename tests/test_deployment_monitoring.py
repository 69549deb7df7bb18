"""Prometheus's and Grafana's files: they ask for what the server has, at the ports where it is."""

import json
import re
from pathlib import Path

import promql_parser
import pytest
import yaml
from google.protobuf import text_format
from serving_folder import MODEL_PATH, SERVING, compose, deployment, documents, read
from tensorflow_serving.config import model_server_config_pb2

from keras_googlenet.serving.preview.metrics import read_path

# Metric: its kind, its labels, and the file of TensorFlow Serving that defines it.
METRICS = {
    ":tensorflow:serving:request_count": (
        "counter", {"model_name", "status"}, "servables/tensorflow/util.cc"
    ),
    ":tensorflow:serving:request_latency": (
        "histogram", {"model_name", "API", "entrypoint"}, "servables/tensorflow/util.cc"
    ),
    ":tensorflow:serving:runtime_latency": (
        "histogram", {"model_name", "API", "runtime"}, "servables/tensorflow/util.cc"
    ),
    ":tensorflow:serving:model_warmup_latency": (
        "histogram", {"model_path", "status"}, "servables/tensorflow/saved_model_warmup_util.cc"
    ),
    ":tensorflow:serving:batching_session:queuing_latency": (
        "histogram", {"thread_pool_name"}, "batching/batching_session.cc"
    ),
    ":tensorflow:serving:batching_session:wrapped_run_count": (
        "counter", set(), "batching/batching_session.cc"
    ),
}  # fmt: skip
SCRAPED = {"up": ("gauge", {"job", "instance"}, "Prometheus itself")}


def test_ports_and_paths_agree():
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse(read("models.config"), config)
    model = config.model_config_list.config[0]
    assert f"/v1/models/{model.name}" == MODEL_PATH
    metrics = read_path(SERVING / "monitoring.config")

    (job,) = yaml.safe_load(read("monitoring/prometheus.yml"))["scrape_configs"]
    assert job["metrics_path"] == metrics
    assert job["static_configs"] == [{"targets": ["tensorflow-serving:8501"]}]
    services = compose()["services"]
    assert services["tensorflow-serving"]["ports"] == ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]
    (datasource,) = yaml.safe_load(read("monitoring/grafana-datasources.yml"))["datasources"]
    assert datasource["url"] == "http://prometheus:9090"
    assert services["prometheus"]["ports"] == ["127.0.0.1:9090:9090"]
    (provider,) = yaml.safe_load(read("monitoring/grafana-dashboards.yml"))["providers"]
    dashboards = [v.split(":")[1] for v in services["grafana"]["volumes"] if v.endswith(".json:ro")]
    assert [str(Path(path).parent) for path in dashboards] == [provider["options"]["path"]]

    annotations = documents()["service.yaml"]["metadata"]["annotations"]
    assert (annotations["prometheus.io/path"], annotations["prometheus.io/port"]) == (metrics, "8501")
    ports = {port["name"]: port["containerPort"] for port in deployment()["containers"][0]["ports"]}
    assert ports == {"grpc": 8500, "rest": 8501}
    service = documents()["service.yaml"]["spec"]["ports"]
    assert {port["targetPort"]: port["port"] for port in service} == ports
    (rule,) = documents()["network-policy.yaml"]["spec"]["ingress"]
    assert {port["port"] for port in rule["ports"]} == set(ports.values())
    assert "server tensorflow-serving:8501;" in read("nginx.conf")


def dashboard():
    return json.loads(read("monitoring/grafana-dashboard.json"))


def expressions():
    """Each panel's PromQL, with Grafana's variables filled in as Grafana does."""
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$__rate_interval", "1m").replace("$model", ".*")


def selectors(node):
    """The vector selectors in a parsed expression."""
    if isinstance(node, promql_parser.MatrixSelector):
        yield node.vector_selector
    elif isinstance(node, promql_parser.VectorSelector):
        yield node
    else:
        children = [getattr(node, name, None) for name in ("expr", "lhs", "rhs")]
        for child in [*children, *getattr(node, "args", [])]:
            if child is not None:
                yield from selectors(child)


@pytest.mark.parametrize(("title", "expression"), expressions(), ids=lambda value: value[:40])
def test_panel_asks_for_metrics_that_the_server_has(title, expression):
    found = list(selectors(promql_parser.parse(expression)))
    assert found, title
    for selector in found:
        name = re.sub(r"_(bucket|sum|count)$", "", selector.name)
        name = selector.name if selector.name in METRICS | SCRAPED else name
        kind, labels, _ = (METRICS | SCRAPED)[name]
        assert (selector.name != name) == (kind == "histogram"), selector.name
        assert {matcher.name for matcher in selector.matchers.matchers} <= labels
    grouped = {label for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(", ")}
    assert grouped <= labels | {"le"}
    if "rate(" not in expression:
        assert kind == "gauge" or "_sum" in expression


def test_dashboard_is_whole():
    board = dashboard()
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    uid = yaml.safe_load(read("monitoring/grafana-datasources.yml"))["datasources"][0]["uid"]
    for panel in panels:
        assert panel["datasource"]["uid"] == uid
        assert panel["fieldConfig"]["defaults"]["unit"]
        # The histograms of TensorFlow Serving are in microseconds.
        if "latency_bucket" in panel["targets"][0]["expr"]:
            assert panel["fieldConfig"]["defaults"]["unit"] == "µs"
    taken = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(taken)) == len(taken)  # no panel lies upon another
    assert max(x for x, _ in taken) < 24
    used = {name for name in METRICS if any(name in target for _, target in expressions())}
    assert used == set(METRICS)
