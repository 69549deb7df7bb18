"""What is shipped: the wheel, the README and the pages of the site."""

import ast
import itertools
import os
import re
import subprocess
import sys
import tomllib
import venv
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from conftest import run_python

import keras_googlenet

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_every_public_name_loads():
    for name in keras_googlenet.__all__:
        assert getattr(keras_googlenet, name).__doc__
        assert name in dir(keras_googlenet)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = keras_googlenet.no_such_name


@pytest.mark.ci
def test_a_saved_model_loads_after_a_lazy_import(tmp_path):
    path = tmp_path / "model.keras"
    keras_googlenet.GoogLeNet(input_shape=(80, 80, 1), classes=3).save(path)
    code = """
import sys, keras, keras_googlenet
assert "keras_googlenet.network.layers" not in sys.modules
print(keras.models.load_model(sys.argv[1]).count_params())
"""
    count = keras_googlenet.GoogLeNet(input_shape=(80, 80, 1), classes=3).count_params()
    assert run_python(code, str(path)).split()[-1] == str(count)


@pytest.mark.ci
def test_the_wheel_works_in_a_fresh_environment(tmp_path):
    """Built, installed alone in a new environment, and used with this environment's libraries."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "fresh", with_pip=True)
    python = tmp_path / "fresh/bin/python"
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True)
    code = """
import keras_googlenet
from keras_googlenet.data.bundled import sample_arrays
print(keras_googlenet.__file__)
print(len(sample_arrays()["test_images"]), keras_googlenet.GoogLeNet().count_params())
"""
    # Folders on PYTHONPATH run no .pth files, so the editable install of this checkout stays out.
    libraries = {"PYTHONPATH": str(Path(pytest.__file__).parents[1])}
    result = subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=True, env=libraries, cwd=tmp_path
    )
    file, figures = result.stdout.splitlines()[-2:]
    assert file.startswith(str(tmp_path / "fresh"))
    assert figures == "1000 13378280"
    command = [tmp_path / "fresh/bin/keras-googlenet", "--version"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=libraries)
    assert printed.stdout.strip() == keras_googlenet.__version__
    deploy = [tmp_path / "fresh/bin/keras-googlenet", "deploy", tmp_path / "deployment", "--model", "shoes"]
    subprocess.run(deploy, capture_output=True, check=True, env=libraries)
    assert '"shoes"' in (tmp_path / "deployment/models.config").read_text()
    listed = subprocess.run(
        [python, "-m", "zipfile", "-l", wheel], capture_output=True, text=True, check=True
    )
    served = ("serving/page/index.html", "serving/page/page.js", "serving/files/compose.yaml")
    for name in ("py.typed", "data/sample/LICENSE", "licenses/LICENSE", *served):
        assert name in listed.stdout


PRIVATE_PARTS = {  # whose private names the package uses or overrides
    "keras": "_get_variable_index",
    "keras-tuner": "_compute_values_hash",
    "tensorflow": "raw_ops",
}


def requirements():
    """Name, then bounds, of every requirement in pyproject.toml; but for tools, which change nothing here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    found = [re.fullmatch(r"([\w-]+)(?:\[[\w-]+\])?(.*)", line).groups() for line in lines]
    return [(name, bounds.split(",")) for name, bounds in found]


def test_every_dependency_has_a_lower_bound_that_ci_tests():
    for name, bounds in requirements():
        assert bounds[0].startswith(">="), name
    workflow = yaml.safe_load((ROOT / ".github/workflows/lowest-versions.yml").read_text())
    job = workflow["jobs"]["tests"]
    assert "lowest-direct" in job["strategy"]["matrix"]["resolution"]
    assert any("--resolution ${{ matrix.resolution }}" in step.get("run", "") for step in job["steps"])


@pytest.mark.parametrize("package", PRIVATE_PARTS)
def test_what_has_private_parts_in_use_ends_at_the_next_minor_version(package):
    source = "".join(file.read_text() for file in (ROOT / "keras_googlenet").rglob("*.py"))
    assert PRIVATE_PARTS[package] in source  # else the bound is needless
    installed = [int(part) for part in version(package).split(".")[:2]]
    bounds = [bounds for name, bounds in requirements() if name == package]
    assert bounds
    for _, upper in bounds:
        assert upper == f"<{installed[0]}.{installed[1] + 1}"


def test_actions_are_pinned_by_commit():
    for file in (ROOT / ".github/workflows").glob("*.yml"):
        for line in re.findall(r"uses: (.*)", file.read_text()):
            assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", line), line


def test_the_map_is_true():
    """Every file and folder that the map names exists, and it names every one of the package."""
    design = (ROOT / "docs/design.md").read_text()
    block = design.split("## Map")[1].split("```")[1].strip()
    named, parent = set(), ROOT
    for line in block.splitlines():
        path = line.split()[0]
        parent = parent if line.startswith("  ") else ROOT
        assert (parent / path).exists(), path
        named.add(parent / path.rstrip("/"))
        parent = ROOT / path if not line.startswith("  ") else parent
    package = {p for p in (ROOT / "keras_googlenet").iterdir() if p.suffix == ".py" or p.is_dir()}
    unnamed = {p.name for p in package - named} - {"__init__.py", "__pycache__"}
    assert unnamed == set()


def test_readme_is_short():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert len(text.split()) <= 1500


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_pictures_exist(page):
    """On the repository. `docs/reference/cli.md` is of the site alone, which `make docs` checks."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        file = page if not path else Path(os.path.normpath(page.parent / path))
        if file == ROOT / "docs/reference/cli.md":
            continue
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            plain = [re.sub(r"[^\w -]", "", heading).lower() for heading in headings]
            assert anchor in [heading.replace(" ", "-") for heading in plain], target


def test_troubleshooting_quotes_messages_of_the_code():
    """With an ellipsis for what differs, and options as the command line names them."""
    messages = set()
    for file in (ROOT / "keras_googlenet").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                messages.add(node.value)
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                messages.add("".join(parts))

    def flagged(text):
        return re.sub(r"`(\w+)`", lambda name: "--" + name[1].replace("_", "-"), text)

    found = [flagged(text) for text in messages]
    page = (ROOT / "docs/troubleshooting.md").read_text().split("## Not an error message")[0]
    quoted = re.findall(r"^\| (`+)(.+?)\1 \| ", page, re.MULTILINE)
    assert len(quoted) >= 25
    for _, message in quoted:
        fixed = [part for part in flagged(message.strip()).split("…") if len(part) > 4]
        assert fixed, message
        assert any(all(part in text for part in fixed) for text in found), message


@pytest.mark.ci
def test_the_site_builds_strictly(tmp_path):
    pytest.importorskip("mkdocs")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    result = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "--group-duplicates" in (tmp_path / "reference/cli/index.html").read_text()
    assert "aux_dropout" in (tmp_path / "reference/networks/index.html").read_text()


@pytest.mark.slow
def test_demo_reaches_what_the_pages_say(tmp_path):
    demo = [sys.executable, str(ROOT / "examples/demo.py")]
    for _ in range(2):
        result = subprocess.run(demo, cwd=tmp_path, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr[-2000:]
        summary = yaml.safe_load((tmp_path / "runs/demo/summary.json").read_text())
        assert summary["test_images"] >= 1000
        assert summary["test_accuracy"] >= 0.86
        assert "truth 'Ankle boot'" in result.stdout
    assert (tmp_path / "runs/demo-1/summary.json").is_file()


PROGRAM = """
import numpy as np
from keras_googlenet import GoogLeNet, load
model = GoogLeNet(variant="short", classes=3, input_shape=(32, 32, 3), aux_heads=False)
model.predict(np.zeros((2, 32, 32, 3)), verbose=0)
load("cifar10").predict(np.zeros((32, 32, 3), np.uint8))
"""


@pytest.mark.ci
@pytest.mark.parametrize("level", [None, "0"])
def test_tensorflow_logs_nothing_unless_asked_to(level):
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    if level is not None:
        environment["TF_CPP_MIN_LOG_LEVEL"] = level
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert (done.stderr == "") == (level is None)
    assert done.stdout == ""


@pytest.mark.ci
@pytest.mark.parametrize(
    "line",
    [
        "-c 'from keras_googlenet import GoogLeNet'",
        f"-m keras_googlenet predict {ROOT}/docs/demo_confusion.png --weights fashion_mnist",
    ],
)
def test_a_process_without_standard_error_works(line):
    subprocess.run(["sh", "-c", f"{sys.executable} {line} 2>&-"], check=True, stdout=subprocess.DEVNULL)
