"""Training on JAX where TensorFlow is not installed: the same images, and a run like any other."""

import csv
import json

import numpy as np
import pytest
import tensorflow as tf
from conftest import CLASSES, run_python

from keras_googlenet import RunConfig, evaluate, export_saved_model, train
from keras_googlenet.images.spec import Preprocessing
from keras_googlenet.run import folder as run_folder
from keras_googlenet.training import network

pytestmark = pytest.mark.ci

# A process without TensorFlow, and the command line in it: a line in, its exit code and its output out.
PROCESS = """
import contextlib, importlib.machinery, importlib.util, io, json, os, signal, sys

class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "tensorflow_datasets"):
            return None
        return super().find_spec(name, path, target)

path_finder = sys.meta_path.index(importlib.machinery.PathFinder)
sys.meta_path[path_finder] = Finder
assert importlib.util.find_spec("tensorflow") is None

from keras_googlenet import cli
from keras_googlenet.run import checkpoint

def command(line):
    sys.argv = ["keras-googlenet", *line]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
    return [code, out.getvalue(), err.getvalue()]

def stopped(line, epoch, step):
    save = checkpoint.save
    def save_and_stop(path, model, progress):
        save(path, model, progress)
        if (progress.cursor.epoch, progress.cursor.step) == (epoch, step):
            os.kill(os.getpid(), signal.SIGTERM)
    checkpoint.save = save_and_stop
    result = command(line)
    checkpoint.save = save
    return result

lines = json.loads(sys.argv[1])
results = [stopped(line[1:], 0, 2) if line[0] == "stopped" else command(line) for line in lines]
assert "tensorflow" not in sys.modules
print(json.dumps(results))
"""

OPTIONS = {
    "data": "sample",
    "classes": CLASSES,
    "image_size": 28,
    "epochs": 2,
    "batch_size": 120,  # 6 steps an epoch
    "dropout": 0.0,
    "average": 0.9,
    "checkpoint_minutes": 0.0,
    "precision": "float32",
}


@pytest.fixture(scope="module")
def options(tiny_variant, tmp_path_factory):
    """With weights to start from, for each backend draws others."""
    config = RunConfig(run="run", variant=str(tiny_variant), **OPTIONS)
    start = tmp_path_factory.mktemp("start") / "start.keras"
    network.build(config, Preprocessing(28, 28, 1), 2, "float32").save(start)
    return OPTIONS | {"variant": str(tiny_variant), "weights": str(start)}


@pytest.fixture(scope="module")
def results(options, image_folder, tmp_path_factory):
    """The folder of the process's runs, and what its commands printed, by name."""
    folder = tmp_path_factory.mktemp("without_tensorflow")
    flags = []
    for name, value in options.items():
        for one in value if isinstance(value, tuple) else (value,):
            flags += [f"--{name.replace('_', '-')}", str(one)]
    lines = {
        "train": ["train", "--run", "run", *flags],
        "evaluate": ["evaluate", "--weights", "run", "--data", str(image_folder), "--json"],
        "stopped": ["stopped", "train", "--run", "resumed", *flags],
        "resume": ["train", "--run", "resumed", "--resume"],
        "export": ["export", "run", "--to", "models"],
        "tfds": ["train", "--run", "new", "--data", "tfds:cifar10"],
        "paper": ["train", "--run", "new", "--data", "sample", "--augment", "paper"],
    }
    # The runs are of the same network: compiled once.
    env = {
        "KERAS_BACKEND": "jax",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    printed = run_python(PROCESS, json.dumps(list(lines.values())), env=env, cwd=folder)
    return folder, dict(zip(lines, json.loads(printed.splitlines()[-1]), strict=True))


def metrics(run) -> list[dict[str, float]]:
    with (run / "metrics.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_the_run_s_folder_is_complete(results):
    folder, printed = results
    code, out, err = printed["train"]
    assert (code, err) == (0, "")
    assert "computing in float32 (jax)" in out
    found = {str(path.relative_to(folder / "run")) for path in (folder / "run").rglob("*") if path.is_file()}
    assert found == {
        ".lock", "architecture.json", "config.json", "division.json.gz", "labels.txt", "metrics.csv",
        "model.keras", "summary.json", "checkpoints/last.npz", "checkpoints/previous.npz",
        "plots/confusion.png", "plots/curves.png",
    }  # fmt: skip


def test_it_learns_what_tf_data_and_tensorflow_teach(results, options, tmp_path):
    """From the same weights, the same images in the same order: the same figures, but for rounding."""
    folder, _ = results
    train(RunConfig(run=tmp_path / "run", **options))
    ours, expected = metrics(folder / "run"), metrics(tmp_path / "run")
    assert len(ours) == len(expected) == 2
    for row, other in zip(ours, expected, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-3)
        assert row["val_loss"] == pytest.approx(other["val_loss"], rel=1e-2)
    assert ours[1]["loss"] < ours[0]["loss"]


def test_the_run_is_exported_where_tensorflow_is(results, tmp_path, random):
    folder, _ = results
    run = run_folder.load(folder / "run")
    version = export_saved_model(
        run.model, tmp_path / "models", class_names=run.class_names, preprocessing=run.preprocessing
    )
    image = random.integers(0, 256, (28, 28, 1), dtype=np.uint8)
    served = tf.saved_model.load(version).signatures["serving_default"]
    probabilities = served(tf.constant([tf.io.encode_png(image).numpy()]))["probabilities"]
    expected = run.model.predict(run.preprocessing.normalize(image[np.newaxis].astype("float32")), verbose=0)
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)


def test_a_folder_is_read_and_evaluated(results, image_folder):
    """PNG files, decoded without TensorFlow: the figures that TensorFlow finds."""
    folder, printed = results
    code, out, _ = printed["evaluate"]
    assert code == 0
    found, expected = json.loads(out), evaluate(folder / "run", image_folder)
    assert found["images"] == expected.images == 24
    assert found["loss"] == pytest.approx(expected.loss, rel=1e-3)
    assert found["top1"] == pytest.approx(expected.top1)


def test_a_run_stopped_in_its_first_epoch_ends_like_the_whole_one(results):
    folder, printed = results
    assert (printed["stopped"][0], printed["resume"][0]) == (128 + 15, 0)
    assert "resumed after 0 epochs, 3 steps" in printed["resume"][1]
    assert metrics(folder / "resumed") == metrics(folder / "run")
    model, expected = (run_folder.load(folder / name).model for name in ("resumed", "run"))
    for saved, other in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(saved, other)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("export", "TensorFlow is not installed: pip install tensorflow"),
        ("tfds", '"tfds:cifar10" needs tensorflow and tensorflow-datasets'),
        ("paper", "augmentation by paper needs TensorFlow, which is not installed"),
    ],
)
def test_what_needs_tensorflow_says_so_in_one_line(name, message, results):
    folder, printed = results
    code, _, err = printed[name]
    assert code == 2
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1
    assert not (folder / "models").exists()
    assert not (folder / "new").exists()
