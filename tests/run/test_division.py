"""A run's images, changed behind its back: it says in what, and goes on only when told to."""

import shutil

import cv2
import numpy as np
import pytest

from keras_googlenet import ImageData, RunConfig, UserError, evaluate, train
from keras_googlenet.export.held_out import held_out_images
from keras_googlenet.run import division
from keras_googlenet.run import folder as run_folder

OPTIONS = {"image_size": 28, "epochs": 1, "batch_size": 8, "precision": "float32"}


@pytest.fixture(scope="module")
def trained(image_folder, tiny_variant, tmp_path_factory):
    """A run of one epoch, and its images, in one folder."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(image_folder, home / "photos")
    options = OPTIONS | {"data": str(home / "photos"), "variant": str(tiny_variant)}
    train(RunConfig(run=home / "run", **options))
    return home


@pytest.fixture
def home(trained, monkeypatch, tmp_path):
    """A copy of both in which the run is not finished."""
    trained.rename(trained.with_name("aside"))
    shutil.copytree(trained.with_name("aside"), trained)
    for file in (run_folder.SUMMARY, run_folder.MODEL):
        (trained / "run" / file).unlink()
    yield trained
    shutil.rmtree(trained)
    trained.with_name("aside").rename(trained)


def config(home):
    return run_folder.load_config(home / "run")


def rename_class(photos):
    (photos / "Sneaker").rename(photos / "Zneaker")


def add(photos):
    cv2.imwrite(str(photos / "Trouser/new.png"), np.zeros((28, 28, 3), "uint8"))


def replace_one(photos):
    cv2.imwrite(str(photos / "Trouser/3.png"), np.zeros((28, 28, 3), "uint8"))


def remove(photos):
    (photos / "Sneaker/5.png").unlink()


def move(photos):
    (photos / "Sneaker/5.png").rename(photos / "Trouser/50.png")


CHANGES = {
    rename_class: r"no class Sneaker; a new class Zneaker; 12 images added \(Zneaker/",
    add: r"1 image added \(Trouser/new.png\)",
    replace_one: r"1 image changed \(Trouser/3.png\)",
    remove: r"1 image missing \(Sneaker/5.png\)",
    move: r"1 image added \(Trouser/50.png\); 1 image missing \(Sneaker/5.png\)",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_refused_and_named(home, change):
    change(home / "photos")
    expected = rf"photos has changed since .*run began to train on it: {CHANGES[change]}"
    with pytest.raises(UserError, match=expected):
        train(config(home), resume=True)
    assert not (home / "run" / run_folder.SUMMARY).exists()


def test_evaluation_refuses_as_well(trained):
    photos = trained / "photos"
    aside = shutil.copytree(photos, trained / "aside")
    try:
        replace_one(photos)
        with pytest.raises(UserError, match=r"1 image changed \(Trouser/3.png\)"):
            evaluate(trained / "run")
        whole = len(division.recorded(trained / "run")["parts"]["test"])
        assert evaluate(trained / "run", recorded_split=True).images == whole
        with pytest.raises(UserError, match="expected `recorded_split` without `data`"):
            evaluate(trained / "run", str(photos), recorded_split=True)
        finished = run_folder.load(trained / "run")
        with pytest.raises(UserError, match=r"1 image changed \(Trouser/3.png\)"):
            held_out_images(trained / "run", finished.class_names)
        assert held_out_images(trained / "run", finished.class_names, recorded_split=True).part.count > 0
    finally:
        shutil.rmtree(photos)
        aside.rename(photos)
    assert evaluate(trained / "run").images > 0


def test_going_on_with_the_recorded_division(home, command):
    then = division.recorded(home / "run")
    add(home / "photos")
    code, _, error = command("train", "--run", home / "run", "--resume")
    assert code == 2
    assert error.count("\n") == 1
    assert "or pass --recorded-split to use the recorded files that still exist" in error
    code, _, error = command("train", "--run", home / "run", "--resume", "--recorded-split")
    assert code == 0, error
    summary = run_folder.summary(home / "run")
    assert summary["train_images"] == len(then["parts"]["train"])
    assert summary["test_images"] == len(then["parts"]["test"])
    code, _, error = command("train", "--run", home / "other", "--data", home / "photos", "--recorded-split")
    assert (code, error) == (2, "error: --recorded-split needs --resume\n")


def test_a_class_that_is_gone_cannot_go_on(home):
    rename_class(home / "photos")
    with pytest.raises(UserError, match=r"has no training image left of Sneaker, as .*run recorded them"):
        train(config(home), resume=True, recorded_split=True)


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_part_that_is_gone_cannot_go_on(home, part):
    for name in division.recorded(home / "run")["parts"][part]:
        (home / "photos" / name).unlink()
    with pytest.raises(UserError, match=rf"has no {part} image left, as .*run recorded them"):
        train(config(home), resume=True, recorded_split=True)


def test_a_run_of_an_earlier_version_goes_on_with_a_word(home, capsys):
    (home / "run" / division.DIVISION).unlink()
    train(config(home), resume=True)
    assert (
        "no record of the images (earlier version), so changes to them cannot be detected"
        in capsys.readouterr().out
    )
    with pytest.raises(UserError, match="has no record of image files"):
        division.as_recorded(home / "run", None, "")


def test_a_damaged_record(home):
    (home / "run" / division.DIVISION).write_bytes(b"damage")
    with pytest.raises(UserError, match=r"division.json.gz is not a run's record of its images"):
        train(config(home), resume=True)


def arrays(seed, labels=None):
    images = np.random.default_rng(seed).integers(0, 255, (40, 28, 28, 1), dtype="uint8")
    labels = np.arange(40) % 2 if labels is None else labels
    return ImageData.from_arrays((images, labels), (images[:8], labels[:8]), class_names=("a", "b"))


def test_arrays_have_a_fingerprint():
    then = division.described(arrays(0), "arrays")
    assert division.differences(then, division.described(arrays(0), "arrays")) == []
    found = division.differences(then, division.described(arrays(1), "arrays"))
    assert found == ["other train images", "other validation images", "other test images"]


def test_labels_from_1_are_refused():
    images = np.zeros((6, 8, 8), "uint8")
    labels = np.array([1, 2, 3, 1, 2, 3])
    with pytest.raises(
        UserError, match="no training image of class '0', label 0: expected labels from 0 to 3"
    ):
        ImageData.from_arrays((images, labels), (images, labels))


def test_classes_in_another_order():
    then, now = ({"classes": list(order), "parts": {"train": {}}} for order in ("ab", "ba"))
    assert division.differences(then, now) == ["the classes in another order"]
