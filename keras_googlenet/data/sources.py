"""Where images come from: the bundled sample, a folder of class folders, TensorFlow Datasets."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from keras_googlenet.data.images import decode_image
from keras_googlenet.errors import UserError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png"}
SPLIT_FOLDERS = ("train", "validation", "test")
TEST_FRACTION = 0.2  # of a folder that names no test part

SAMPLE_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """Training, validation or test images.

    `elements` yields `count` cheap elements (an image or its path, and an int32 label) and `load`
    makes uint8 pixels of one of them, so that shuffling moves no decoded images where it need not.
    """

    elements: tf.data.Dataset
    count: int
    load: Callable[[Any, int], Any]  # (element, channels) -> (height, width, channels)

    def labels(self) -> np.ndarray:
        """All labels, in order, without loading an image that need not be."""
        return np.fromiter(self.elements.map(lambda _, label: label).as_numpy_iterator(), "int32")


@dataclass(frozen=True)
class ImageData:
    """A data set in three parts. Class names are in label order."""

    class_names: tuple[str, ...]
    train: Part
    validation: Part
    test: Part
    channels: int = 3
    image_size: int = 224  # what to train at when nothing else is asked for


def load_data(data: str, *, validation_fraction: float = 0.1, seed: int = 0) -> ImageData:
    """Open a data set by name.

    Args:
        data: `"sample"`, `"tfds:NAME[/CONFIG]"`, or the path of a folder with one folder of JPEG or
            PNG images for each class. The folder may be divided into `train/`, `test/` and
            `validation/`; else `TEST_FRACTION` of each class is held out for the test.
        validation_fraction: Share of the training images kept out of training, for validation,
            where the data set names no validation part. Stratified by class.
        seed: Of the divisions.

    Raises:
        UserError: No such data, or data that cannot be trained on.
    """
    if data == "sample":
        return _sample(validation_fraction, seed)
    if data.startswith("tfds:"):
        return _tensorflow_datasets(data.removeprefix("tfds:"), validation_fraction)
    return _folder(Path(data), validation_fraction, seed)


def stratified_split(
    labels: Sequence[int] | np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Indices (kept, held out): `fraction` of each class is held out, and at least one image."""
    of_image = np.asarray(labels)
    random = np.random.default_rng(seed)
    held: list[np.ndarray] = []
    for label in np.unique(of_image):
        members = random.permutation(np.flatnonzero(of_image == label))
        held.append(members[: max(1, round(fraction * len(members)))])
    out = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(of_image)), out), out


def sample_arrays() -> dict[str, np.ndarray]:
    """The bundled sample: `train_images`, `train_labels`, `test_images`, `test_labels`."""
    file = resources.files("keras_googlenet") / "data/sample/fashion_mnist.npz"
    with resources.as_file(file) as path, np.load(path) as arrays:
        return dict(arrays)


def _sample(validation_fraction: float, seed: int) -> ImageData:
    arrays = sample_arrays()

    def part(name: str, chosen: Any = slice(None)) -> Part:
        images = arrays[f"{name}_images"][chosen, ..., np.newaxis]
        labels = arrays[f"{name}_labels"][chosen].astype("int32")
        elements = tf.data.Dataset.from_tensor_slices((images, labels))
        return Part(elements, len(labels), _with_channels)

    kept, held = stratified_split(arrays["train_labels"], validation_fraction, seed)
    return ImageData(
        SAMPLE_CLASSES,
        part("train", kept),
        part("train", held),
        part("test"),
        channels=1,
        image_size=80,  # the smallest even size that the auxiliary heads accept
    )


def _with_channels(pixels: Any, channels: int) -> Any:
    if pixels.shape[-1] == channels:
        return pixels
    if channels == 3:
        return tf.image.grayscale_to_rgb(pixels)
    return tf.image.rgb_to_grayscale(pixels)


# --- a folder of class folders -------------------------------------------------------------------


def find_images(folder: Path) -> list[Path]:
    """All JPEG and PNG files below `folder`, sorted."""
    return sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    )


def _class_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")


def _folder(folder: Path, validation_fraction: float, seed: int) -> ImageData:
    if not folder.is_dir():
        raise UserError(
            f'unknown data {str(folder)!r}: expected "sample", "tfds:NAME" or the path of a folder '
            "with one folder of images for each class"
        )
    divided = (folder / "train").is_dir()
    class_names = _class_names(folder / "train" if divided else folder)
    parts = {
        name: _label_files(folder / name, class_names)
        for name in SPLIT_FOLDERS
        if divided and (folder / name).is_dir()
    } or {"train": _label_files(folder, class_names)}
    check_images([path for files in parts.values() for path, _ in files])

    for name, fraction in (("test", TEST_FRACTION), ("validation", validation_fraction)):
        if name not in parts:
            files = parts["train"]
            kept, held = stratified_split([label for _, label in files], fraction, seed)
            parts["train"] = [files[i] for i in kept]
            parts[name] = [files[i] for i in held]
    missing = set(range(len(class_names))) - {label for _, label in parts["train"]}
    if missing:
        names = ", ".join(class_names[label] for label in sorted(missing))
        raise UserError(
            f"too few images in {folder}: none is left to train on for {names} once test and "
            "validation images are set aside; add images (3 a class at least)"
        )
    train, validation, test = (_file_part(parts[name]) for name in SPLIT_FOLDERS)
    return ImageData(class_names, train, validation, test)


def labelled_folder(folder: Path) -> tuple[tuple[str, ...], Part]:
    """A folder of class folders, undivided: its class names, and all of its images.

    Raises:
        UserError: There is no such folder, or it cannot be used; see `load_data`.
    """
    if not folder.is_dir():
        raise UserError(f"no folder at {folder}: expected one with one folder of images for each class")
    class_names = _class_names(folder)
    files = _label_files(folder, class_names)
    check_images([path for path, _ in files])
    return class_names, _file_part(files)


def _class_names(folder: Path) -> tuple[str, ...]:
    names = tuple(path.name for path in _class_folders(folder))
    if len(names) < 2:
        found = f"only {names[0]!r}" if names else "none"
        raise UserError(
            f"expected a folder for each class (two at least) in {folder}, found {found}: put the "
            f"images of each class in a folder of their own, such as {folder / 'cat' / '1.jpg'}"
        )
    return names


def _label_files(folder: Path, class_names: tuple[str, ...]) -> list[tuple[Path, int]]:
    unknown = sorted({path.name for path in _class_folders(folder)} - set(class_names))
    if unknown:
        raise UserError(f"{folder} has class folders that training has not: {', '.join(unknown)}")
    files = []
    for label, name in enumerate(class_names):
        found = find_images(folder / name) if (folder / name).is_dir() else []
        if not found:
            raise UserError(
                f"no JPEG or PNG image in {folder / name}: add images of this class, or remove the folder"
            )
        files += [(path, label) for path in found]
    return files


def check_images(paths: Sequence[Path]) -> None:
    """Decode every file once, as training will, and name those that cannot be.

    Raises:
        UserError: Some image is corrupt or not what its name says.
    """

    def problem(path: Path) -> str | None:
        try:
            decode_image(path.read_bytes(), 3)
        except tf.errors.InvalidArgumentError:
            return str(path)
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = tqdm(pool.map(problem, paths), "checking images", len(paths), leave=False, disable=None)
        broken = [path for path in results if path]
    if broken:
        others = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        raise UserError(
            f"cannot read {broken[0]}{others}: expected JPEG or PNG images; replace or remove them"
        )


def _file_part(files: Sequence[tuple[Path, int]]) -> Part:
    paths = [str(path) for path, _ in files]
    labels = np.array([label for _, label in files], "int32")
    elements = tf.data.Dataset.from_tensor_slices((paths, labels))
    return Part(elements, len(files), lambda path, channels: decode_image(tf.io.read_file(path), channels))


# --- TensorFlow Datasets -------------------------------------------------------------------------


def _tensorflow_datasets(name: str, validation_fraction: float) -> ImageData:
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name)
    except (tfds.core.DatasetNotFoundError, AssertionError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f'unknown data "tfds:{name}": {reason}; see tfds.list_builders() for the names'
        ) from None
    features = builder.info.features
    if not isinstance(features, tfds.features.FeaturesDict) or not {"image", "label"} <= set(features):
        raise UserError(
            f'"tfds:{name}" is not for image classification: expected features "image" and '
            f'"label", found {", ".join(features)}'
        )
    try:
        builder.download_and_prepare()
    except Exception as error:  # any downloader's or file system's; the user sees one line
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f'could not download and prepare "tfds:{name}": {reason}') from error

    splits = builder.info.splits
    if "train" not in splits:
        raise UserError(f'"tfds:{name}" has no split "train", found {", ".join(splits)}')
    names = {}
    start = 0  # percent of the training split already given away
    for split, fraction in (("test", TEST_FRACTION), ("validation", validation_fraction)):
        if split in splits:
            names[split] = split
        else:
            end = start + max(1, round(100 * fraction))
            names[split] = f"train[{start}%:{end}%]"
            start = end
    names["train"] = f"train[{start}%:]"

    def part(split: str) -> Part:
        elements = builder.as_dataset(split=split, as_supervised=False, shuffle_files=False).map(
            lambda row: (row["image"], tf.cast(row["label"], tf.int32))
        )
        return Part(elements, splits[split].num_examples, _with_channels)

    train, validation, test = (part(names[split]) for split in SPLIT_FOLDERS)
    return ImageData(
        tuple(features["label"].names),
        train,
        validation,
        test,
        channels=features["image"].shape[-1] or 3,
    )
