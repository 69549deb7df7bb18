"""`prepare --tfds`: a folder as a set of TensorFlow Datasets, which trains as the folder does."""

import errno
import json
import re
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from keras_googlenet import RunConfig, UserError, train
from keras_googlenet.data import parts as data_parts
from keras_googlenet.data import tfds_writing
from keras_googlenet.data.loading import loader
from keras_googlenet.data.parts import StoredImages
from keras_googlenet.data.sources import load_data
from keras_googlenet.data.tfds_writing import write_set
from keras_googlenet.evaluation.images import own_images
from keras_googlenet.images.exif import TAG
from keras_googlenet.images.numpy import decode_any_size
from keras_googlenet.images.spec import PNG_MAGIC
from keras_googlenet.run import checkpoint
from keras_googlenet.run import folder as run_folder

PARTS = ("train", "validation", "test")
A_QUARTER_TURN = 6


def write_photos(folder: Path, each: int) -> Path:
    """Files of every format that training decodes, in two class folders; the first is a turned JPEG."""
    random = np.random.default_rng(2)
    for label, name in enumerate(("cat", "big dog")):
        (folder / name).mkdir(parents=True)
        for index in range(each):
            low, high = (0, 160) if label else (96, 256)
            pixels = cv2.resize(random.integers(low, high, (5, 6, 3), dtype=np.uint8), (36, 30))
            suffix = ("jpg", "png", "webp", "gif", "bmp")[index % 5]
            tags = Image.Exif()
            tags[TAG] = A_QUARTER_TURN if index == 0 else 1
            options = {"lossless": True} if suffix == "webp" else {}
            options |= {"exif": tags} if suffix in ("jpg", "webp") else {}
            Image.fromarray(pixels).save(folder / name / f"{index:02}.{suffix}", **options)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos") / "photos", 20)


@pytest.fixture(scope="module")
def directory(tmp_path_factory, photos):
    """A data directory of TFDS with the set `photos`, in several shards."""
    folder = tmp_path_factory.mktemp("tfds")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfds.core.constants, "DATA_DIR", str(folder))
        patch.setattr(tfds_writing, "SHARD_BYTES", 8000)
        write_set(photos, "photos")
    return folder


@pytest.fixture
def tfds_folder(directory, monkeypatch):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(directory))  # read once from TFDS_DATA_DIR
    return directory


def test_a_set_is_the_folder(tfds_folder, photos, monkeypatch):
    """The same images in the same parts and order; JPEG and PNG byte for byte, all else as PNG."""
    assert len(list(tfds_folder.rglob("*.array_record-*"))) > 2
    expected = load_data(str(photos), seed=4)
    in_memory = load_data("tfds:photos", seed=4)
    monkeypatch.setattr(data_parts, "MEMORY_BYTES", 0)
    in_shards = load_data("tfds:photos", seed=4)
    assert in_memory.class_names == in_shards.class_names == expected.class_names == ("big dog", "cat")
    for name in PARTS:
        of_folder, part, stored = (getattr(data, name) for data in (expected, in_memory, in_shards))
        assert isinstance(stored.images, StoredImages)
        assert part.images == list(stored.images)
        assert part.labels.tolist() == stored.labels.tolist() == of_folder.labels.tolist()
        for image, file in zip(part.images, of_folder.files, strict=True):
            encoded = file.read_bytes()
            if file.suffix in (".jpg", ".png"):
                assert image == encoded
            assert image.startswith(PNG_MAGIC) or file.suffix == ".jpg"
            np.testing.assert_array_equal(decode_any_size(image), decode_any_size(encoded))


def test_a_class_that_is_set_aside_as_a_whole_is_refused(tfds_folder, photos, tmp_path):
    few = shutil.copytree(photos, tmp_path / "few")
    for file in sorted((few / "cat").iterdir())[2:]:
        file.unlink()
    write_set(few, "few")
    for data in (str(few), "tfds:few"):
        with pytest.raises(UserError, match=r"too few images in .*none is left to train on for cat once"):
            load_data(data)


def test_images_are_read_in_any_order_by_many_threads(tfds_folder, monkeypatch):
    """As training's pipeline does, of whose images an order and a cursor decide."""
    monkeypatch.setattr(data_parts, "MEMORY_BYTES", 0)
    part = load_data("tfds:photos").train
    indices = np.random.default_rng(0).permutation(np.repeat(np.arange(part.count), 20))
    dataset = tf.data.Dataset.from_tensor_slices(indices).map(loader(part), num_parallel_calls=8)
    assert dataset.element_spec == tf.TensorSpec((), tf.string)
    assert list(dataset.as_numpy_iterator()) == [part.images[index] for index in indices]
    assert list(part.take(indices[:5]).images) == [part.images[index] for index in indices[:5]]


def test_other_programs_read_the_set(tfds_folder):
    source = tfds.data_source("photos", split="train")
    assert len(source) == 40
    assert source[0]["image"].dtype == np.uint8
    assert {int(example["label"]) for example in source} == {0, 1}


@pytest.mark.slow
def test_a_resumed_run_on_a_set_ends_as_one_on_the_folder(
    tfds_folder, photos, tiny_variant, tmp_path, monkeypatch
):
    monkeypatch.setattr(data_parts, "MEMORY_BYTES", 0)
    options = {
        "variant": str(tiny_variant),
        "image_size": 28,
        "batch_size": 8,
        "epochs": 2,
        "augment": ("crop",),
        "precision": "float32",
        "checkpoint_minutes": 0.0,
    }
    train(RunConfig(data=str(photos), run=tmp_path / "folder", **options))
    ours, saves, savez = RunConfig(data="tfds:photos", run=tmp_path / "set", **options), [], np.savez

    def full(file, **arrays):
        saves.append(1)
        if len(saves) == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return savez(file, **arrays)

    monkeypatch.setattr(checkpoint.np, "savez", full)
    with pytest.raises(UserError, match="the disk is full"):
        train(ours)
    monkeypatch.setattr(checkpoint.np, "savez", savez)
    train(ours, resume=True)
    runs = [tmp_path / "folder", tmp_path / "set"]
    summaries = [json.loads((run / "summary.json").read_text()) for run in runs]
    assert summaries[0]["test_accuracy"] == summaries[1]["test_accuracy"]
    for one, other in zip(*(run_folder.load(run).model.get_weights() for run in runs), strict=True):
        np.testing.assert_array_equal(one, other)
    again = shutil.copytree(tmp_path / "set", tmp_path / "again")
    assert own_images([tmp_path / "set", again], "test").part.count == 8


def test_commands(command, tfds_folder, tmp_path):
    """On a divided folder with a file that cannot be read."""
    for name, each in (("train", 3), ("val", 1), ("test", 2)):
        write_photos(tmp_path / "divided" / name, each)
    (tmp_path / "divided/train/cat/00.jpg").write_bytes(b"not an image")
    words, made = ("prepare", tmp_path / "divided", "--tfds", "divided"), tfds_folder / "divided"
    code, out, _ = command(*words, "--skip-corrupt")
    assert (code, out) == (0, f"tfds:divided: 5 train, 2 validation, 4 test images in {made}\n")
    assert [path.name for path in made.iterdir()] == ["1.0.0"]
    data = load_data("tfds:divided")
    assert [getattr(data, name).count for name in PARTS] == [5, 2, 4]
    before = sorted(tfds_folder.rglob("*"))
    assert command(*words) == (2, "", f"error: {made} exists: choose another name, or delete it\n")
    assert sorted(tfds_folder.rglob("*")) == before


def test_a_writer_that_fails_leaves_nothing(photos, tfds_folder, monkeypatch):
    """Such as on a full disk."""
    before = sorted(tfds_folder.rglob("*"))
    monkeypatch.setattr(tfds.core.SequentialWriter, "close_all", lambda _: 1 / 0)
    monkeypatch.setattr(tfds_writing, "check_images", lambda *_, **__: [])
    with pytest.raises(UserError, match=r"could not write tfds:half in .*: division by zero"):
        write_set(photos, "half")
    assert sorted(tfds_folder.rglob("*")) == before


MISTAKES = {
    "{photos}": "expected TARGET, the new folder, or --tfds",
    "{photos} --tfds my-photos": "expected --tfds to be a name of lowercase letters, .* got 'my-photos'",
    "{photos} --tfds ../photos": "expected --tfds to be a name",
    "{photos} --tfds cifar10": "TensorFlow Datasets has a set named cifar10: choose another name",
    "{photos} --tfds new --size 256": "expected no --size with --tfds.*prepare a folder first",
    "{photos} {new} --tfds new": "expected no .* with --tfds",
    "{new} --tfds new": "no folder at .*new",
    "{empty} --tfds new": "expected a folder for each class .* found none",
    "{spaced} --tfds new": "expected no space around a class name, found ' cat'",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line(line, command, photos, tfds_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("dog", " cat"):
        shutil.copytree(photos / "cat", tmp_path / "spaced" / name)
    places = {"photos": photos, **{name: tmp_path / name for name in ("new", "empty", "spaced")}}
    code, out, err = command("prepare", *line.format(**places).split())
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert re.match(f"error: {MISTAKES[line]}", err)
    assert not (tfds_folder / "new").exists()


def test_a_missing_reader_is_named(photos, tfds_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "array_record.python.array_record_module", None)
    for work in (lambda: write_set(photos, "new"), lambda: load_data("tfds:photos")):
        with pytest.raises(UserError, match="need the package array_record: pip install array_record"):
            work()


def test_a_containers_limit_is_its_memory(tmp_path, monkeypatch):
    sizes = []
    for text in ("max\n", f"{2**60}\n", "1048576\n"):
        (tmp_path / "memory.max").write_text(text)
        monkeypatch.setattr(data_parts, "LIMIT", tmp_path / "memory.max")
        sizes.append(data_parts.memory_bytes())
    assert sizes[0] == sizes[1] > sizes[2] == 1048576
