"""The networks that come with the package: what their cards state, and all the ways they are named."""

import json
import os
import zipfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from conftest import run_python

from keras_googlenet import GoogLeNet, evaluate, load, shipped_names
from keras_googlenet.cli.help import EXAMPLES
from keras_googlenet.data.bundled import sample_arrays
from keras_googlenet.network.architecture import Architecture
from keras_googlenet.weights.shipped import FOLDER

NAMES = shipped_names()
LARGEST_FILE, LARGEST_TOGETHER = 8e6, 16e6  # bytes
WHOLE_SETS = os.environ.get("KERAS_GOOGLENET_TEST_SETS")  # a folder with `cifar10/` and `fashion_mnist/`

LOAD = """
import sys
sys.modules["keras_googlenet"] = None
import keras
model = keras.saving.load_model(sys.argv[1])
assert {w.dtype for w in model.weights} == {"float32"}, {w.dtype for w in model.weights}
"""


@pytest.fixture
def photos(tmp_path):
    """A folder of two classes with names of both networks', divided, of pictures of the sample."""
    arrays = sample_arrays()
    for part in ("train", "test"):
        for name, label in (("Sneaker", 7), ("Bag", 8)):
            folder = tmp_path / "photos" / part / name
            folder.mkdir(parents=True)
            for number, pixels in enumerate(arrays[f"{part}_images"][arrays[f"{part}_labels"] == label][:12]):
                cv2.imwrite(str(folder / f"{number}.png"), pixels)
    return tmp_path / "photos"


def test_there_are_some_and_they_are_small():
    assert NAMES == ["cifar10", "fashion_mnist"]
    sizes = [(FOLDER / name / "model.keras").stat().st_size for name in NAMES]
    assert max(sizes) <= LARGEST_FILE
    assert sum(sizes) <= LARGEST_TOGETHER


def test_an_example_of_the_help_names_blocks_that_the_network_has():
    (line,) = EXAMPLES["explain"]
    words = line.split()
    blocks = {after for word, after in pairwise(words) if word == "--blocks"}
    name = words[words.index("--weights") + 1]
    architecture = Architecture.from_json((FOLDER / name / "architecture.json").read_text())
    assert blocks
    assert blocks <= {block.name for block in architecture.blocks}


@pytest.mark.parametrize("name", NAMES)
def test_a_card_states_what_its_folder_holds(name):
    card = (FOLDER / name / "README.md").read_text()
    summary = json.loads((FOLDER / name / "summary.json").read_text())
    assert "$" not in card
    assert f"**{summary['test_accuracy']:.4f}**" in card
    assert f"on {summary['test_images']:,} images" in card
    config = (FOLDER / name / "config.json").read_text()
    assert '"/' not in config  # no path of a machine


@pytest.mark.parametrize("name", NAMES)
def test_plain_keras_loads_it_in_float32(name):
    run_python(LOAD, str(FOLDER / name / "model.keras"))


@pytest.mark.parametrize("name", NAMES)
def test_the_factory_builds_it(name):
    classifier, model = load(name), GoogLeNet(weights=name, aux_heads=False)
    images = np.random.default_rng(0).uniform(-1, 1, (2, *model.input_shape[1:])).astype("float32")
    np.testing.assert_allclose(
        model.predict(images, verbose=0), classifier.model.predict(images, verbose=0), atol=1e-5
    )
    features = GoogLeNet(weights=name, include_top=False, pooling="avg")
    assert features.predict(np.zeros((1, 48, 48, model.input_shape[-1])), verbose=0).shape[0] == 1


def test_fashion_mnist_on_the_bundled_held_out_images():
    arrays, classifier = sample_arrays(), load("fashion_mnist")
    stated = json.loads((FOLDER / "fashion_mnist/summary.json").read_text())["test_accuracy"]
    found = classifier.predict(list(arrays["test_images"]), batch_size=500)
    right = np.mean(
        [one.label == classifier.class_names[y] for one, y in zip(found, arrays["test_labels"], strict=True)]
    )
    assert right == pytest.approx(stated, abs=0.025)  # three deviations of a thousand draws


@pytest.mark.slow
@pytest.mark.skipif(WHOLE_SETS is None, reason="KERAS_GOOGLENET_TEST_SETS names no folder")
@pytest.mark.parametrize("name", NAMES)
def test_the_whole_test_sets(name):
    stated = json.loads((FOLDER / name / "summary.json").read_text())
    assert evaluate(name, str(Path(WHOLE_SETS) / name), part="test").top1 == pytest.approx(
        stated["test_accuracy"], abs=5e-4
    )


@pytest.mark.ci
@pytest.mark.parametrize("name", ["fashion_mnist", pytest.param("cifar10", marks=pytest.mark.slow)])
def test_every_command_takes_its_name(name, command, photos, tmp_path):
    image = str(next(photos.rglob("*.png")))
    code, output, error = command("predict", image, "--weights", name, "--json")
    assert code == 0, error
    (answer,) = json.loads(output)
    assert answer["label"] in load(name).class_names
    assert answer["image"] == image
    code, _, error = command("export", name, "--to", tmp_path / "model", "--cam", "--no-warmup")
    assert code == 0, error
    code, output, error = command("predict", image, "--model", tmp_path / "model", "--json")
    assert code == 0, error
    (exported,) = json.loads(output)
    assert exported["label"] == answer["label"]
    assert exported["probability"] == pytest.approx(answer["probability"], abs=1e-3)
    of_package, of_export = load(name).explain(image), load(tmp_path / "model").explain(image)
    assert [label for label, _ in of_export.classes] == [label for label, _ in of_package.classes]
    np.testing.assert_allclose(of_export.maps, of_package.maps, atol=1e-2 * np.abs(of_package.maps).max())
    for source in (["--weights", name, "--blocks", "4a"], ["--model", tmp_path / "model"]):
        code, output, error = command("explain", image, "--to", tmp_path / "explained", *source)
        assert code == 0, error
        assert f"{answer['label']}  " in output
    pictures = [file.name for file in (tmp_path / "explained").iterdir()]
    stem = Path(image).stem
    assert sorted(pictures) == [f"{stem}-2.png", f"{stem}.png"]
    run = tmp_path / "run"
    code, output, error = command(
        "train", "--weights", name, "--data", photos, "--run", run, "--epochs", "1", "--batch-size", "8",
        "--learning-rate", "0.001",
    )  # fmt: skip
    assert code == 0, error
    assert f"from {name}, except new weights in main" in output
    recorded = json.loads((run / "config.json").read_text())
    original = json.loads((FOLDER / name / "config.json").read_text())
    assert recorded["weights"] == name
    for option in ("image_size", "channels"):
        assert recorded[option] in (original[option], original["preprocessing"].get("channels"))
    of_run, of_package = (
        replace(Architecture.from_json((folder / "architecture.json").read_text()), description="")
        for folder in (run, FOLDER / name)
    )
    assert of_run == of_package  # whatever its variant's name stands for by now
    for words in (["evaluate", name], ["evaluate", "--weights", name]):
        code, _, error = command(*words, "--data", photos)
        assert code == 2
        assert f"has other classes than {name}" in error


@pytest.mark.ci
def test_evaluating_one_by_its_name(command, tmp_path):
    arrays, names = sample_arrays(), load("fashion_mnist").class_names
    for label in range(10):
        folder = tmp_path / "ten" / names[label].replace("/", "-")
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / "1.png"), arrays["test_images"][arrays["test_labels"] == label][0])
    code, _, error = command("evaluate", "fashion_mnist", "--data", tmp_path / "ten")
    assert code == 2  # "T-shirt/top" is no folder's name
    assert "T-shirt/top" in error
    found = evaluate("fashion_mnist", "sample", part="test", views=2)
    assert found.images == 1000
    assert found.models[0].name == "fashion_mnist"
    assert found.command == "keras-googlenet evaluate fashion_mnist --data sample --part test --views 2"


def test_a_packed_file_is_half_as_large_and_answers_alike(monkeypatch, tmp_path):
    """Kernels in float16, the rest as it was: what `scripts/make_networks.py` does to a file."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "scripts")
    from make_networks import half

    inputs = keras.Input((16, 16, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(64, 3, use_bias=False)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
    model.save(tmp_path / "whole.keras")
    half(tmp_path / "whole.keras", tmp_path / "half.keras")
    whole, packed = ((tmp_path / f"{name}.keras").stat().st_size for name in ("whole", "half"))
    assert packed < 0.7 * whole
    with zipfile.ZipFile(tmp_path / "half.keras") as file:
        assert file.testzip() is None
    images = np.random.default_rng(0).random((2, 16, 16, 3), "float32")
    found = keras.saving.load_model(tmp_path / "half.keras")
    np.testing.assert_allclose(found.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-2)
    assert not np.array_equal(found.get_weights()[0], model.get_weights()[0])
