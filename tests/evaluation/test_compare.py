"""Runs side by side."""

import shutil
from pathlib import Path

import pytest

from keras_googlenet import UserError
from keras_googlenet.evaluation.compare import plot_runs, read_run, table
from keras_googlenet.run.folder import read_metrics, summary

ARTIFACTS = Path(__file__).parents[1] / "artifacts"


@pytest.fixture
def runs(tmp_path):
    """A finished run, and one that has no test accuracy yet."""
    shutil.copytree(ARTIFACTS / "run", tmp_path / "first")
    shutil.copytree(ARTIFACTS / "run", tmp_path / "$second$")
    (tmp_path / "$second$/summary.json").unlink()
    return [tmp_path / "first", tmp_path / "$second$"]


def test_table(runs):
    first, second = table([read_run(run) for run in runs]).splitlines()[2:]
    figures, history = summary(runs[0]), read_metrics(runs[0])
    best = max(history.get("val_main_accuracy") or history["val_accuracy"])
    assert first.split()[0] == str(runs[0])
    assert first.split()[-2:] == [f"{best:.4f}", f"{figures['test_accuracy']:.4f}"]
    assert first.split()[4] == str(len(history["loss"]))
    assert second.split()[-3:] == ["-", f"{best:.4f}", "-"]


def test_picture(runs, tmp_path):
    plot_runs([read_run(run) for run in runs], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_without_an_epoch(runs):
    (runs[0] / "metrics.csv").unlink()
    with pytest.raises(UserError, match="has no finished epoch"):
        read_run(runs[0])


@pytest.mark.ci
def test_command(command, runs, tmp_path):
    code, out, _ = command("compare", *runs, "--to", tmp_path / "new.png")
    assert code == 0
    assert out.splitlines()[-1] == str(tmp_path / "new.png")
    for arguments, message in (
        ([], "expected the folders of runs"),
        ([*runs, "--to", tmp_path / "new.png"], "expected --to to be a new .png file"),
        ([*runs, "--to", tmp_path / "new.txt"], "expected --to to be a new .png file"),
    ):
        code, out, error = command("compare", *arguments)
        assert (code, out) == (2, "")
        assert message in error
