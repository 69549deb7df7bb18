"""The Kubernetes manifests: each by the published schema, and all of them agree."""

import shutil
import subprocess

import kubernetes_validate
import pytest
import yaml
from serving_folder import SERVING, command_lines, deployment, documents, read

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
