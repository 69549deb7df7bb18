"""The scripts write where they are told; what `make_results.py` says of runs is what they left."""

import gzip
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_googlenet import RunConfig, UserError
from keras_googlenet.cli import app
from keras_googlenet.run.recipes import RECIPES, recipe_options

ROOT = Path(__file__).parents[1]


@pytest.fixture
def make_results(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import make_results

    return make_results


def parsed(command):
    """The options that the command line makes of a command."""
    program, *words = shlex.split(command)
    assert program == "keras-googlenet"
    _, bound, *_ = app.parse_args(words, exit_on_error=False, print_error=False)
    return bound.arguments["config"]


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


def test_page_tells_what_the_run_left(make_results, finished_run, tmp_path):
    (tmp_path / "docs").mkdir()
    run = shutil.copytree(finished_run, tmp_path / "shoes")
    (run / "notes.txt").write_text("Only to see it work.\n")
    make_results.main([str(run), "--to", str(tmp_path / "R.md"), "--picture", str(tmp_path / "docs/c.png")])
    page = (tmp_path / "R.md").read_text()
    summary = json.loads((run / "summary.json").read_text())
    (row,) = [line for line in page.splitlines() if line.startswith("| [shoes](#shoes)")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert len(cells) == len(make_results.HEAD)
    assert cells[2:6] == [str(summary["train_images"]), "80 x 80", "1", "float32"]
    assert cells[10] == f"**{summary['test_accuracy']:.4f}** of 4"
    assert "(docs/c.png)" in page
    assert summary["machine"] in page
    assert page.endswith("Only to see it work.\n")
    assert str(tmp_path) not in page
    assert str(finished_run.parent) not in page
    assert (tmp_path / "docs/c.png").read_bytes().startswith(b"\x89PNG")


def test_command_makes_the_same_run(make_results, finished_run):
    result = make_results.read_result(finished_run)
    made = parsed(make_results.command(result))
    assert made.differences(result.config) == ["data", "variant"]  # whose folders above are left out
    assert made.data == Path(result.config.data).name
    assert made.variant == Path(result.config.variant).name


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"aux_heads": False, "class_weights": True, "augment": (), "classes": ("a b", "c"), "epochs": 3},
        {"aux_heads": True, "augment": ("paper", "mixup"), "average": 0.5, "precision": "float32"},
    ],
)
def test_command_tells_a_recipe_and_what_differs(make_results, finished_run, name, changes):
    options = {"data": "sample"} | recipe_options(name) | changes
    config = RunConfig(**options, run="runs/x", recipe=name)
    figures = make_results.read_result(finished_run).__dict__ | {"config": config, "recipe": name}
    command = make_results.command(make_results.Result(**figures))
    assert parsed(command).differences(config) == []
    if not changes and "data" in recipe_options(name):
        assert command == f"keras-googlenet train --recipe {name} --run runs/finished"


def test_a_run_is_of_the_recipe_it_is_named_after(make_results, finished_run, tmp_path):
    result = make_results.read_result(shutil.copytree(finished_run, tmp_path / "flowers17"))
    assert result.recipe == "flowers17"
    assert "sticks at 0.07" in make_results.row([result])[-1]
    assert set(make_results.PUBLISHED) == set(RECIPES)


@pytest.mark.parametrize("missing", ["config.json", "metrics.csv", "summary.json"])
def test_an_unfinished_run_is_an_error(make_results, finished_run, tmp_path, missing):
    run = shutil.copytree(finished_run, tmp_path / "run")
    (run / missing).unlink()
    with pytest.raises(UserError, match=f"no finished run: {missing} is missing"):
        make_results.main([str(run), "--to", str(tmp_path / "R.md"), "--picture", str(tmp_path / "c.png")])
    assert not (tmp_path / "R.md").exists()


@pytest.mark.parametrize(
    ("content", "message"), [("{", "is not a run.s summary"), ("{}", "its summary has no precision, ")]
)
def test_a_damaged_run_is_an_error(make_results, finished_run, tmp_path, content, message):
    run = shutil.copytree(finished_run, tmp_path / "run")
    (run / "summary.json").write_text(content)
    with pytest.raises(UserError, match=message):
        make_results.read_result(run)


def test_durations(make_results):
    assert [make_results.duration(s) for s in (4.4, 100, 3600, 12 * 3600 + 65)] == [
        "4 s",
        "2 min",
        "60 min",
        "12 h 01 min",
    ]
