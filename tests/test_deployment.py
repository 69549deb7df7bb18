"""The folder that an operator copies: each file parsed by what reads it, and all of them agree.

Docker and a cluster are not at hand here. What cannot be parsed by the real thing is parsed by the published
schema, and names that no schema knows (flags, metrics) are compared with tables from the server's sources.
"""

import base64
import json
import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import jsonschema
import kubernetes_validate
import promql_parser
import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from scripted_server import Script, rest_server
from tensorflow_serving.config import model_server_config_pb2

SERVING = Path(__file__).parents[1] / "serving"
IMAGE = "tensorflow/serving:2.20.0"
MODEL_PATH = "/v1/models/googlenet"
KUBERNETES = "1.33"

# tensorflow_serving/model_servers/main.cc
FLAGS = {
    "allow_version_labels_for_unavailable_models", "batching_parameters_file", "enable_batching",
    "enable_per_model_batching_parameters", "model_config_file", "model_config_file_poll_wait_seconds",
    "monitoring_config_file", "rest_api_enable_cors_support", "rest_api_timeout_in_ms", "ssl_config_file",
    "tensorflow_inter_op_parallelism", "tensorflow_intra_op_parallelism",
}  # fmt: skip

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


def read(name):
    return (SERVING / name).read_text()


def documents():
    """The Kubernetes objects, by file."""
    files = sorted((SERVING / "kubernetes").glob("*.yaml"))
    return {file.name: yaml.safe_load(file.read_text()) for file in files}


def compose():
    return yaml.safe_load(read("compose.yaml"))


def deployment():
    return documents()["deployment.yaml"]["spec"]["template"]["spec"]


def flags(arguments):
    """Flags of a command line, by name."""
    pairs = (re.fullmatch(r"--(\w+)=(\S+)", argument) for argument in arguments)
    return {pair[1]: pair[2] for pair in pairs}


def dockerfile():
    """The Dockerfile's instructions: pairs of a name and the rest, with lines joined."""
    lines = re.sub(r"\\\n", "", read("Dockerfile")).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line and not line.startswith("#")]


def command_lines():
    """The flags of each way to run the server, and where its configuration is mounted."""
    (cmd,) = [json.loads(rest) for name, rest in dockerfile() if name == "CMD"]
    (container,) = deployment()["containers"]
    return {
        "compose.yaml": flags(compose()["services"]["tensorflow-serving"]["command"]),
        "Dockerfile": flags(cmd),
        "deployment.yaml": flags(container["args"]),
    }


# --- the server's own files ----------------------------------------------------------------------

INT64, STRING, BOOL, MESSAGE = (
    getattr(descriptor_pb2.FieldDescriptorProto, f"TYPE_{name}")
    for name in ("INT64", "STRING", "BOOL", "MESSAGE")
)
WRAPPED = ".google.protobuf.Int64Value"
# The messages that `tensorflow-serving-api` leaves out: name, number, type, message type, repeated.
PROTOS = {
    "BatchingParameters": [  # servables/tensorflow/session_bundle_config.proto
        ("max_batch_size", 1, MESSAGE, WRAPPED, False),
        ("batch_timeout_micros", 2, MESSAGE, WRAPPED, False),
        ("max_enqueued_batches", 3, MESSAGE, WRAPPED, False),
        ("num_batch_threads", 4, MESSAGE, WRAPPED, False),
        ("thread_pool_name", 5, MESSAGE, ".google.protobuf.StringValue", False),
        ("allowed_batch_sizes", 6, INT64, None, True),
        ("pad_variable_length_inputs", 7, BOOL, None, False),
    ],
    "PrometheusConfig": [("enable", 1, BOOL, None, False), ("path", 2, STRING, None, False)],
    "MonitoringConfig": [("prometheus_config", 1, MESSAGE, ".deployment.PrometheusConfig", False)],
    "SSLConfig": [  # config/ssl_config.proto
        ("server_key", 1, STRING, None, False),
        ("server_cert", 2, STRING, None, False),
        ("custom_ca", 3, STRING, None, False),
        ("client_verify", 4, BOOL, None, False),
    ],
}


@pytest.fixture(scope="module")
def messages():
    """Message classes for `PROTOS`."""
    from google.protobuf import wrappers_pb2

    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(
        name="deployment.proto", package="deployment", syntax="proto3",
        dependency=["google/protobuf/wrappers.proto"],
    )  # fmt: skip
    for name, fields in PROTOS.items():
        message = file.message_type.add(name=name)
        for field, number, kind, type_name, repeated in fields:
            label = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED if repeated else 1
            message.field.add(name=field, number=number, type=kind, type_name=type_name, label=label)
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"deployment.{name}"))
        for name in PROTOS
    }


def test_models_config():
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse(read("models.config"), config)
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path) == ("googlenet", "/models/googlenet")
    assert model.model_platform == "tensorflow"
    assert not model.version_labels  # a label of a version that is not there stops the server


def test_models_config_with_its_comment_taken_in():
    """The commented lines are what an operator uncomments: they too must be the protocol's."""
    lines = [re.sub(r"^(\s*)# (model_version_policy|version_labels)", r"\1\2", line)
             for line in read("models.config").splitlines()]  # fmt: skip
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse("\n".join(lines), config)
    (model,) = config.model_config_list.config
    versions = list(model.model_version_policy.specific.versions)
    assert dict(model.version_labels) == {"stable": 1, "canary": 2}
    assert sorted(model.version_labels.values()) == versions  # a label needs its version loaded


def test_batching_parameters(messages):
    parsed = text_format.Parse(read("batching_parameters.txt"), messages["BatchingParameters"]())
    sizes = list(parsed.allowed_batch_sizes)
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == parsed.max_batch_size.value == 32  # else the server does not start
    assert parsed.batch_timeout_micros.value == 2000
    assert parsed.num_batch_threads.value == parsed.max_enqueued_batches.value > 0


def test_a_clients_request_fits_into_a_batch(messages):
    from keras_googlenet.serving.client.client import BATCH

    parsed = text_format.Parse(read("batching_parameters.txt"), messages["BatchingParameters"]())
    assert parsed.max_batch_size.value >= BATCH


def test_warm_up_fits_into_a_batch(messages):
    """A larger one would fail, and with it the load of every export."""
    from keras_googlenet.serving.versions import WARMUP_BATCH_SIZES

    parsed = text_format.Parse(read("batching_parameters.txt"), messages["BatchingParameters"]())
    assert set(WARMUP_BATCH_SIZES) <= set(parsed.allowed_batch_sizes)


def test_monitoring_config(messages):
    parsed = text_format.Parse(read("monitoring.config"), messages["MonitoringConfig"]())
    assert parsed.prometheus_config.enable
    assert parsed.prometheus_config.path == "/monitoring/prometheus/metrics"


def test_ssl_config(messages):
    parsed = text_format.Parse(read("ssl.config.example"), messages["SSLConfig"]())
    assert parsed.server_key.startswith("-----BEGIN PRIVATE KEY-----\n")
    assert parsed.server_cert.endswith("-----END CERTIFICATE-----\n")
    assert not parsed.client_verify


@pytest.mark.parametrize("file", ["compose.yaml", "Dockerfile", "deployment.yaml"])
def test_flags_are_the_servers_and_name_files_that_are_there(file):
    given = command_lines()[file]
    assert set(given) <= FLAGS
    assert given["model_config_file"] == "/config/models.config"
    for name, value in given.items():
        if name.endswith("_file"):
            assert value.startswith("/config/")
            assert (SERVING / Path(value).name).is_file()
    # Without these the labels that models.config shows would stop the server, and batching would do nothing.
    assert given["allow_version_labels_for_unavailable_models"] == "true"
    assert given["enable_batching"] == "true"


# --- Docker --------------------------------------------------------------------------------------


def test_compose_file_follows_the_specification():
    schema = resources.files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json"
    jsonschema.validate(compose(), json.loads(schema.read_text()))


def test_compose_file_mounts_what_is_there():
    services = compose()["services"]
    for service in services.values():
        for volume in service["volumes"]:
            source, target, mode = re.fullmatch(r"(.+?):(/.*):(ro)", volume).groups()
            assert mode == "ro"
            if not source.startswith("$"):
                assert (SERVING / source).exists(), source
            else:
                assert (source, target) == ("${MODELS:-../models}", "/models")
    assert ".:/config:ro" in services["tensorflow-serving"]["volumes"]


def test_compose_file_publishes_to_this_machine_alone():
    for service in compose()["services"].values():
        for port in service["ports"]:
            address, outside, inside = port.split(":")
            assert (address, outside) == ("127.0.0.1", inside)
    assert {name for name, s in compose()["services"].items() if not s.get("profiles")} == {
        "tensorflow-serving"
    }


def test_images_are_pinned():
    images = [service["image"] for service in compose()["services"].values()]
    images += [rest for name, rest in dockerfile() if name == "FROM"]
    images += [container["image"] for container in deployment()["containers"]]
    for image in images:
        assert re.fullmatch(r"[\w/-]+:v?\d+\.\d+\.\d+", image), image
    serving = {image for image in images if image.startswith("tensorflow")}
    assert serving == {IMAGE}
    assert images.count(IMAGE) == 3


@pytest.mark.parametrize(("step", "healthy"), [(None, True), ("NOT_FOUND", False), ("UNAVAILABLE", False)])
def test_healthcheck_needs_a_loaded_version(step, healthy):
    """The check's own command, against a server: bash alone, as the image has no curl."""
    test = compose()["services"]["tensorflow-serving"]["healthcheck"]["test"]
    assert test[:3] == ["CMD", "bash", "-c"]
    script = Script(*([step] if step else []))
    with rest_server(script) as url:
        port = url.rsplit(":", 1)[1]
        command = test[3].replace("$$", "$").replace("/8501", f"/{port}")
        result = subprocess.run(["bash", "-c", command], capture_output=True, timeout=10)
    assert (result.returncode == 0) == healthy
    assert script.asked[0][0] == f"{MODEL_PATH}/metadata"


def test_healthcheck_needs_a_server():
    test = compose()["services"]["tensorflow-serving"]["healthcheck"]["test"]
    command = test[3].replace("$$", "$").replace("/8501", "/1")
    assert subprocess.run(["bash", "-c", command], capture_output=True, timeout=10).returncode != 0


def test_dockerfile_copies_what_is_there_to_where_it_is_read():
    copied = {}
    for name, rest in dockerfile():
        if name == "COPY":
            *sources, target = rest.split()
            assert target.endswith("/")
            for source in sources:
                if source == "models/":  # the exports, which are the operator's
                    assert target == "/models/"
                else:
                    assert (SERVING.parent / source).is_file()
                    copied[target + Path(source).name] = source
    named = {value for key, value in command_lines()["Dockerfile"].items() if key.endswith("_file")}
    assert named == set(copied)
    assert dict(dockerfile())["USER"] == "1000:1000"


def test_docker_is_sent_what_it_copies():
    lines = read("Dockerfile.dockerignore").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == [
        "*",
        "!models",
        "!serving",
        "**/.tmp-*",
    ]


# --- Kubernetes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("file", sorted(documents()))
def test_manifest_follows_kubernetes_schema(file):
    kubernetes_validate.validate(documents()[file], KUBERNETES, strict=True)


def test_a_mistake_in_a_manifest_would_be_found():
    broken = documents()["deployment.yaml"]
    broken["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readinesProbe"):
        kubernetes_validate.validate(broken, KUBERNETES, strict=True)


def test_kustomization_takes_in_every_file():
    kustomization = yaml.safe_load(read("kustomization.yaml"))
    assert set(kustomization["resources"]) == {f"kubernetes/{name}" for name in documents()}
    (config,) = kustomization["configMapGenerator"]
    assert config["name"] == deployment()["volumes"][1]["configMap"]["name"] == "googlenet-config"
    named = {v for k, v in command_lines()["deployment.yaml"].items() if k.endswith("_file")}
    assert {f"/config/{file}" for file in config["files"]} == named
    for file in config["files"]:
        assert (SERVING / file).is_file()  # Kustomize reads none above its own folder


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_builds():
    built = subprocess.run(
        ["kubectl", "kustomize", SERVING], capture_output=True, text=True, check=True
    ).stdout
    objects = {item["kind"]: item for item in yaml.safe_load_all(built)}
    assert len(objects) == len(documents()) + 1
    config = objects["ConfigMap"]
    assert config["data"]["models.config"] == read("models.config")
    volumes = objects["Deployment"]["spec"]["template"]["spec"]["volumes"]
    assert {"configMap": {"name": config["metadata"]["name"]}, "name": "config"} in volumes
    for item in objects.values():
        kubernetes_validate.validate(item, KUBERNETES, strict=True)


def test_probes_ask_what_tells():
    """Ready is what has metadata; alive is what answers at all, whatever its model does."""
    (container,) = deployment()["containers"]
    paths = {
        kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")
    }
    metadata = f"{MODEL_PATH}/metadata"
    assert paths == {"startup": metadata, "readiness": metadata, "liveness": MODEL_PATH}
    assert {container[f"{kind}Probe"]["httpGet"]["port"] for kind in paths} == {"rest"}


def test_a_rollout_and_a_drain_leave_a_pod_serving():
    files = documents()
    strategy = files["deployment.yaml"]["spec"]["strategy"]["rollingUpdate"]
    assert (strategy["maxUnavailable"], strategy["maxSurge"]) == (0, 1)
    assert (
        files["disruption-budget.yaml"]["spec"]["minAvailable"]
        < files["autoscaler.yaml"]["spec"]["minReplicas"]
    )
    assert "replicas" not in files["deployment.yaml"]["spec"]  # each apply would undo the autoscaler
    target = files["autoscaler.yaml"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", files["deployment.yaml"]["metadata"]["name"])
    assert deployment()["containers"][0]["resources"]["requests"]["cpu"]  # of which the target is a share


def test_pods_are_found_by_their_labels():
    files = documents()
    labels = files["deployment.yaml"]["spec"]["template"]["metadata"]["labels"]
    assert files["deployment.yaml"]["spec"]["selector"]["matchLabels"] == labels
    assert files["service.yaml"]["spec"]["selector"] == labels
    for name in ("disruption-budget.yaml", "network-policy.yaml"):
        spec = files[name]["spec"]
        assert (spec.get("selector") or spec["podSelector"])["matchLabels"] == labels


def test_pods_run_with_no_more_rights_than_they_need():
    spec = deployment()
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["automountServiceAccountToken"] is False
    context = container["securityContext"]
    assert context["readOnlyRootFilesystem"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"]["drop"] == ["ALL"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in spec["volumes"]}
    assert mounts["models"]["readOnly"]
    claim = spec["volumes"][0]["persistentVolumeClaim"]["claimName"]
    assert claim == documents()["models-volume.yaml"]["metadata"]["name"]


# --- monitoring ----------------------------------------------------------------------------------


def test_ports_and_paths_agree(messages):
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse(read("models.config"), config)
    model = config.model_config_list.config[0]
    assert f"/v1/models/{model.name}" == MODEL_PATH
    monitoring = text_format.Parse(read("monitoring.config"), messages["MonitoringConfig"]())
    metrics = monitoring.prometheus_config.path

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


# --- TLS and the README --------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_takes_its_file(tmp_path):
    import trustme

    certificate = trustme.CA().issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "tls.key")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "tls.crt")
    text = (
        read("nginx.conf")
        .replace("/etc/nginx/tls", str(tmp_path))
        .replace("tensorflow-serving:", "127.0.0.1:")
    )
    (tmp_path / "nginx.conf").write_text(f"pid {tmp_path}/pid;\n{text}")
    result = subprocess.run(["nginx", "-t", "-c", tmp_path / "nginx.conf"], capture_output=True, text=True)
    assert "syntax is ok" in result.stderr  # its own folders may be missing


def test_nginx_keeps_the_metrics_inside():
    locations = re.findall(r"location (\S+) ", read("nginx.conf"))
    assert locations == ["/v1/"]
    limit = int(re.search(r"client_max_body_size (\d+)m;", read("nginx.conf"))[1])
    photograph = 1_400_000  # bytes: 64 MiB for 32 of them in base64
    assert 32 * len(base64.b64encode(bytes(photograph))) < limit * 2**20


def test_every_file_is_told_of_and_every_name_is_a_files():
    text = read("README.md")
    there = {str(file.relative_to(SERVING)) for file in SERVING.rglob("*") if file.is_file()}
    there = {name for name in there if "__pycache__" not in name} - {"README.md"}
    for name in there:
        assert f"`{name}`" in text or f"`{Path(name).parent}/`" in text, name
    named = set(re.findall(r"`([\w./-]+\.(?:yaml|yml|json|config|conf|txt|py|example|dockerignore))`", text))
    named -= {"ssl.config"}  # the operator's own
    assert named <= there


def test_readme_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", read("README.md")):
        assert target.startswith("https://") or (SERVING / target).exists(), target


def test_readme_numbers_are_the_packages(messages):
    from keras_googlenet.preprocessing import MAX_PIXELS

    millions = int(re.search(r"more than (\d+) million pixels", read("README.md"))[1])
    assert millions * 10**6 == MAX_PIXELS
    parsed = text_format.Parse(read("batching_parameters.txt"), messages["BatchingParameters"]())
    images, wait = re.search(r"up to (\d+) images .*?waits (\d+) ms", read("README.md"), re.DOTALL).groups()
    assert int(images) == parsed.max_batch_size.value
    assert int(wait) * 1000 == parsed.batch_timeout_micros.value


def test_readme_flags_are_the_servers():
    assert set(re.findall(r"--([a-z]+_\w+)", read("README.md"))) <= FLAGS
