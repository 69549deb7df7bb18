"""TensorFlow Datasets: any set with the features `image` and `label`."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from keras_googlenet.data import parts
from keras_googlenet.data.folders import TEST_FRACTION
from keras_googlenet.data.parts import ImageData, Part, StoredImages, check_left, stratified_split
from keras_googlenet.errors import UserError
from keras_googlenet.text import reason, say

ENCODED = ("jpeg", "png")


def tfds_data(name: str, validation_fraction: float, seed: int, manual_dir: Path | None = None) -> ImageData:
    """Open (and, the first time, build) a set of TensorFlow Datasets; see `sources.load_data`.

    Its encoded images are kept in memory if they fit. Otherwise they are read from its shards, one by one, if
    these are in TFDS's ArrayRecord format, as `write_set` makes them. Shards of other formats cannot be read
    in any order, as training does: each image is written to a file once, next to the set's files.
    """
    builder = _prepared(name, ("image", "label"), manual_dir)
    features = builder.info.features
    splits = builder.info.splits
    if "train" not in splits:
        raise UserError(f'"tfds:{name}" has no split "train", found {", ".join(splits)}')
    found = {split: _part(builder, split) for split in ("train", "validation", "test") if split in splits}
    for split in [split for split, part in found.items() if (part.labels < 0).any()]:
        if split == "train":
            raise UserError(f'"tfds:{name}" has training images without a label')
        say(f"tfds:{name}: its {split} images have no labels and are not used", file=sys.stderr)
        del found[split]
    class_names = tuple(features["label"].names)
    labels = set(found["train"].labels.tolist())
    for split, fraction in (("test", TEST_FRACTION), ("validation", validation_fraction)):
        if split not in found:
            kept, held = stratified_split(found["train"].labels, fraction, seed)
            found[split] = found["train"].take(held)
            found["train"] = found["train"].take(kept)
    check_left(class_names, labels, found["train"].labels.tolist(), f'"tfds:{name}"', "3 a class")
    return ImageData(
        class_names,
        found["train"],
        found["validation"],
        found["test"],
        channels=features["image"].shape[-1] or 3,
    )


@dataclass(frozen=True)
class Images:
    """The encoded images of a split, in the set's order; read again by each iteration."""

    builder: Any
    split: str
    count: int

    def __iter__(self) -> Iterator[bytes]:
        return (image for image, _ in _rows(self.builder, self.split))


@cache
def images_of(name: str, manual_dir: Path | None = None) -> Images:
    """The images of a split; opens (and, the first time, builds) the set.

    Args:
        name: `NAME[:CONFIG]/SPLIT`, such as `fashion_mnist/test` or `fashion_mnist/test[:100]`.
        manual_dir: Folder with the original files, to build the set offline.

    Raises:
        UserError: There is no such set or split, or the set has no images.
    """
    of, _, split = name.rpartition("/")
    if not of:
        raise UserError(f"expected a split of the data set, such as tfds:{name}/test, got tfds:{name}")
    builder = _prepared(of, ("image",), manual_dir)
    splits = builder.info.splits
    try:
        return Images(builder, split, splits[split].num_examples)
    except (KeyError, ValueError, AssertionError):
        raise UserError(f"tfds:{of} has no split {split!r}: expected one of {', '.join(splits)}") from None


def _prepared(name: str, needed: tuple[str, ...], manual_dir: Path | None) -> Any:
    """The builder of a set that is on the disk and has the needed features."""
    if manual_dir is not None and not manual_dir.is_dir():
        raise UserError(f"no folder at {manual_dir}: expected the original files of tfds:{name}")
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(f'"tfds:{name}" needs tensorflow and tensorflow-datasets: {error}') from None
    try:
        builder = tfds.builder(name.replace(":", "/", 1) if "/" not in name else name)
    except (tfds.core.DatasetNotFoundError, AssertionError, ValueError) as error:
        raise UserError(
            f'unknown data "tfds:{name}": {reason(error)}; see tfds.list_builders() for the names'
        ) from None
    features = builder.info.features
    if not isinstance(features, tfds.features.FeaturesDict) or not {*needed} <= set(features):
        raise UserError(
            f'"tfds:{name}" is not for image classification: expected features '
            f"{' and '.join(needed)}, found {', '.join(features)}"
        )
    try:
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=manual_dir and str(manual_dir.resolve()))
        )
    except Exception as error:  # any downloader's or file system's; the user sees one line
        raise UserError(f'could not download and prepare "tfds:{name}": {reason(error)}') from error
    return builder


def _part(builder: Any, split: str) -> Part:
    info = builder.info.splits[split]
    if info.num_bytes <= parts.MEMORY_BYTES:
        images, labels = zip(*_labeled(builder, split), strict=True)
        return Part(list(images), np.array(labels, "int32"))
    if not _is_array_record(builder):
        return _part_in_files(builder, split)
    rows = tqdm(_labeled(builder, split), f"reading {split} labels", info.num_examples, disable=None)
    of_image = np.fromiter((label for _, label in rows), "int32")
    source = _examples(builder, split)
    read = StoredImages(lambda number: _encoded(source[number]["image"]), np.arange(len(of_image)))
    return Part(read, of_image)


def _labeled(builder: Any, split: str) -> Iterator[tuple[bytes, int]]:
    return ((image, int(row["label"])) for image, row in _rows(builder, split))


def _rows(builder: Any, split: str) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """(encoded image, example) of each example, in the set's order."""
    return ((_encoded(row["image"]), row) for row in _examples(builder, split))


def _is_array_record(builder: Any) -> bool:
    import tensorflow_datasets as tfds

    return bool(builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD)


def _examples(builder: Any, split: str) -> Any:
    """The examples in the set's order: a sequence if the set is in ArrayRecord format, else an iterable.

    Raises:
        UserError: The reader of that format is not installed.
    """
    import tensorflow_datasets as tfds

    is_encoded = builder.info.features["image"].encoding_format in ENCODED
    decoders = {"image": tfds.decode.SkipDecoding()} if is_encoded else None
    if _is_array_record(builder):
        check_array_record()
        return builder.as_data_source(split=split, decoders=decoders)
    return builder.as_dataset(split=split, shuffle_files=False, decoders=decoders).as_numpy_iterator()


def check_array_record() -> None:
    """Refuse TFDS's ArrayRecord format where its reader and writer is missing, as it may be on macOS.

    Raises:
        UserError: It is.
    """
    try:
        importlib.import_module("array_record.python.array_record_module")
    except ImportError as error:
        raise UserError(
            f"ArrayRecord files need the package array_record: pip install array_record ({error})"
        ) from None


def _encoded(image: Any) -> bytes:
    import cv2

    return image if isinstance(image, bytes) else cv2.imencode(".png", image[..., ::-1])[1].tobytes()


def _part_in_files(builder: Any, split: str) -> Part:
    folder = Path(builder.data_dir) / "keras_googlenet" / split
    if not folder.is_dir():
        count = builder.info.splits[split].num_examples
        unfinished = folder.with_name(f"{split}.{os.getpid()}")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        labels = []
        rows = tqdm(_labeled(builder, split), f"writing {split} images to {folder}", count, disable=None)
        for index, (image, label) in enumerate(rows):
            (unfinished / f"{index:08}").write_bytes(image)
            labels.append(label)
        np.save(unfinished / "labels.npy", np.array(labels, "int32"))
        try:
            unfinished.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
            shutil.rmtree(unfinished)  # another process was faster
    labels = np.load(folder / "labels.npy")
    return Part([folder / f"{index:08}" for index in range(len(labels))], labels)
