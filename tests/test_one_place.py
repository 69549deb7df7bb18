"""What a user adds from outside: a file of its own is enough for the commands and their help to know it."""

import json
import subprocess
import sys

import pytest

ADDED = '''
from dataclasses import replace

import numpy as np

from keras_googlenet.data.augmentations import AUGMENTATIONS, ImageAugmentation
from keras_googlenet.data.sources import SOURCES, Source
from keras_googlenet.export.formats import FORMATS, Format
from keras_googlenet.network.variants import VARIANTS
from keras_googlenet.run.recipes import RECIPES
from keras_googlenet.weights.published import WEIGHTS


def noise(name, options):
    """Dark and bright images of so many pixels a side."""
    from keras_googlenet.data.parts import ImageData

    random = np.random.default_rng(options.seed)
    labels = np.arange(60) % 2
    images = random.integers(0, 100, (60, int(name), int(name), 1), "uint8")
    images += 100 * labels.astype("uint8")[:, None, None, None]
    train, test = (images[:40], labels[:40]), (images[40:], labels[40:])
    return ImageData.from_arrays(train, test, class_names=("dark", "bright"), seed=options.seed)


def mirrored(pixels, random):
    return pixels[::-1]


def mine():
    """Half an hour of nothing in particular."""
    return {"variant": "mine", "augment": ("upside",), "epochs": 1, "batch_size": 10}


def write(model, file, images):
    model.export(str(file), format="onnx", verbose=False)


def load(file):
    import onnxruntime

    session = onnxruntime.InferenceSession(file.read_bytes())
    return lambda pixels: session.run(None, {session.get_inputs()[0].name: pixels})[0]


SOURCES.append(Source("noise:", '"noise:SIDE"', noise))
AUGMENTATIONS["upside"] = ImageAugmentation(
    "upside", "upside down", lambda preprocessing, area: lambda image, draws: image[::-1], mirrored
)
light = VARIANTS["light_stem"]
few = [stage for stage in light.stages if not stage.name.startswith(("pool3", "pool4", "4", "5", "3b"))]
VARIANTS["mine"] = replace(light, name="mine", stages=tuple(few), auxiliary_heads=()).scaled(0.125)
RECIPES["mine"] = mine
FORMATS["mine"] = Format("mine", "a file for my runtime", ".mine", (), write, load)
WEIGHTS["mine"] = replace(WEIGHTS["bvlc"], name="mine", license="nobody's")

from keras_googlenet.cli import main

main()
'''


@pytest.fixture
def added(tmp_path):
    """The function that runs a command line with these additions, in `tmp_path`; its standard output."""
    (tmp_path / "added.py").write_text(ADDED)

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, "added.py", *arguments], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    return run


@pytest.mark.ci
def test_commands_and_their_help_know_what_is_added(added, tmp_path):
    told = " ".join(added("train", "--help").replace("│", " ").split())
    assert '"noise:SIDE"' in told
    assert "upside (upside down)" in told
    assert "mine" in added("recipes", "--names").split()
    assert "Half an hour of nothing in particular." in added("recipes")
    assert "nobody's" in added("weights", "list")
    added("train", "--recipe", "mine", "--data", "noise:28", "--image-size", "28", "--run", "run")
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert (summary["variant"], summary["test_images"]) == ("mine", 20)
    assert "mine (a file for my runtime)" in " ".join(added("export", "--help").replace("│", " ").split())
    added("export", "run", "--to", "network.mine", "--format", "mine")
    assert (tmp_path / "network.labels.txt").read_text().split() == ["dark", "bright"]
    added("sample", "image.png")
    (row,) = json.loads(added("predict", "image.png", "--model", "network.mine", "--json"))
    assert {each["label"] for each in row["top"]} == {"dark", "bright"}
