"""The images to evaluate: those that runs held out, or others, with labels in the runs' order."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from keras_googlenet.data.folders import labeled_folder, part_folders
from keras_googlenet.data.parts import ImageData, Part
from keras_googlenet.data.sources import FOLDER, OF_SOME, load_data, source_of
from keras_googlenet.errors import UserError
from keras_googlenet.run import division
from keras_googlenet.run import folder as run_folder
from keras_googlenet.run.config import RunConfig
from keras_googlenet.run.inputs import open_data
from keras_googlenet.storage.cache import data_folder
from keras_googlenet.text import listed

PARTS = ("test", "validation", "train")
DIVISION = {
    "data", "validation_fraction", "seed", "test_split", "classes", "tfds_manual_dir", "skip_corrupt",
    "group_duplicates", "groups",
}  # fmt: skip


@dataclass(frozen=True)
class Images:
    """A part of a data set, by its names."""

    data: str
    part_name: str
    class_names: tuple[str, ...]
    part: Part


def own_images(
    folders: Sequence[Path],
    part_name: str | None,
    *,
    recorded_split: bool = False,
    tfds_manual_dir: Path | None = None,
) -> Images:
    """A part of the runs' data, in its recorded split.

    Args:
        folders: The runs'.
        part_name: One of `PARTS`; `None` for the test part.
        recorded_split: If the data has changed, use the recorded files that still exist.
        tfds_manual_dir: As for `load_data`, instead of the recorded one.

    Raises:
        UserError: The data is missing or has changed, or this part is not the same for all runs.
    """
    part_name = part_name or PARTS[0]
    configs = [run_folder.load_config(folder) for folder in folders]
    opened = partial(
        _own, part_name=part_name, recorded_split=recorded_split, tfds_manual_dir=tfds_manual_dir
    )
    images = opened(folders[0], configs[0])
    record = division.recorded(folders[0])
    for folder, config in zip(folders, configs, strict=True):
        options_differ = DIVISION & set(config.differences(configs[0]))
        differ = options_differ or division.recorded(folder) != record
        if differ and not _same(images.part, opened(folder, config).part):
            raise UserError(
                f"{folder} has other {part_name} images than {folders[0]}, so it may have been trained on "
                "some of those: name images that are new to all with `data`"
            )
    return images


def named_images(
    data: str | ImageData, part_name: str | None, run: Path | None, tfds_manual_dir: Path | None = None
) -> Images:
    """Images that the user names.

    Args:
        data: A name that `load_data` takes, or an `ImageData`.
        part_name: One of `PARTS`; `None` for the test part, or all images of an undivided folder.
        run: A run's folder: data without parts is split with its options.
        tfds_manual_dir: As for `load_data`.

    Raises:
        UserError: The data cannot be used.
    """
    chosen = part_name or PARTS[0]
    if isinstance(data, ImageData):
        return _part("arrays", data, chosen)
    if source_of(data) is FOLDER and part_name is None and tfds_manual_dir is None and not _is_divided(data):
        return Images(data, "all", *labeled_folder(data_folder(data)))
    if run is None:
        return _part(data, load_data(data, tfds_manual_dir=tfds_manual_dir), chosen)
    return _part(data, _load(data, run_folder.load_config(run), tfds_manual_dir), chosen)


def in_order(images: Images, class_names: tuple[str, ...], network: str) -> Images:
    """The images with labels in a network's order of classes.

    Raises:
        UserError: They have other classes.
    """
    if sorted(images.class_names) != sorted(class_names):
        check_same_classes(images.data, images.class_names, network, class_names)
    order = np.array([class_names.index(name) for name in images.class_names], "int32")
    part = replace(images.part, labels=order[images.part.labels])
    return replace(images, class_names=class_names, part=part)


def check_same_classes(
    name: str, found: tuple[str, ...], expected_by: str, expected: tuple[str, ...]
) -> None:
    """Refuse other classes.

    Raises:
        UserError: The class names differ; the message says how.
    """
    if found == expected:
        return
    lacks, has = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    differences = [f"it lacks {listed(lacks)}"] * bool(lacks) + [f"it has also {listed(has)}"] * bool(has)
    raise UserError(
        f"{name} has other classes than {expected_by}: "
        f"{' and '.join(differences) or 'the same in another order'}; expected the same"
    )


def _own(
    folder: Path, config: RunConfig, *, part_name: str, recorded_split: bool, tfds_manual_dir: Path | None
) -> Images:
    if config.data is None:
        raise UserError(f"{folder} was trained on arrays, which it does not keep: name images with `data`")
    try:
        loaded = _load(config.data, config, tfds_manual_dir)
    except UserError as error:
        raise UserError(
            f"cannot open what {folder} was trained on: {error}; name others with `data`"
        ) from None
    if recorded_split:
        return _part(config.data, division.as_recorded(folder, loaded, config.data), part_name)
    if division.check(folder, loaded, config.data):
        return _part(config.data, loaded, part_name)
    then = run_folder.summary(folder) or {}
    now = {"train_images": loaded.train.count, "test_images": loaded.test.count}
    if any(then.get(name, count) != count for name, count in now.items()):
        raise UserError(
            f"{config.data} has other images now than when {folder} was trained on it, so its parts cannot "
            "be restored: name images that are new to it with `data`"
        )
    return _part(config.data, loaded, part_name)


def _load(data: str, config: RunConfig, tfds_manual_dir: Path | None) -> ImageData:
    kept = set(source_of(data).options) - ({"test_split"} if _is_divided(data) else set())
    if data != config.data:
        kept -= {"groups"}  # it names the files of the run's own data
    dropped: dict[str, Any] = {name: None for name in OF_SOME if name not in kept}
    if tfds_manual_dir is not None:
        dropped["tfds_manual_dir"] = tfds_manual_dir
    return open_data(replace(config, data=data, **dropped))


def _is_divided(data: str) -> bool:
    return source_of(data) is FOLDER and bool(part_folders(data_folder(data)))


def _part(data: str, loaded: ImageData, part_name: str) -> Images:
    part = getattr(loaded, part_name)
    if not part.count:
        raise UserError(f"{data} has no {part_name} images: name another part, or other data")
    return Images(data, part_name, loaded.class_names, part)


def _same(one: Part, other: Part) -> bool:
    if isinstance(one.images, np.ndarray) or isinstance(other.images, np.ndarray):
        return np.array_equal(np.asarray(one.images), np.asarray(other.images))
    return one.count == other.count and all(map(operator.eq, one.images, other.images))
