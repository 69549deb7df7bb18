"""Runs, checkpoints and exports that an earlier version wrote: `tests/artifacts/README.md` tells how."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from keras_googlenet.evaluation.evaluate import evaluate
from keras_googlenet.run import folder as run_folder

ARTIFACTS = Path(__file__).parent.parent / "artifacts"
SNEAKER = 0.90944481  # that version's answer for sneaker.png


@pytest.fixture
def artifacts(tmp_path):
    return Path(shutil.copytree(ARTIFACTS, tmp_path / "artifacts"))


def test_a_run_is_evaluated_to_the_same_figure(artifacts):
    summary = json.loads((artifacts / "run/summary.json").read_text())
    assert evaluate(artifacts / "run").top1 == summary["test_accuracy"]


@pytest.mark.ci
def test_a_run_is_exported_to_the_same_answer(command, artifacts):
    code, _, error = command("export", artifacts / "run", "--to", artifacts / "again")
    assert code == 0, error
    code, output, error = command(
        "predict", artifacts / "sneaker.png", "--model", artifacts / "again", "--json"
    )
    assert code == 0, error
    assert json.loads(output)[0]["probability"] == pytest.approx(SNEAKER, abs=1e-4)


def test_a_checkpoint_is_resumed_to_the_same_epochs(command, artifacts):
    run = artifacts / "unfinished"
    code, _, error = command("train", "--run", run, "--resume")
    assert code == 0, error
    expected = np.genfromtxt(artifacts / "resumed_metrics.csv", delimiter=",", names=True)
    found = np.genfromtxt(run / run_folder.METRICS, delimiter=",", names=True)
    assert found.dtype.names == expected.dtype.names
    expected["epoch"] += 1  # earlier versions counted from 0
    for name in expected.dtype.names:
        np.testing.assert_allclose(found[name], expected[name], atol=0.02)  # processors round differently


def test_an_export_answers_as_it_did(command, artifacts):
    check_answer(command, artifacts, artifacts / "models/shoes")


def check_answer(command, artifacts, model):
    code, output, error = command("predict", artifacts / "sneaker.png", "--model", model, "--json")
    assert code == 0, error
    (prediction,) = json.loads(output)
    assert prediction["label"] == "Sneaker"
    assert prediction["probability"] == pytest.approx(SNEAKER, abs=1e-4)
