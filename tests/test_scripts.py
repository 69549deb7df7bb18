"""The scripts write where they are told."""

import ast
import gzip
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from keras_googlenet.run.recipes import RECIPES

ROOT = Path(__file__).parents[1]


@pytest.fixture
def make_results(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import make_results

    return make_results


READ_BY_PLACE = {  # scripts that know where they are, for what they read or run
    "benchmarks/serving.py": 'Path(__file__).parents[1] / "serving/batching_parameters.txt"',
    "benchmarks/two_processes.py": "[sys.executable, __file__,",
    "scripts/site_pages.py": "ROOT = Path(__file__).parents[1]",
    "scripts/make_networks.py": 'Path(__file__).with_name("model_cards")',
}


def test_no_script_writes_to_its_own_repository():
    for folder in ("scripts", "benchmarks", "examples", "serving"):
        for script in (ROOT / folder).rglob("*.py"):
            text = script.read_text()
            known = READ_BY_PLACE.get(script.relative_to(ROOT).as_posix())
            assert text.count("__file__") == (known is not None and text.count(known)), script


def imports(script):
    """The full names of the modules that it imports from, anywhere in it."""
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def test_one_name_is_one_module():
    """All tests of a process share `sys.path` and `sys.modules`, so order would decide between two."""
    scripts = [path for folder in ("scripts", "benchmarks") for path in (ROOT / folder).glob("*.py")]
    tests = [path for path in (ROOT / "tests").rglob("*.py") if path.stem not in ("conftest", "__init__")]
    counts = Counter(path.stem for path in scripts + tests)
    assert [name for name, count in counts.items() if count > 1] == []
    folders = {path.parent.name for path in tests if not (path.parent / "__init__.py").exists()}
    allowed = {path.stem for path in scripts} | {"keras_googlenet"}
    for test in tests:
        found = [name for name in imports(test) if name.split(".")[0] in folders and name not in allowed]
        assert found == [], test


def run_script(name, *arguments, cwd):
    command = [sys.executable, str(ROOT / "scripts" / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


@pytest.mark.ci
def test_results_go_to_the_current_folder(finished_run, tmp_path):
    ours = {file: file.read_bytes() for file in (ROOT / "RESULTS.md", ROOT / "docs/results_curves.png")}
    result = run_script("make_results.py", finished_run, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, "wrote RESULTS.md and results_curves.png\n")
    assert {path.name for path in tmp_path.iterdir()} == {"RESULTS.md", "results_curves.png"}
    assert "(results_curves.png)" in (tmp_path / "RESULTS.md").read_text()
    assert ours == {file: file.read_bytes() for file in ours}

    (tmp_path / "RESULTS.md").write_text("mine")
    result = run_script("make_results.py", finished_run, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    last = result.stderr.splitlines()[-1]  # TensorFlow has notes of its own above
    assert last.startswith("error: RESULTS.md exists: pass --to RESULTS.md to replace it")
    assert (tmp_path / "RESULTS.md").read_text() == "mine"


def test_scaling_goes_to_the_current_folder(tmp_path):
    ours = (ROOT / "docs/scaling.md").read_bytes()
    result = run_script("make_scaling.py", "--results", ROOT / "benchmarks/results", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, "wrote scaling.md\n")
    assert [path.name for path in tmp_path.iterdir()] == ["scaling.md"]
    assert (ROOT / "docs/scaling.md").read_bytes() == ours


def test_sample_goes_to_the_current_folder(tmp_path):
    """Of ten images of each class, where the originals have thousands."""
    sample = ROOT / "keras_googlenet/data/sample/fashion_mnist.npz"
    ours = sample.read_bytes()
    (tmp_path / "originals").mkdir()
    for part in ("train", "t10k"):
        for kind, header, values in (
            ("images-idx3", 16, np.zeros((100, 28, 28), "uint8")),
            ("labels-idx1", 8, np.arange(100, dtype="uint8") % 10),
        ):
            content = gzip.compress(bytes(header) + values.tobytes())
            (tmp_path / "originals" / f"{part}-{kind}-ubyte.gz").write_bytes(content)
    result = run_script("make_sample.py", "originals", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("wrote fashion_mnist.npz: 100 + 100 images")
    assert sample.read_bytes() == ours


def test_the_repository_page_has_published_figures(make_results, finished_run, tmp_path):
    (tmp_path / "docs").mkdir()
    run = shutil.copytree(finished_run, tmp_path / "flowers17")
    make_results.main([str(run), "--to", str(tmp_path / "R.md"), "--picture", str(tmp_path / "docs/c.png")])
    page = (tmp_path / "R.md").read_text()
    (row,) = [line for line in page.splitlines() if line.startswith("| [flowers17]")]
    assert "sticks at 0.07" in row.split(" | ")[-1]
    assert "(docs/c.png)" in page
    assert (tmp_path / "docs/c.png").read_bytes().startswith(b"\x89PNG")
    assert set(make_results.PUBLISHED) == set(RECIPES)


def test_the_repository_page_is_of_today(make_results):
    """Its runs are gone: what does not come from them is as it would be made now."""
    from keras_googlenet.evaluation.results_page import HEAD, INTRODUCTION

    page = (ROOT / "RESULTS.md").read_text()
    assert page.startswith(f"# Results\n\n{INTRODUCTION}\n\n| {' | '.join(HEAD)} |\n")
    rows = [line for line in page.splitlines() if line.startswith("| [")]
    for line in rows:
        assert line.endswith(f"| {make_results.PUBLISHED[line[3 : line.index(']')]]} |")
    assert rows
