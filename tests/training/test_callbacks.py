"""Options that change how a run goes: when it stops, what it saves, what a step is."""

import csv
import json
from dataclasses import replace

import cv2
import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_googlenet import RunConfig, train
from keras_googlenet.data.parts import ImageData
from keras_googlenet.images.spec import Preprocessing
from keras_googlenet.network.architecture import Conv, Inception
from keras_googlenet.network.variants import D2L
from keras_googlenet.run import checkpoint
from keras_googlenet.run import folder as run_folder
from keras_googlenet.training import callbacks, network
from keras_googlenet.training.callbacks import best_epoch, is_exhausted

SIDE = 8
IMAGES = np.random.default_rng(0).integers(0, 256, (20, SIDE, SIDE, 1), "uint8")
LABELS = np.arange(20) % 2
# Of two equal images with different labels, one is right: an accuracy of 0.5 in every epoch.
ALIKE = (IMAGES[:2] * 0, np.array([0, 1]))
DATA = ImageData.from_arrays((IMAGES[:16], LABELS[:16]), (IMAGES[16:], LABELS[16:]), validation=ALIKE)


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """Of a run that takes a second: a network without batch normalization or dropout, at a constant rate."""
    block = Inception("3a", 8, 8, 8, 8, 8, 8)
    tiny = replace(D2L, name="tiny", stages=(Conv("conv1_3x3", 8, kernel=3, padding=1), block))
    path = tmp_path_factory.mktemp("variant") / "tiny.json"
    path.write_text(tiny.to_json())
    return {
        "variant": str(path),
        "image_size": SIDE,
        "epochs": 1,
        "batch_size": 16,
        "learning_rate": 0.1,
        "momentum": 0.0,
        "schedule": "constant",
        "precision": "float32",
    }


@pytest.fixture(scope="module")
def start(options, tmp_path_factory):
    """A network to start from, and its file."""
    keras.utils.set_random_seed(5)
    model = network.build(RunConfig(run="run", **options), Preprocessing(SIDE, SIDE, 1), 2, "float32")
    path = tmp_path_factory.mktemp("start") / "start.keras"
    model.save(path)
    return path, model.get_weights()


def metrics(run) -> list[dict[str, float]]:
    with (run / "metrics.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def saved_weights(run) -> list[np.ndarray]:
    return run_folder.load(run).model.get_weights()


def assert_equal(weights, expected) -> None:
    for value, other in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(value, other)


# --- early stopping ------------------------------------------------------------------------------

FIGURES = st.lists(st.integers(0, 4).map(float), min_size=1, max_size=12)


def rows_of(figures, name="val_accuracy") -> list[dict[str, float]]:
    return [{"epoch": epoch, name: figure} for epoch, figure in enumerate(figures)]


@given(FIGURES, st.integers(1, 4))
def test_a_run_is_exhausted_once_so_many_epochs_were_no_better(figures, patience):
    """Said of the figures, epoch by epoch."""
    best, waited = figures[0], 0
    for figure in figures[1:]:
        best, waited = (figure, 0) if figure > best else (best, waited + 1)
    rows = rows_of(figures)
    assert is_exhausted(rows, patience) == (waited >= patience)
    assert figures[best_epoch(rows)] == best == max(figures)
    assert all(figure < best for figure in figures[: best_epoch(rows)])


def test_the_main_head_s_accuracy_decides():
    rows = rows_of([0.1, 0.9, 0.2], "val_main_accuracy")
    for row in rows:
        row["val_aux1_accuracy"] = row["epoch"]
    assert best_epoch(rows) == 1


def test_without_patience_or_epochs_no_run_is_exhausted():
    assert not is_exhausted(rows_of([1.0, 0.0, 0.0, 0.0]), None)
    assert not is_exhausted([], 1)


STOPPING = {"early_stopping": 2, "epochs": 9, "average": 0.6, "batch_size": 4, "seed": 3}


@pytest.fixture(scope="module")
def stopped(options, tmp_path_factory):
    """A run that cannot get better after its first epoch."""
    run = tmp_path_factory.mktemp("stopped") / "run"
    summary = train(RunConfig(run=run, **options | STOPPING), data=DATA)
    return run, summary


def test_a_run_stops_after_epochs_that_were_no_better(stopped):
    run, summary = stopped
    assert [row["val_accuracy"] for row in metrics(run)] == [0.5, 0.5, 0.5]
    assert (summary["epochs"], summary["saved_epoch"]) == (3, 1)


def test_a_stopped_run_saves_its_best_epoch(stopped, options, tmp_path):
    """It is a run that had as many epochs as led to the best."""
    run, summary = stopped
    short = tmp_path / "run"
    expected = train(
        RunConfig(run=short, **options | STOPPING | {"early_stopping": None, "epochs": 1}), data=DATA
    )
    assert_equal(saved_weights(run), saved_weights(short))
    assert summary["test_accuracy"] == expected["test_accuracy"]
    last = checkpointed(run, "last.npz", options)
    assert any(np.any(value != other) for value, other in zip(saved_weights(run), last[1], strict=True))


class Killed(BaseException):
    """In place of SIGKILL, at a moment of our choice."""


@pytest.mark.ci
def test_a_run_killed_after_its_checkpoints_ends_the_same(stopped, options, tmp_path, monkeypatch):
    """After the best epoch's own, after the one that follows it, and when no epoch is to go."""
    config = RunConfig(run=tmp_path / "run", **options | STOPPING)
    save = checkpoint.save
    written = []
    kills = [("best.npz", 1), ("last.npz", 1), ("last.npz", 3)]

    def save_and_die(path, model, progress):
        save(path, model, progress)
        written.append((path.name, progress.cursor.epoch))
        if kills and written[-1] == kills[0]:
            raise Killed

    monkeypatch.setattr(callbacks.checkpoint, "save", save_and_die)
    while kills:
        with pytest.raises(Killed):
            train(config, data=DATA, resume=True)
        assert not (config.run / "summary.json").exists()
        kills.pop(0)
    summary = train(config, data=DATA, resume=True)
    expected, whole = stopped
    assert written[-1] == ("last.npz", 3)  # nothing was left to train
    assert metrics(config.run) == metrics(expected)
    assert_equal(saved_weights(config.run), saved_weights(expected))
    for name in ("epochs", "saved_epoch", "test_accuracy"):
        assert summary[name] == whole[name]


# --- averages ------------------------------------------------------------------------------------


def checkpointed(run, name: str, options) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The averages and the weights of a checkpoint, in the order of the weights."""
    config = RunConfig(run=run, **options | STOPPING)
    model = network.build(config, Preprocessing(SIDE, SIDE, 1), 2, "float32")
    model.optimizer.build(model.trainable_variables)
    checkpoint.restore(run / "checkpoints" / name, model)
    averages = [
        keras.ops.convert_to_numpy(variable)
        for variable in model.optimizer.variables
        if variable.path.endswith("_average")
    ]
    return averages, model.get_weights()


def test_the_average_is_what_is_saved(stopped, options):
    run, _ = stopped
    averages, weights = checkpointed(run, "best.npz", options)
    assert_equal(saved_weights(run), averages)
    for average, weight in zip(averages, weights, strict=True):
        assert np.abs(average - weight).max() > 1e-5


# --- steps ---------------------------------------------------------------------------------------


@pytest.mark.ci
def test_an_update_of_several_steps_is_that_of_their_images_together(options, start, tmp_path):
    path, before = start
    for name, changes in {"whole": {}, "halves": {"batch_size": 8, "accumulate": 2}}.items():
        config = RunConfig(run=tmp_path / name, weights=str(path), **options | changes)
        train(config, data=DATA)
    whole, halves = (saved_weights(tmp_path / name) for name in ("whole", "halves"))
    for value, other in zip(halves, whole, strict=True):
        np.testing.assert_allclose(value, other, atol=1e-6)
    assert max(np.abs(value - old).max() for value, old in zip(whole, before, strict=True)) > 1e-3


def test_a_clipped_update_is_as_long_as_its_norm(options, start, tmp_path):
    """One step without momentum: the rate times the largest norm."""
    path, before = start
    config = RunConfig(run=tmp_path / "run", weights=str(path), clip_norm=0.01, **options)
    train(config, data=DATA)
    moved = [new - old for new, old in zip(saved_weights(config.run), before, strict=True)]
    assert np.sqrt(sum(np.square(change).sum() for change in moved)) == pytest.approx(0.1 * 0.01, rel=1e-3)


# --- labels --------------------------------------------------------------------------------------
# Nothing tells the classes of gray images apart, so that a network learns how frequent each is.

GRAY = np.full((28, SIDE, SIDE, 1), 128, "uint8")  # nearly 0 as the network sees it
FREQUENT = {"learning_rate": 1.0, "epochs": 10}


def learnt_frequency(run) -> float:
    """The probability of the first class."""
    images = Preprocessing(SIDE, SIDE, 1).normalize(GRAY[:1].astype("float32"))
    return float(run_folder.load(run).model.predict(images, verbose=0)[0, 0])


@pytest.mark.ci
def test_label_smoothing_moves_what_is_learnt_to_even_odds(options, tmp_path):
    labels = np.array([0] * 12 + [1] * 4)
    data = ImageData.from_arrays((GRAY[:16], labels), (GRAY[:2], np.array([0, 1])), validation=ALIKE)
    config = RunConfig(run=tmp_path / "run", label_smoothing=0.4, **options | FREQUENT)
    train(config, data=data)
    assert learnt_frequency(config.run) == pytest.approx(0.6 * 12 / 16 + 0.4 / 2, abs=0.01)


@pytest.mark.ci
def test_class_weights_even_out_a_folder(options, tmp_path):
    """12 images of one class to train on, 3 of another and a broken one, in batches larger than them all."""
    folder = tmp_path / "data"
    for part, counts in {"train": (12, 3), "validation": (1, 1), "test": (1, 1)}.items():
        for name, count in zip(("common", "rare"), counts, strict=True):
            (folder / part / name).mkdir(parents=True)
            for index in range(count):
                cv2.imwrite(str(folder / part / name / f"{index}.png"), GRAY[0])
    broken = folder / "train/rare/broken.png"
    broken.write_bytes((folder / "train/rare/0.png").read_bytes()[:-9])
    changes = {"data": str(folder), "channels": 1, "batch_size": 500} | FREQUENT
    config = RunConfig(run=tmp_path / "run", class_weights=True, skip_corrupt=True, **options | changes)
    summary = train(config)
    assert summary["train_images"] == 15
    assert learnt_frequency(config.run) == pytest.approx(0.5, abs=0.01)  # 0.8 without the weights
    assert json.loads((config.run / "config.json").read_text())["skipped_files"] == [str(broken)]
    assert len(metrics(config.run)) == 10
