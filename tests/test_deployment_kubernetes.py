"""The Kubernetes manifests: each by the published schema, and all of them agree."""

import re
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from serving_folder import SERVING, command_lines, deployment, documents, read, with_storage

from keras_googlenet import cli
from keras_googlenet.serving.preview.metrics import read_path

KUBERNETES = "1.33"


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
    assert {f"/config/{file}" for file in config["files"]} == named | {"/config/ready.sh"}
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
    assert config["data"]["ready.sh"] == read("ready.sh")
    volumes = objects["Deployment"]["spec"]["template"]["spec"]["volumes"]
    assert {"configMap": {"name": config["metadata"]["name"]}, "name": "config"} in volumes
    for item in objects.values():
        kubernetes_validate.validate(item, KUBERNETES, strict=True)


def test_versions_from_object_storage():
    """The patch by the schema, with the objects that it is for; every word of its command is understood."""
    objects = with_storage()
    assert set(objects) == {item["kind"] for item in documents().values()} - {"PersistentVolumeClaim"}
    for item in objects.values():
        kubernetes_validate.validate(item, KUBERNETES, strict=True)
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    server, sync = pod["containers"]
    (first,) = pod["initContainers"]
    assert server == deployment()["containers"][0]
    assert [volume for volume in pod["volumes"] if volume["name"] == "models"] == [
        {"name": "models", "emptyDir": {"sizeLimit": "2Gi"}}
    ]
    for container in (first, sync):
        assert container["securityContext"] == server["securityContext"]
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        assert mounts["models"] == {"name": "models", "mountPath": "/models"}  # which it writes to
        _, bound, _ = cli.app.parse_args(container["args"], exit_on_error=False, print_error=False)
        assert bound.arguments["directory"] == Path("/models")
        assert ("every" in bound.arguments) == (container is sync)
    assert objects["NetworkPolicy"]["spec"]["egress"]
    lines = read("kustomization.yaml")
    uncommented = yaml.safe_load(re.sub(r"^# (patches:|  - path)", r"\1", lines, flags=re.MULTILINE))
    assert uncommented["patches"] == [{"path": "storage/sync.yaml"}]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_merges_the_patch_as_the_test_does(tmp_path):
    copy = shutil.copytree(SERVING, tmp_path / "serving")
    file = copy / "kustomization.yaml"
    file.write_text(re.sub(r"^# (patches:|  - path)", r"\1", file.read_text(), flags=re.MULTILINE))
    built = subprocess.run(["kubectl", "kustomize", copy], capture_output=True, text=True, check=True)
    pod = {item["kind"]: item for item in yaml.safe_load_all(built.stdout)}["Deployment"]["spec"]["template"]
    expected = with_storage()["Deployment"]["spec"]["template"]["spec"]
    for part in ("containers", "initContainers"):
        named = {each["name"]: each for each in pod["spec"][part]}
        assert named == {each["name"]: each for each in expected[part]}
    assert {"name": "models", "emptyDir": {"sizeLimit": "2Gi"}} in pod["spec"]["volumes"]


def test_probes_ask_what_tells():
    """Ready is what has metadata; alive is what answers at all, whatever its model does."""
    (container,) = deployment()["containers"]
    for kind in ("startup", "readiness"):
        assert container[f"{kind}Probe"]["exec"]["command"] == ["bash", "/config/ready.sh"]
        assert container[f"{kind}Probe"]["timeoutSeconds"] > 1
    metrics = {"path": read_path(SERVING / "monitoring.config"), "port": "rest"}
    assert container["livenessProbe"]["httpGet"] == metrics


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
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["resources"]["limits"]["memory"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in spec["volumes"]}
    assert mounts["models"]["readOnly"]
    claim = spec["volumes"][0]["persistentVolumeClaim"]["claimName"]
    assert claim == documents()["models-volume.yaml"]["metadata"]["name"]
