"""The folder `serving/`, which an operator copies, as the tests of it read it.

Docker and a cluster are not at hand here. What cannot be parsed by the real thing is parsed by the published
schema, and names that no schema knows (flags, metrics) are compared with tables from the server's sources.
"""

import json
import re
from pathlib import Path

import yaml

SERVING = Path(__file__).parents[1] / "serving"
IMAGE = "tensorflow/serving:2.20.0"
MODEL_PATH = "/v1/models/googlenet"

# tensorflow_serving/model_servers/main.cc
FLAGS = {
    "allow_version_labels_for_unavailable_models", "batching_parameters_file", "enable_batching",
    "enable_per_model_batching_parameters", "model_config_file", "model_config_file_poll_wait_seconds",
    "monitoring_config_file", "rest_api_enable_cors_support", "rest_api_timeout_in_ms", "ssl_config_file",
    "tensorflow_inter_op_parallelism", "tensorflow_intra_op_parallelism",
}  # fmt: skip


def read(name):
    return (SERVING / name).read_text()


def documents():
    """The Kubernetes objects, by file."""
    files = sorted((SERVING / "kubernetes").glob("*.yaml"))
    return {file.name: yaml.safe_load(file.read_text()) for file in files}


def compose():
    return merged(read("compose.yaml"))


def with_storage():
    """The Kubernetes objects with the patch of storage/sync.yaml, by kind, as Kustomize merges them."""
    objects = {item["kind"]: item for item in documents().values()}
    for patch in yaml.safe_load_all(read("storage/sync.yaml")):
        if patch.pop("$patch", None) == "delete":
            del objects[patch["kind"]]
        else:
            objects[patch["kind"]] = patched(objects[patch["kind"]], patch)
    return objects


def patched(item, patch):
    """A strategic merge: of objects by field, of lists of named objects by name; `None` removes."""
    if isinstance(patch, dict) and isinstance(item, dict):
        fields = item | {name: patched(item.get(name), value) for name, value in patch.items()}
        return {name: value for name, value in fields.items() if value is not None}
    if isinstance(patch, list) and isinstance(item, list) and all("name" in each for each in patch):
        mine = {each["name"]: each for each in patch}
        names = {each["name"] for each in item}
        merged = [patched(each, mine.get(each["name"], {})) for each in item]
        return merged + [each for name, each in mine.items() if name not in names]
    return patch


def deployment():
    return documents()["deployment.yaml"]["spec"]["template"]["spec"]


def merged(text):
    """A compose file with its extension fields, which are anchors for YAML alone, left out."""
    return {name: value for name, value in yaml.safe_load(text).items() if not name.startswith("x-")}


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
