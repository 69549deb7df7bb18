"""A page about runs says what they left."""

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from keras_googlenet import RunConfig, UserError, evaluate
from keras_googlenet.cli import app
from keras_googlenet.evaluation import results_page
from keras_googlenet.run.recipes import RECIPES, recipe_options


def parsed(command):
    """The options that the command line makes of a command."""
    program, *words = shlex.split(command)
    assert program == "keras-googlenet"
    _, bound, *_ = app.parse_args(words, exit_on_error=False, print_error=False)
    return bound.arguments["config"]


def test_the_command_writes_what_a_run_left(command, finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "shoes")
    (run / "notes.txt").write_text("Only to see it work.\n")
    to = tmp_path / "new/results"
    assert command("results", run, "--to", to) == (0, f"{to / 'results.md'}\n", "")
    page = (to / "results.md").read_text()
    summary = json.loads((run / "summary.json").read_text())
    (row,) = [line for line in page.splitlines() if line.startswith("| [shoes](#shoes)")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert len(cells) == len(results_page.HEAD) - 1  # no published figures
    assert cells[2:6] == [str(summary["train_images"]), "80 x 80", "1", "float32"]
    assert cells[10] == f"**{summary['test_accuracy']:.4f}** of 4"
    assert "(curves.png)" in page
    assert summary["machine"] in page
    assert page.endswith("Only to see it work.\n")
    assert str(tmp_path) not in page
    assert str(finished_run.parent) not in page
    assert (to / "curves.png").read_bytes().startswith(b"\x89PNG")

    before = (to / "results.md").stat().st_mtime_ns
    code, out, error = command("results", run, "--to", to)
    assert (code, out) == (2, "")
    assert error == f"error: expected --to to be a new folder, got {to}, which exists\n"
    assert (to / "results.md").stat().st_mtime_ns == before


def test_runs_that_differ_in_their_seed_share_a_row_and_a_panel(finished_run, tmp_path, monkeypatch):
    one = results_page.read_result(finished_run)
    other = replace(one, config=replace(one.config, seed=1), summary=one.summary | {"test_accuracy": 0.25})
    page = results_page.page([one, other], "c.png")
    mean = (one.summary["test_accuracy"] + 0.25) / 2
    assert page.count("| [finished](#finished)") == 1
    assert f"**{mean:.4f}** ±" in page
    assert "seed 0 (" in page
    assert "1 (0.2500)" in page

    figures = []

    def recorded(**options):
        figures.append(Figure(**options))
        return figures[0]

    monkeypatch.setattr(results_page, "Figure", recorded)
    results_page.draw([one, other], tmp_path / "curves.png")
    (axes,) = figures[0].axes
    assert axes.get_title() == "finished (2 seeds)"
    assert len(axes.get_legend().get_texts()) == len({line.get_label() for line in axes.lines})
    assert len(axes.lines) == 2 * len(axes.get_legend().get_texts())


def test_command_makes_the_same_run(finished_run):
    result = results_page.read_result(finished_run)
    made = parsed(results_page.command(result))
    assert made.differences(result.config) == ["data", "variant"]  # whose folders above are left out
    assert made.data == Path(result.config.data).name
    assert made.variant == Path(result.config.variant).name


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"aux_heads": False, "class_weights": True, "augment": (), "classes": ("a b", "c"), "epochs": 7},
        {"aux_heads": True, "augment": ("paper", "mixup"), "average": 0.5, "precision": "float32"},
    ],
)
def test_command_tells_a_recipe_and_what_differs(finished_run, name, changes):
    options = {"data": "sample"} | recipe_options(name) | changes
    config = RunConfig(**options, run="runs/x", recipe=name)
    figures = results_page.read_result(finished_run).__dict__ | {"config": config, "recipe": name}
    command = results_page.command(results_page.Result(**figures))
    assert parsed(command).differences(config) == []
    if not changes and "data" in recipe_options(name):
        assert command == f"keras-googlenet train --recipe {name} --run runs/finished"


@pytest.mark.parametrize("missing", ["config.json", "metrics.csv", "summary.json"])
def test_an_unfinished_run_is_an_error(command, finished_run, tmp_path, missing):
    run = shutil.copytree(finished_run, tmp_path / "run")
    (run / missing).unlink()
    code, out, error = command("results", finished_run, run, "--to", tmp_path / "r")
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert f"{run} is not a finished run: {missing} is missing" in error
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("damage", [b"\xff", b"{"])
def test_damaged_remarks_and_evaluations_are_errors(finished_run, tmp_path, damage):
    run = shutil.copytree(finished_run, tmp_path / "run")
    (run / "evaluation").mkdir()
    file = run / ("notes.txt" if damage == b"\xff" else "evaluation/evaluation.json")
    file.write_bytes(damage)
    with pytest.raises(UserError, match=file.name):
        results_page.read_result(run)


@pytest.mark.parametrize(
    ("content", "message"), [("{", "is not a run.s summary"), ("{}", "its summary has no precision, ")]
)
def test_a_damaged_run_is_an_error(finished_run, tmp_path, content, message):
    run = shutil.copytree(finished_run, tmp_path / "run")
    (run / "summary.json").write_text(content)
    with pytest.raises(UserError, match=message):
        results_page.read_result(run)


def test_durations():
    assert [results_page.duration(s) for s in (4.4, 100, 3600, 12 * 3600 + 65)] == [
        "4 s",
        "2 min",
        "60 min",
        "12 h 01 min",
    ]


def test_figures_with_views_are_averaged_where_the_views_are_alike(finished_run):
    one = replace(results_page.read_result(finished_run), views=(6, 0.9))
    place = results_page.HEAD.index("with views")
    alike, other = (replace(one, views=(count, 0.8)) for count in (6, 2))
    assert results_page.row([one, alike], {})[place].endswith("(6)")
    assert results_page.row([one, other], {})[place] == ""


def test_views_are_of_the_run_alone_on_its_own_test_images(finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    data = json.loads((run / "config.json").read_text())["data"]
    own = json.loads(evaluate(run, views=2).to_json())
    others = (
        {"top1": 0.11, "models": own["models"] * 2}, {"top1": 0.12, "data": "tfds:other"},
        {"top1": 0.13, "part": "train"}, {"views": 1},
    )  # fmt: skip
    for number, change in enumerate(({}, *others)):
        folder = run / f"evaluation-{number}"
        folder.mkdir()
        (folder / "evaluation.json").write_text(json.dumps(own | change))
    assert results_page.with_views(run, data) == (2, own["top1"])
