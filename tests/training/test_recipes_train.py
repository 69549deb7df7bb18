"""Every recipe trains, as a command, as it stands: two short epochs on small data."""

import json
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
from conftest import run_python

from keras_googlenet.run.recipes import RECIPES, recipe_options

CLASSES = ("cat", "dog", "frog")
LOAD = """
import sys
sys.modules["keras_googlenet"] = None
import keras
for file in sys.argv[1:]:
    assert not keras.saving.load_model(file).compiled
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A divided folder: 40 training images and 16 test images of each class."""
    folder, random = tmp_path_factory.mktemp("tiny"), np.random.default_rng(3)
    for part, count in (("train", 40), ("test", 16)):
        for name in CLASSES:
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 255, (40, 40, 3), dtype="uint8")
                cv2.imwrite(str(folder / part / name / f"{number}.png"), pixels)
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Where each recipe leaves its network for the last test."""
    return tmp_path_factory.mktemp("saved")


@pytest.mark.ci
@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(
            name, marks=[pytest.mark.slow] if name.endswith("_fast") else []
        )  # other widths of the best
        for name in RECIPES
    ],
)
def test_a_recipe_trains(recipe, images, saved, tmp_path):
    options = recipe_options(recipe)
    data = images / "train" if "test_split" in options else images  # a divided folder takes no other split
    extra = ["--image-size", "96", "--batch-size", "32"] if options["image_size"] == 224 else []
    command = ["train", "--recipe", recipe, "--data", str(data), "--run", "run", "--epochs", "2", *extra]
    done = subprocess.run(
        [sys.executable, "-m", "keras_googlenet.cli", *command], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert " training images of " in done.stdout
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["epochs"] == 2
    (tmp_path / "run/model.keras").rename(saved / f"{recipe}.keras")
    shutil.rmtree(tmp_path / "run")  # checkpoints of whole networks


@pytest.mark.ci
def test_what_recipes_save_loads_without_this_package(saved):
    files = sorted(map(str, saved.iterdir()))
    assert files
    run_python(LOAD, *files)
