"""The Kubernetes jobs of `examples/kubernetes`: by the schema, their parts agree, their options exist."""

from pathlib import Path

import kubernetes_validate
import yaml

from keras_googlenet.cli import app
from keras_googlenet.training.distribution import from_environment

FOLDER = Path(__file__).parents[1] / "examples/kubernetes"
SERVICE, CLAIM, JOB = yaml.safe_load_all((FOLDER / "training-job.yaml").read_text())
SCORING = yaml.safe_load((FOLDER / "scoring-job.yaml").read_text())
POD = JOB["spec"]["template"]["spec"]
CONTAINER = POD["containers"][0]


def test_manifests_follow_the_schema():
    for manifest in (SERVICE, CLAIM, JOB, SCORING):
        kubernetes_validate.validate(manifest, "1.33", strict=True)


def test_its_parts_agree():
    processes = JOB["spec"]["completions"]
    assert JOB["spec"]["parallelism"] == processes
    name, port = SERVICE["metadata"]["name"], SERVICE["spec"]["ports"][0]["port"]
    assert f"--coordinator-address={JOB['metadata']['name']}-0.{name}:{port}" in CONTAINER["args"]
    assert f"--processes={processes}" in CONTAINER["args"]
    assert POD["subdomain"] == name
    assert SERVICE["spec"]["selector"].items() <= JOB["spec"]["template"]["metadata"]["labels"].items()
    assert POD["volumes"][0]["persistentVolumeClaim"]["claimName"] == CLAIM["metadata"]["name"]
    assert from_environment({"JOB_COMPLETION_INDEX": "1"}) == {"process": "1"}


def test_its_options_exist():
    command, bound, _ = app.parse_args(CONTAINER["args"], exit_on_error=False, print_error=False)
    assert command.__name__ == "train"
    assert bound.arguments["distributed"]
    assert bound.arguments["resume"]
    assert bound.arguments["config"].data == "/volume/photos"


def test_scoring_has_a_share_for_each_pod():
    (container,) = SCORING["spec"]["template"]["spec"]["containers"]
    command, bound, _ = app.parse_args(container["args"], exit_on_error=False, print_error=False)
    assert command.__name__ == "predict"
    assert bound.arguments["shard"] == str(SCORING["spec"]["completions"])
    assert bound.args == ("/volume/images",)
