from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given
from hypothesis import strategies as st

from keras_googlenet.data import parts as data_parts
from keras_googlenet.data.folders import check_images, find_images
from keras_googlenet.data.parts import stratified_split
from keras_googlenet.data.sources import load_data
from keras_googlenet.errors import UserError
from keras_googlenet.images.tensorflow import decode_image


def write_images(root: Path, folders: list[str], count: int, suffix: str = ".png") -> None:
    for folder in folders:
        (root / folder).mkdir(parents=True)
        for index in range(count):
            cv2.imwrite(str(root / folder / f"{index}{suffix}"), np.full((8, 8, 3), index, np.uint8))


def parts(data):
    return data.train, data.validation, data.test


@pytest.fixture
def on_disk(monkeypatch):
    """No memory for images: parts hold the paths of files."""
    monkeypatch.setattr(data_parts, "MEMORY_BYTES", 0)


def files(part) -> list[tuple[Path, int]]:
    return list(zip(part.images, part.labels.tolist(), strict=True))


def load_error(data) -> str:
    with pytest.raises(UserError) as caught:
        load_data(str(data))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- dividing ------------------------------------------------------------------------------------

LABELS, FRACTIONS, SEEDS = st.lists(st.integers(0, 4), min_size=1), st.floats(0, 1), st.integers(0, 2**32)


@given(LABELS, FRACTIONS, SEEDS)
def test_split_is_a_partition(of_image, fraction, seed):
    kept, held = stratified_split(of_image, fraction, seed)
    assert sorted([*kept, *held]) == list(range(len(of_image)))


@given(LABELS, FRACTIONS, SEEDS)
def test_split_holds_out_the_fraction_of_each_class_and_at_least_one(of_image, fraction, seed):
    held = np.asarray(of_image)[stratified_split(of_image, fraction, seed)[1]].tolist()
    for label in set(of_image):
        least = 1 if fraction else 0
        assert held.count(label) == max(least, round(fraction * of_image.count(label)))


@given(LABELS, FRACTIONS, SEEDS)
def test_split_is_deterministic_in_the_seed(of_image, fraction, seed):
    first, second = (stratified_split(of_image, fraction, seed) for _ in range(2))
    assert [part.tolist() for part in first] == [part.tolist() for part in second]


def test_split_depends_on_the_seed():
    of_image = [0, 1] * 50
    assert list(stratified_split(of_image, 0.2, 0)[1]) != list(stratified_split(of_image, 0.2, 1)[1])


# --- the bundled sample --------------------------------------------------------------------------


def test_sample_is_balanced(sample):
    for name, count in (("train", 4000), ("test", 1000)):
        assert sample[f"{name}_images"].shape == (count, 28, 28)
        assert np.bincount(sample[f"{name}_labels"]).tolist() == [count // 10] * 10


def test_sample_parts_are_stratified():
    data = load_data("sample", validation_fraction=0.1)
    assert len(data.class_names) == 10
    for part, of_each in zip(parts(data), (360, 40, 100), strict=True):
        assert part.count == 10 * of_each
        assert np.bincount(part.labels).tolist() == [of_each] * 10


def test_sample_validation_is_disjoint_from_train(sample):
    data = load_data("sample")
    held = [image.tobytes() for part in (data.train, data.validation) for image in part.images]
    assert sorted(held) == sorted(image.tobytes() for image in sample["train_images"])


# --- a folder ------------------------------------------------------------------------------------


def test_undivided_folder_is_split_by_path(image_folder, on_disk):
    data = load_data(str(image_folder), validation_fraction=0.1)
    found = [files(part) for part in parts(data)]
    assert [len(part) for part in found] == [part.count for part in parts(data)] == [18, 2, 4]
    assert sorted(path for part in found for path, _ in part) == find_images(image_folder)
    assert all({label for _, label in part} == {0, 1} for part in found)


def test_folder_labels_follow_the_sorted_class_names(tmp_path, on_disk):
    write_images(tmp_path, ["wolf", "ant", "Bee"], 4)
    data = load_data(str(tmp_path))
    assert data.class_names == ("Bee", "ant", "wolf")
    for part in parts(data):
        assert all(path.parent.name == data.class_names[label] for path, label in files(part))


def test_folder_is_split_by_the_seed(image_folder, on_disk):
    first, second, other = (load_data(str(image_folder), seed=seed) for seed in (0, 0, 1))
    assert files(first.test) == files(second.test) != files(other.test)


def test_divided_folder_keeps_its_division(tmp_path, on_disk):
    names = ("train", "validation", "test")
    for name, count in zip(names, (5, 2, 3), strict=True):
        write_images(tmp_path / name, ["cat", "dog"], count)
    for name, part in zip(names, parts(load_data(str(tmp_path))), strict=True):
        assert sorted(path for path, _ in files(part)) == find_images(tmp_path / name)


def test_divided_folder_takes_a_missing_validation_part_from_train(tmp_path, on_disk):
    write_images(tmp_path, ["train/cat", "train/dog", "test/cat", "test/dog"], 10)
    data = load_data(str(tmp_path), validation_fraction=0.2)
    assert [part.count for part in parts(data)] == [16, 4, 20]
    assert all(path.is_relative_to(tmp_path / "train") for path, _ in files(data.validation))


def test_images_are_found_in_nested_folders_and_with_uppercase_suffixes(tmp_path):
    write_images(tmp_path, ["cat/indoors/black", "dog"], 3)
    write_images(tmp_path, ["cat/outdoors"], 3, ".JPG")
    write_images(tmp_path, ["dog/outdoors"], 3, ".jpeg")
    (tmp_path / "dog/notes.txt").write_text("not an image")
    assert sum(part.count for part in parts(load_data(str(tmp_path)))) == 12


def test_files_are_held_in_memory_where_they_fit(image_folder, monkeypatch):
    in_memory = load_data(str(image_folder)).test
    monkeypatch.setattr(data_parts, "MEMORY_BYTES", 0)
    on_disk = load_data(str(image_folder)).test
    assert in_memory.images == [path.read_bytes() for path in on_disk.images]
    assert in_memory.labels.tolist() == on_disk.labels.tolist()


# --- a folder's errors ---------------------------------------------------------------------------


def test_missing_folder_is_named(tmp_path):
    assert str(tmp_path / "nowhere") in load_error(tmp_path / "nowhere")


@pytest.mark.parametrize(("classes", "found"), [([], "none"), (["cat"], "only 'cat'")])
def test_folder_without_two_classes_is_named(tmp_path, classes, found):
    write_images(tmp_path, classes, 3)
    assert f"in {tmp_path}, found {found}" in load_error(tmp_path)


@pytest.mark.parametrize("name", ["two\nlines", "two\u2028lines"])
def test_class_name_of_several_lines_is_refused(tmp_path, name):
    """`labels.txt` has a name a line; a run would train and could not be exported."""
    for folder in ("plain", name):
        (tmp_path / folder).mkdir()
    with pytest.raises(UserError, match=r"expected class names of one line, found 'two.+lines'"):
        load_data(str(tmp_path))


@pytest.mark.parametrize("empty", ["dog", "train/dog", "test/dog"])
def test_empty_class_folder_is_named(tmp_path, empty):
    full = {"train/cat", "train/dog", "test/cat", "test/dog"} if "/" in empty else {"cat", "dog"}
    write_images(tmp_path, sorted(full - {empty}), 4)
    write_images(tmp_path, [empty], 0)
    assert f"no JPEG, PNG, BMP, WebP or GIF image in {tmp_path / empty}:" in load_error(tmp_path)


def test_test_class_unknown_to_train_is_named(tmp_path):
    write_images(tmp_path, ["train/cat", "train/dog", "test/cat", "test/dog", "test/emu"], 3)
    message = load_error(tmp_path)
    assert str(tmp_path / "test") in message
    assert message.endswith(": emu")


@pytest.mark.parametrize("contents", ["empty", "text", "truncated"])
def test_corrupt_image_is_named(tmp_path, png_bytes, contents):
    write_images(tmp_path, ["cat", "dog"], 4)
    corrupt = {"empty": b"", "text": b"not an image", "truncated": png_bytes[:-20]}[contents]
    (tmp_path / "dog/broken.png").write_bytes(corrupt)
    assert load_error(tmp_path).startswith(f"cannot read {tmp_path / 'dog/broken.png'}:")


def test_corrupt_images_are_counted(tmp_path, png_bytes):
    paths = [tmp_path / f"{index}.png" for index in range(4)]
    for path, contents in zip(paths, (png_bytes, b"a", b"b", b"c"), strict=True):
        path.write_bytes(contents)
    with pytest.raises(UserError, match=f"cannot read {paths[1]}, {paths[2]}, {paths[3]}: .*`skip_corrupt`"):
        check_images(paths)


def test_many_corrupt_images_are_not_all_named(tmp_path):
    paths = [tmp_path / f"{index}.png" for index in range(9)]
    for path in paths:
        path.write_bytes(b"no image")
    with pytest.raises(UserError, match=rf"{paths[4]} and 4 more:"):
        check_images(paths)


def test_corrupt_images_are_left_out_on_request(tmp_path, capsys):
    write_images(tmp_path, ["cat", "dog"], 6)
    (tmp_path / "dog/broken.png").write_bytes(b"no image")
    data = load_data(str(tmp_path), skip_corrupt=True)
    assert sum(part.count for part in parts(data)) == 12
    assert data.skipped == (str(tmp_path / "dog/broken.png"),)
    assert "skipped 1 of 13 images" in capsys.readouterr().err


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Train", "VALID", "Test"), ("training", "Validation", "testing")]
)
def test_parts_have_other_names(names, tmp_path, capsys):
    for name, count in zip(names, (5, 2, 3), strict=True):
        write_images(tmp_path / name, ["cat", "dog"], count)
    (tmp_path / "__MACOSX").mkdir()
    assert [part.count for part in parts(load_data(str(tmp_path)))] == [10, 4, 6]
    assert not capsys.readouterr().err


def test_folders_beside_the_parts_are_named(tmp_path, capsys):
    write_images(tmp_path, ["train/cat", "train/dog", "dev/cat", "unlabeled"], 5)
    load_data(str(tmp_path))
    said = f"{tmp_path} is divided into train, validation, test; not used: dev, unlabeled\n"
    assert capsys.readouterr().err == said


def test_two_folders_of_a_part_are_refused(tmp_path):
    write_images(tmp_path, ["train/cat", "train/dog", "val/cat", "val/dog", "valid/cat", "valid/dog"], 5)
    message = f"expected one folder of validation images in {tmp_path}, found {tmp_path / 'val'}, "
    assert load_error(tmp_path).startswith(message)


@pytest.mark.parametrize("other", ["test", "test1", "Validation"])
def test_parts_without_class_folders_are_refused(other, tmp_path):
    write_images(tmp_path, ["train", other], 5)
    assert load_error(tmp_path).startswith(
        f"expected a folder for each class (two at least) in {tmp_path / 'train'}"
    )


def test_a_class_may_be_named_train(tmp_path):
    write_images(tmp_path, ["plane", "train"], 5)
    assert load_data(str(tmp_path)).class_names == ("plane", "train")


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JPEG"])
def test_every_name_of_jpeg_files_counts(suffix, tmp_path, on_disk):
    write_images(tmp_path, ["cat", "dog"], 5)
    for path in find_images(tmp_path):
        _, encoded = cv2.imencode(".jpg", cv2.imread(str(path)))
        path.with_suffix(suffix).write_bytes(encoded.tobytes())
    assert sum(part.count for part in parts(load_data(str(tmp_path)))) == 20


def test_a_list_with_a_byte_order_mark_is_read(tmp_path, on_disk):
    write_images(tmp_path / "images", ["cat", "dog"], 6)
    (tmp_path / "test.txt").write_text("cat/1.png\ndog/5.png\n", encoding="utf-8-sig")
    assert load_data(str(tmp_path / "images"), test_split=str(tmp_path / "test.txt")).test.count == 2


def test_a_rule_names_the_test_images(tmp_path, on_disk):
    write_images(tmp_path, ["cat", "dog"], 12)
    data = load_data(str(tmp_path), test_split="every:4")
    assert sorted({path.stem for path, _ in files(data.test)}) == ["0", "4", "8"]
    assert data.test.count == 6


def test_a_list_names_the_test_images(tmp_path, on_disk):
    write_images(tmp_path / "images", ["cat", "dog"], 6)
    (tmp_path / "test.txt").write_text("cat/1.png\ndog/5.png\n")
    data = load_data(str(tmp_path / "images"), test_split=str(tmp_path / "test.txt"))
    assert [path.name for path, _ in files(data.test)] == ["1.png", "5.png"]


@pytest.mark.parametrize(
    ("test_split", "message"),
    [
        ("every:1", 'expected `test_split` such as "every:4"'),
        ("every:²", 'expected `test_split` such as "every:4"'),
        ("every:99", "finds no test image"),
        ("nowhere.txt", "or a file that lists the test images"),
    ],
)
def test_a_test_split_that_cannot_be_is_named(tmp_path, test_split, message):
    write_images(tmp_path, ["cat", "dog"], 6)
    for path in tmp_path.rglob("0.png"):
        path.rename(path.with_name("60.png"))
    with pytest.raises(UserError, match=message):
        load_data(str(tmp_path), test_split=test_split)


def test_a_list_of_images_that_are_not_there_is_named(tmp_path):
    write_images(tmp_path / "images", ["cat", "dog"], 6)
    (tmp_path / "test.txt").write_text("cat/77.png\n")
    with pytest.raises(UserError, match=r"lists cat/77.png, which is not an image in"):
        load_data(str(tmp_path / "images"), test_split=str(tmp_path / "test.txt"))


def test_some_classes_alone(tmp_path, on_disk):
    write_images(tmp_path, ["cat", "dog", "emu"], 6)
    data = load_data(str(tmp_path), classes=("emu", "cat"))
    assert data.class_names == ("emu", "cat")
    for part in parts(data):
        assert all(path.parent.name == data.class_names[label] for path, label in files(part))
    with pytest.raises(UserError, match="two classes at least of cat, dog, emu; got cat, fox"):
        load_data(str(tmp_path), classes=("cat", "fox"))


@pytest.mark.parametrize("count", [1, 2])
def test_class_with_too_few_images_is_named(tmp_path, count):
    write_images(tmp_path, ["cat"], 10)
    write_images(tmp_path, ["emu"], count)
    assert f"too few images in {tmp_path}: none is left to train on for emu " in load_error(tmp_path)


# --- TensorFlow Datasets -------------------------------------------------------------------------


class TinyShapes(tfds.core.GeneratorBasedBuilder):
    """Registers `tiny_shapes`, made in this process. A configuration is named after its splits."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(name=name)
        for name in ("train", "train_test", "train_validation_test", "test", "unlabeled")
    ]

    def _info(self):
        features = {"image": tfds.features.Image(shape=(None, None, 1))}
        if self.builder_config.name != "unlabeled":
            features["label"] = tfds.features.ClassLabel(names=["circle", "square"])
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, _):
        return {split: self._generate_examples(split) for split in self.builder_config.name.split("_")}

    def _generate_examples(self, split):
        for index in range({"train": 100, "validation": 30, "test": 50}[split]):
            yield index, {"image": np.full((8, 9, 1), index, np.uint8), "label": index % 2}


@pytest.fixture
def tfds_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))  # read once from TFDS_DATA_DIR


@pytest.mark.parametrize(
    ("splits", "counts"),
    [("train", (72, 8, 20)), ("train_test", (90, 10, 50)), ("train_validation_test", (100, 30, 50))],
)
def test_tfds_parts(tfds_folder, splits, counts):
    data = load_data(f"tfds:tiny_shapes/{splits}", validation_fraction=0.1)
    assert data.class_names == ("circle", "square")
    assert data.channels == 1
    assert tuple(part.count for part in parts(data)) == counts
    for part in parts(data):
        for encoded, label in zip(part.images, part.labels, strict=True):
            image = decode_image(encoded, 1).numpy()
            np.testing.assert_array_equal(image, np.full((8, 9, 1), image[0, 0, 0]))
            assert label == image[0, 0, 0] % 2


def test_tfds_parts_taken_from_train_are_disjoint(tfds_folder):
    data = load_data("tfds:tiny_shapes/train")
    images = [int(decode_image(i, 1)[0, 0, 0]) for part in parts(data) for i in part.images]
    assert sorted(images) == list(range(100))


def test_tfds_set_larger_than_memory_is_written_to_files_once(tfds_folder, on_disk):
    first, second = (load_data("tfds:tiny_shapes:train_test") for _ in range(2))
    in_files = first.test
    assert all(isinstance(path, Path) for path in in_files.images)
    assert in_files.images == second.test.images
    for path, label in zip(in_files.images, in_files.labels, strict=True):
        assert decode_image(path.read_bytes(), 1)[0, 0, 0] % 2 == label


UNFIT = {
    "no_such_data": "not found",
    "%": "failed",
    "tiny_shapes/no_such_config": "BuilderConfig no_such_config not found",
    "tiny_shapes/train:9.9.9": "only: 1.0.0",
    "tiny_shapes/unlabeled": "found image",
    "tiny_shapes/test": "train",
}


@pytest.mark.parametrize(("name", "reason"), UNFIT.items())
def test_tfds_data_that_cannot_be_trained_on_is_named(tfds_folder, name, reason):
    message = load_error(f"tfds:{name}")
    assert f'"tfds:{name}"' in message
    assert reason in message


class Unlabeled(tfds.core.GeneratorBasedBuilder):
    """Registers `unlabeled`: its test images are a contest's, with the label -1; or its training images."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in ("test", "train")]  # noqa: RUF012

    def _info(self):
        features = {"image": tfds.features.Image(shape=(None, None, 1))}
        features["label"] = tfds.features.ClassLabel(names=["circle", "square"])
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, _):
        return {split: self._generate_examples(split) for split in ("train", "test")}

    def _generate_examples(self, split):
        for index in range(50):
            label = -1 if split == self.builder_config.name else index % 2
            yield index, {"image": np.full((8, 9, 1), index, np.uint8), "label": label}


def test_images_without_labels_are_not_tested_on(tfds_folder, capsys):
    data = load_data("tfds:unlabeled:test", validation_fraction=0.1)
    assert [part.count for part in parts(data)] == [36, 4, 10]
    assert all(part.labels.min() == 0 for part in parts(data))
    said = "tfds:unlabeled:test: its test images have no labels and are not used\n"
    assert said in capsys.readouterr().err
    assert load_error("tfds:unlabeled:train") == '"tfds:unlabeled:train" has training images without a label'
