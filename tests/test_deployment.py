"""The folder that an operator copies: the server's own files, Docker's, TLS and the README."""

import json
import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
import trustme
import yaml
from google.protobuf import text_format
from scripted_server import Script, rest_server
from serving_folder import (
    FLAGS,
    IMAGE,
    MODEL_PATH,
    SERVING,
    command_lines,
    compose,
    deployment,
    dockerfile,
    read,
)
from tensorflow_serving.config import model_server_config_pb2

from keras_googlenet import cli
from keras_googlenet.errors import UserError
from keras_googlenet.images.spec import SERVED_PIXELS
from keras_googlenet.serving.client.client import BATCH
from keras_googlenet.serving.client.images import BATCH_BYTES
from keras_googlenet.serving.deployment import deploy
from keras_googlenet.serving.page import POLICY
from keras_googlenet.serving.preview.batching_parameters import read_parameters
from keras_googlenet.serving.preview.metrics import read_path
from keras_googlenet.serving.preview.text_formats import message_types
from keras_googlenet.versions import WARMUP_BATCH_SIZES

# --- the server's own files ------------------------------------------------------------------------

SSL_CONFIG = {  # tensorflow_serving/config/ssl_config.proto
    "SSLConfig": (
        ("server_key", 1, "string"),
        ("server_cert", 2, "string"),
        ("custom_ca", 3, "string"),
        ("client_verify", 4, "bool"),
    )
}


def batching():
    """The batching parameters as the preview reads them, by the rules that TensorFlow Serving has."""
    return read_parameters(SERVING / "batching_parameters.txt")


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


def test_batching_parameters():
    parameters = batching()  # which refuses what would stop the server
    assert parameters.max_batch_size == 32
    assert parameters.batch_timeout_micros == 2000
    assert parameters.num_batch_threads == parameters.max_enqueued_batches > 0


def test_a_clients_request_fits_into_a_batch():
    assert batching().max_batch_size >= BATCH


def test_warm_up_fits_into_a_batch():
    """A larger one would fail, and with it the load of every export."""
    assert set(WARMUP_BATCH_SIZES) <= set(batching().allowed_batch_sizes)


def test_monitoring_config():
    assert read_path(SERVING / "monitoring.config") == "/monitoring/prometheus/metrics"


def test_ssl_config():
    parsed = text_format.Parse(read("ssl.config.example"), message_types(SSL_CONFIG)["SSLConfig"]())
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


# --- Docker ----------------------------------------------------------------------------------------


def test_compose_file_follows_the_specification():
    schema = resources.files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json"
    jsonschema.validate(compose(), json.loads(schema.read_text()))


def test_compose_file_of_the_sync():
    """It fills the folder that the server watches, and is confined as the server is."""
    part = yaml.safe_load(read("compose.storage.yaml"))
    schema = resources.files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json"
    jsonschema.validate(part, json.loads(schema.read_text()))
    (sync,), server = part["services"].values(), compose()["services"]["tensorflow-serving"]
    assert [f"{volume}:ro" for volume in sync["volumes"]] == server["volumes"][:1]
    for name in ("read_only", "tmpfs", "cap_drop", "security_opt", "restart", "user"):
        assert sync[name] == server[name]
    words = [re.sub(r"\$\{\w+:\?such as (.*)\}", r"\1", word) for word in sync["command"]]
    _, bound, _ = cli.app.parse_args(words, exit_on_error=False, print_error=False)
    assert bound.arguments["place"] == "s3://bucket/models"


def test_compose_file_mounts_what_is_there():
    services = compose()["services"]
    for service in services.values():
        for volume in service["volumes"]:
            source, target, mode = re.fullmatch(r"(.+?):(/[^:]*)(:ro)?", volume).groups()
            if mode is None:  # what Prometheus and Grafana keep
                assert source in compose()["volumes"]
            elif not source.startswith("$"):
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
        assert re.fullmatch(r"[\w/-]+:v?\d+\.\d+\.\d+(@sha256:[0-9a-f]{64})?", image), image
        assert "@" in image or image == IMAGE  # whose digest is not known here, which its files say
    serving = {image for image in images if image.startswith("tensorflow")}
    assert serving == {IMAGE}
    assert images.count(IMAGE) == 3


@pytest.mark.parametrize(("step", "healthy"), [(None, True), ("NOT_FOUND", False), ("UNAVAILABLE", False)])
def test_healthcheck_needs_a_loaded_version(step, healthy):
    """The check's own script, against a server."""
    script = Script(*([step] if step else []))
    with rest_server(script) as url:
        assert is_ready(SERVING / "models.config", url.rsplit(":", 1)[1]) == healthy
    assert script.asked[0][0] == f"{MODEL_PATH}/metadata"


def is_ready(config, port):
    """Whether `ready.sh` succeeds: in bash alone, as the image has no curl."""
    command = ["/bin/bash", str(SERVING / "ready.sh"), str(config), str(port)]
    result = subprocess.run(command, capture_output=True, timeout=10, env={"PATH": "/nowhere"})
    return result.returncode == 0


def test_healthcheck_needs_a_server_and_a_model(tmp_path):
    assert not is_ready(SERVING / "models.config", 1)
    (tmp_path / "models.config").write_text("model_config_list {}\n")
    assert not is_ready(tmp_path / "models.config", 1)
    assert not is_ready(tmp_path / "absent", 1)


def test_a_model_is_named_in_models_config_alone(tmp_path):
    """Renamed there, every health check asks for the new name, and of two models for both."""
    one = read("models.config").replace("googlenet", "flowers")
    config = one.replace("model_config_list {", 'model_config_list {\n  config { name: "birds" }')
    (tmp_path / "models.config").write_text(config)
    script = Script()
    with rest_server(script) as url:
        assert is_ready(tmp_path / "models.config", url.rsplit(":", 1)[1])
    asked = [path for path, *_ in script.asked]
    assert asked == ["/v1/models/birds/metadata", "/v1/models/flowers/metadata"]
    check = ["bash", "/config/ready.sh"]
    assert compose()["services"]["tensorflow-serving"]["healthcheck"]["test"] == ["CMD", *check]
    assert dict(dockerfile())["HEALTHCHECK"].endswith(f"CMD {json.dumps(check)}")
    for file in SERVING.rglob("*"):
        if file.suffix in (".yaml", ".yml", ".sh", ".conf", ".txt", ".json") or file.name == "Dockerfile":
            lines = [line for line in file.read_text().splitlines() if not line.strip().startswith("#")]
            assert "models/googlenet" not in "\n".join(lines), file


KEPT = {"prometheus": ["prometheus:/prometheus"], "grafana": ["grafana:/var/lib/grafana"]}


def test_services_can_write_nothing_and_gain_no_right():
    services = compose()["services"]
    assert len(services) == 3
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["tmpfs"] == ["/tmp"]
        assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
        written = [volume for volume in service["volumes"] if not volume.endswith(":ro")]
        assert written == KEPT.get(name, [])


def test_grafana_has_no_account():
    """A default password would be everyone's: it has viewers without a name, and no one else."""
    environment = compose()["services"]["grafana"]["environment"]
    assert environment == {
        "GF_AUTH_ANONYMOUS_ENABLED": "true",
        "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
        "GF_AUTH_BASIC_ENABLED": "false",
        "GF_AUTH_DISABLE_LOGIN_FORM": "true",
        "GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION": "true",
    }


def test_readme_warns_of_the_open_grpc_port():
    text = " ".join(read("README.md").split())
    assert "`HandleReloadConfigRequest`" in text
    assert "anyone who reaches the gRPC port" in text


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
    assert named | {"/config/ready.sh"} == set(copied)
    assert dict(dockerfile())["USER"] == "1000:1000"


def test_docker_is_sent_what_it_copies():
    lines = read("Dockerfile.dockerignore").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == [
        "*",
        "!models",
        "!serving",
        "**/.tmp-*",
    ]


# --- TLS and the README ----------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_takes_its_file(tmp_path):
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
    assert locations == ["=", "/page/", "/v1/"]
    assert POLICY in read("nginx.conf")
    limit = int(re.search(r"client_max_body_size (\d+)m;", read("nginx.conf"))[1])
    assert limit * 2**20 > 1.1 * BATCH_BYTES * 4 / 3  # in base64


# --- deploy ------------------------------------------------------------------------------------------


def test_deploy_writes_all_files_for_a_model(tmp_path):
    (tmp_path / "models/shoes/1").mkdir(parents=True)
    assert deploy(tmp_path / "new/deployment", str(tmp_path / "models/shoes")) == "shoes"
    folder = tmp_path / "new/deployment"
    written = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    there = {str(file.relative_to(SERVING)) for file in SERVING.rglob("*") if file.is_file()}
    there = {name for name in there if "__pycache__" not in name}
    of_page = {f"page/{name}" for name in ("index.html", "page.js", "style.css", "icon.svg")}
    assert written == there | of_page | {".env"}
    config = text_format.Parse(
        (folder / "models.config").read_text(), model_server_config_pb2.ModelServerConfig()
    )
    assert [(m.name, m.base_path) for m in config.model_config_list.config] == [("shoes", "/models/shoes")]
    assert (folder / ".env").read_text() == f"MODELS='{tmp_path / 'models'}'\n"
    assert '<meta name="models" content="shoes">' in (folder / "page/index.html").read_text()
    changed = {"models.config", ".env", "Dockerfile", "Dockerfile.dockerignore", *of_page}
    assert all((folder / name).read_bytes() == (SERVING / name).read_bytes() for name in written - changed)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["deployment"]
    dockerfile = (folder / "Dockerfile").read_text()
    assert re.findall(r"(?:deployment|serving)/[\w.]+", dockerfile.partition("FROM")[2]) == [
        "deployment/models.config", "deployment/batching_parameters.txt",
        "deployment/monitoring.config", "deployment/ready.sh",
    ]  # fmt: skip
    assert "!deployment" in (folder / "Dockerfile.dockerignore").read_text().splitlines()
    assert "FROM tensorflow/serving:" in dockerfile


def test_deploy_takes_a_name_alone(tmp_path):
    assert deploy(tmp_path / "deployment", "shoes") == "shoes"
    assert not (tmp_path / "deployment/.env").exists()


@pytest.mark.parametrize("name", ["", "a b", "../x", '"', "a/b", "-x", "é"])
def test_deploy_refuses_other_names(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").touch()
    with pytest.raises(UserError, match="expected a model's name"):
        deploy(tmp_path / "deployment", name)
    with pytest.raises(UserError, match="exists"):
        deploy(tmp_path / "there", "shoes")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


# --- the README --------------------------------------------------------------------------------------


def test_every_file_is_told_of_and_every_name_is_a_files():
    text = read("README.md")
    there = {str(file.relative_to(SERVING)) for file in SERVING.rglob("*") if file.is_file()}
    there = {name for name in there if "__pycache__" not in name} - {"README.md"}
    for name in there:
        assert f"`{name}`" in text or f"`{Path(name).parent}/`" in text, name
    named = set(
        re.findall(r"`([\w./-]+\.(?:yaml|yml|json|config|conf|txt|py|sh|example|dockerignore))`", text)
    )
    named -= {"ssl.config"}  # the operator's own
    assert named <= there


def test_readme_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", read("README.md")):
        assert target.startswith("https://") or (SERVING / target).exists(), target


def test_readme_numbers_are_the_packages():
    millions = int(re.search(r"more than (\d+) million pixels", read("README.md"))[1])
    assert millions * 10**6 == SERVED_PIXELS
    images, wait = re.search(r"up to (\d+) images .*?waits (\d+) ms", read("README.md"), re.DOTALL).groups()
    assert int(images) == batching().max_batch_size
    assert int(wait) * 1000 == batching().batch_timeout_micros


def test_readme_flags_are_the_servers():
    assert set(re.findall(r"--([a-z]+_\w+)", read("README.md"))) <= FLAGS
