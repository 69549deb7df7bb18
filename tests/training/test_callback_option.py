"""`train --callback`: trackers through their own Keras callbacks, as docs/guides/train.md has them."""

import csv
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.ci

TRACKING = """
import mlflow
from mlflow.keras import MlflowCallback


def mlflow_run():
    mlflow.set_tracking_uri("file:mlruns")
    mlflow.set_experiment("googlenet")
    mlflow.start_run()
    return MlflowCallback()


"""
OTHERS = """
def nothing():
    return None


def needs(one):
    return one
"""


@pytest.fixture
def train(tmp_path, image_folder, tiny_variant):
    """A function that runs `train` in a folder that holds `tracking.py`."""
    (tmp_path / "tracking.py").write_text(TRACKING)
    line = [
        *(sys.executable, "-m", "keras_googlenet", "train", "--data", image_folder, "--run", "run"),
        *("--variant", tiny_variant, "--image-size", "28", "--epochs", "2", "--batch-size", "8"),
    ]
    environment = os.environ | {"MLFLOW_ALLOW_FILE_STORE": "true"}

    def train(callback):
        return subprocess.run(
            [*line, "--callback", callback], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    return train


def test_mlflow_s_file_store(train, tmp_path):
    ran = train("tracking:mlflow_run")
    assert ran.returncode == 0, ran.stderr
    (file,) = tmp_path.glob("mlruns/*/*/metrics/val_accuracy")
    tracked = [float(line.split()[1]) for line in file.read_text().splitlines()]
    with (tmp_path / "run/metrics.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert tracked == pytest.approx([float(row["val_accuracy"]) for row in rows])
    assert [row["epoch"] for row in rows] == ["1", "2"]


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        ("other_callbacks", "expected --callback MODULE:FACTORY"),
        ("absent:factory", "No module named 'absent'"),
        ("other_callbacks:absent", "has no attribute 'absent'"),
        ("other_callbacks:needs", "missing 1 required positional argument"),
        ("other_callbacks:nothing", "to return a Keras callback, got NoneType"),
    ],
)
def test_mistakes(command, image_folder, tiny_variant, tmp_path, monkeypatch, callback, message):
    (tmp_path / "other_callbacks.py").write_text(OTHERS)
    monkeypatch.chdir(tmp_path)
    line = ["train", "--data", image_folder, "--run", "run", "--variant", tiny_variant, "--image-size", "28"]
    code, _, error = command(*line, "--callback", callback)
    assert code == 2
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "run").exists()
