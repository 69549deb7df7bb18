"""Folders of class folders: finds, checks and splits images."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from keras_googlenet.data import parts
from keras_googlenet.data.groups import groups_of
from keras_googlenet.data.parts import ImageData, Part, check_left, stratified_split
from keras_googlenet.errors import UserError
from keras_googlenet.images.decoder import decoder
from keras_googlenet.images.files import (
    TRAINED,
    TRAINED_NAMES,
    is_hidden,
    left_out,
    visible_files,
    with_suffix,
)
from keras_googlenet.images.spec import MAX_PIXELS
from keras_googlenet.text import listed, say

PARTS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}
"""The names of each part's folder, in lower case; a folder's own may be in any case."""
TEST_FRACTION = 0.2  # of a folder that names no test part

Files = list[tuple[Path, int]]


def folder_data(
    folder: Path,
    validation_fraction: float,
    seed: int,
    test_split: str | None = None,
    *,
    skip_corrupt: bool = False,
    group_duplicates: bool = False,
    groups: Path | None = None,
) -> ImageData:
    """Open a folder of class folders; see `sources.load_data`."""
    if test_split is not None and part_folders(folder):
        raise UserError(f"{folder} is divided into train/ and more: expected no `test_split` for it")
    class_names, found = files_of_parts(folder)
    if test_split is not None:
        _divide(found, folder, test_split)
    broken = set(check_images([path for files in found.values() for path, _ in files], skip=skip_corrupt))
    found = {part: [file for file in files if file[0] not in broken] for part, files in found.items()}

    paths = [path for files in found.values() for path, _ in files]
    numbers = groups_of(paths, folder, groups, duplicates=group_duplicates, skipped=broken)
    group_of = dict(zip(paths, numbers.tolist(), strict=True)) if numbers is not None else {}
    if group_of:
        _keep_groups_whole(found, group_of, folder)
    for part, fraction in (("test", TEST_FRACTION), ("validation", validation_fraction)):
        if part not in found and found["train"]:
            labels = [label for _, label in found["train"]]
            of_train = np.array([group_of[path] for path, _ in found["train"]]) if group_of else None
            kept, held = stratified_split(labels, fraction, seed, of_train)
            found[part] = [found["train"][i] for i in held]
            found["train"] = [found["train"][i] for i in kept]
    left = (label for _, label in found["train"])
    least = "3 groups a class" if group_of else "3 a class"
    check_left(class_names, set(range(len(class_names))), left, str(folder), least)
    train, validation, test = (file_part(found[part]) for part in PARTS)
    return ImageData(
        class_names, train, validation, test, skipped=tuple(str(path) for path in sorted(broken))
    )


def part_folders(folder: Path) -> dict[str, Path]:
    """The folders of a divided folder's parts; none if it is not divided: `train` may then name a class.

    Raises:
        UserError: A part has two folders, or `train/` has no class folders and there is another part.
    """
    named: dict[str, list[Path]] = {
        part: [path for path in _folders_in(folder) if path.name.lower() in names]
        for part, names in PARTS.items()
    }
    if not any(_folders_in(path) for path in named["train"]):
        others = {path.name.lower().rstrip("0123456789") for path in _folders_in(folder)}  # such as test1
        if named["train"] and others & {*PARTS["test"], *PARTS["validation"]}:
            _class_names(named["train"][0])
        return {}
    for part, paths in named.items():
        if len(paths) > 1:
            raise UserError(f"expected one folder of {part} images in {folder}, found {listed(paths)}")
    return {part: path for part, paths in named.items() for path in paths}


def files_of_parts(folder: Path) -> tuple[tuple[str, ...], dict[str, Files]]:
    """Class names, and the labeled files of each part that the folder has; all are "train" if it has none.

    Raises:
        UserError: It is not a folder of class folders, divided or not.
    """
    parted = part_folders(folder)
    if not parted:
        class_names = _class_names(folder)
        return class_names, {"train": label_files(folder, class_names)}
    if unused := sorted(
        {path.name for path in _folders_in(folder)} - {path.name for path in parted.values()}
    ):
        say(
            f"{folder} is divided into {', '.join(PARTS)}; not used: {listed(unused)}",
            file=sys.stderr,
        )
    class_names = _class_names(parted["train"])
    return class_names, {part: label_files(path, class_names) for part, path in parted.items()}


def labeled_folder(folder: Path) -> tuple[tuple[str, ...], Part]:
    """A folder of class folders, undivided: its class names, and all of its images.

    Raises:
        UserError: There is no such folder, or it cannot be used; see `load_data`.
    """
    if not folder.is_dir():
        raise UserError(f"no folder at {folder}: expected one with one folder of images for each class")
    class_names = _class_names(folder)
    files = label_files(folder, class_names)
    check_images([path for path, _ in files])
    return class_names, file_part(files)


def find_images(folder: Path) -> list[Path]:
    """All JPEG and PNG files below `folder`, sorted."""
    return with_suffix(visible_files(folder), TRAINED)


def in_test_split(paths: Sequence[Path], folder: Path, test_split: str) -> list[bool]:
    """The images that a rule or a list puts into the test part.

    Args:
        paths: The images.
        folder: The data set's folder.
        test_split: `"every:K"`: the images whose number (the last in the file's name) is divisible by K; or a
            text file that names the test images, one per line, relative to `folder`.

    Raises:
        UserError: The rule or the list cannot be followed.
    """
    if test_split.startswith("every:"):
        every = test_split.removeprefix("every:")
        if not every.isdecimal() or int(every) < 2:
            raise UserError(f'expected `test_split` such as "every:4", got {test_split!r}')
        numbers = [re.findall(r"\d+", path.stem) for path in paths]
        for path, found in zip(paths, numbers, strict=True):
            if not found:
                raise UserError(f"the test split {test_split!r} needs a number in each name; {path} has none")
        return [int(found[-1]) % int(every) == 0 for found in numbers]
    try:
        text = Path(test_split).read_text("utf-8-sig", errors="surrogateescape")  # as file names have it
        test = {line.strip() for line in text.splitlines() if line.strip()}
    except OSError:
        raise UserError(
            'expected `test_split` such as "every:4", or a file that lists the test images; '
            f"got {test_split!r}"
        ) from None
    names = [path.relative_to(folder).as_posix() for path in paths]
    unknown = sorted(test - set(names))
    if unknown:
        raise UserError(f"{test_split} lists {unknown[0]}, which is not an image in {folder}")
    return [name in test for name in names]


def check_images(paths: Sequence[Path], *, skip: bool = False) -> list[Path]:
    """Decode every file once, in parallel, and find those that cannot be decoded.

    Args:
        paths: Image files.
        skip: Report broken images on standard error and return them, instead of an error.

    Raises:
        UserError: An image is corrupt, or its format is not that of its name.
    """

    decode = decoder()

    def broken(path: Path) -> bool:
        try:
            decode(path.read_bytes(), 3)
        except (ValueError, OSError):
            return True
        return False

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = tqdm(pool.map(broken, paths), "checking images", len(paths), leave=False, disable=None)
        found = [path for path, is_broken in zip(paths, results, strict=True) if is_broken]
    if not found:
        return []
    names = listed(found)
    if not skip:
        raise UserError(
            f"cannot read {names}: expected {TRAINED_NAMES} images of at most {MAX_PIXELS:,} pixels; replace "
            "or remove them, make large ones smaller by keras-googlenet prepare, or leave them out with "
            "`skip_corrupt`"
        )
    say(f"skipped {len(found)} of {len(paths)} images, which cannot be read: {names}", file=sys.stderr)
    return found


def file_part(files: Files) -> Part:
    """Files and their labels; the files' bytes are held in memory where they fit."""
    paths = [path for path, _ in files]
    labels = np.array([label for _, label in files], "int32")
    if sum(path.stat().st_size for path in paths) > parts.MEMORY_BYTES:
        return Part(paths, labels, paths)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return Part(list(pool.map(Path.read_bytes, paths)), labels, paths)


def _divide(found: dict[str, Files], folder: Path, test_split: str) -> None:
    files = found["train"]
    test = in_test_split([path for path, _ in files], folder, test_split)
    if not any(test):
        raise UserError(f"the test split {test_split!r} finds no test image in {folder}")
    found["train"] = [file for file, is_test in zip(files, test, strict=True) if not is_test]
    found["test"] = [file for file, is_test in zip(files, test, strict=True) if is_test]


def _keep_groups_whole(found: dict[str, Files], group_of: dict[Path, int], folder: Path) -> None:
    """If the folder defines the parts, skip training images that belong to a held-out image's group."""
    taken: set[int] = set()
    left_out = 0
    for part in [part for part in ("test", "validation", "train") if part in found]:
        kept = [file for file in found[part] if group_of[file[0]] not in taken]
        left_out += len(found[part]) - len(kept)
        taken |= {group_of[path] for path, _ in kept}
        found[part] = kept
    if left_out:
        say(
            f"{folder}: skipped {left_out} images that belong together with held-out images",
            file=sys.stderr,
        )


def _folders_in(folder: Path) -> list[Path]:
    there = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in there if path.is_dir() and not is_hidden(path.name))


def _class_names(folder: Path) -> tuple[str, ...]:
    names = tuple(path.name for path in _folders_in(folder))
    if len(names) < 2:
        found = f"only {names[0]!r}" if names else "none"
        raise UserError(
            f"expected a folder for each class (two at least) in {folder}, found {found}: put the "
            f"images in one folder per class, such as {folder / 'cat' / '1.jpg'}"
        )
    parts.check_class_names(names, f" in {folder}")
    return names


def label_files(folder: Path, class_names: tuple[str, ...]) -> Files:
    """The images of a folder of class folders, each with its label.

    Raises:
        UserError: A class has no image, or a folder is named after none.
    """
    unknown = sorted({path.name for path in _folders_in(folder)} - set(class_names))
    if unknown:
        raise UserError(f"{folder} has class folders that training does not: {', '.join(unknown)}")
    files, others = [], []
    for label, name in enumerate(class_names):
        there = visible_files(folder / name) if (folder / name).is_dir() else []
        images = with_suffix(there, TRAINED)
        if not images:
            others_here = left_out(there)
            removed = ", or remove the folder" if (folder / name).is_dir() else ""
            raise UserError(
                f"no {TRAINED_NAMES} image in {folder / name}"
                + (f" ({others_here})" if others_here else f": add images of this class{removed}")
            )
        files += [(path, label) for path in images]
        others += there
    told = left_out(others)
    if told:
        say(f"{folder}: {told}", file=sys.stderr)
    return files
