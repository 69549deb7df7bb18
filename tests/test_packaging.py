"""Workflows, issue forms and the Dockerfile: valid, pinned to the version, without needless permissions."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
FORMS = [ROOT / ".github/ISSUE_TEMPLATE" / name for name in ("bug.yml", "feature.yml")]


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", WORKFLOWS),
        ("vendor.github-issue-forms", FORMS),
        ("vendor.github-issue-config", [ROOT / ".github/ISSUE_TEMPLATE/config.yml"]),
    ],
)
def test_files_for_github_are_valid(schema, files):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *files]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


WRITES = {  # a job, and what it may write
    ("release.yml", "publish"): {"id-token": "write"},
    ("docs.yml", "publish"): {"contents": "write"},
}


def test_only_the_publishing_jobs_may_write():
    for file in WORKFLOWS:
        workflow = yaml.safe_load(file.read_text())
        assert workflow["permissions"] == {"contents": "read"}, file
        for name, job in workflow["jobs"].items():
            assert job.get("permissions") == WRITES.get((file.name, name)), (file, name)
    publish = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]["publish"]
    assert (publish["needs"], publish["environment"]) == ("build", "release")


@pytest.mark.parametrize(("tag", "code"), [("v0.1.0", 0), ("v0.1.1", 1), ("v0.1.0rc1", 1), ("0.1.0-", 1)])
def test_a_tag_that_is_not_the_version_is_refused(tag, code, tmp_path):
    """The release workflow's own step, on distributions named as the build names them."""
    steps = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]["build"]["steps"]
    (script,) = [step["run"] for step in steps if "Refuse a tag" in step.get("name", "")]
    (tmp_path / "dist").mkdir()
    for name in ("keras_googlenet-0.1.0-py3-none-any.whl", "keras_googlenet-0.1.0.tar.gz"):
        (tmp_path / "dist" / name).touch()
    environment = {"GITHUB_REF_NAME": tag, "PATH": os.environ["PATH"]}
    command = ["bash", "-e", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == code
    assert (f"tag {tag} does not match" in done.stdout) == bool(code)


def dockerfile():
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    return [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]


def test_the_image_gets_all_that_the_wheel_is_built_from():
    """Each COPY source exists and passes .dockerignore; the build reads no other file."""
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [
        source.rstrip("/") for name, rest in dockerfile() if name == "COPY" for source in rest.split()[:-1]
    ]
    assert sorted(copied) == sorted(sent)
    assert all((ROOT / source).exists() for source in copied)
    project = (ROOT / "pyproject.toml").read_text()
    for needed in ("README.md", "LICENSE", "keras_googlenet", "serving"):
        assert f'"{needed}"' in project or f"{needed} =" in project
        assert needed in copied


def test_the_image_runs_the_command_without_root():
    last = dict(dockerfile())
    assert last["USER"] == "1000:1000"
    assert yaml.safe_load(last["ENTRYPOINT"]) == ["keras-googlenet"]
    names = [name for name, _ in dockerfile()]
    assert names.index("ARG") < names.index("FROM")
    assert names.index("USER") > max(i for i, name in enumerate(names) if name == "RUN")
