"""Write a folder of class folders as a set of TensorFlow Datasets, in shards of its ArrayRecord format."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from keras_googlenet.data.folders import Files, check_images, files_of_parts
from keras_googlenet.data.prepare import as_png
from keras_googlenet.data.sources import TFDS
from keras_googlenet.errors import UserError
from keras_googlenet.files import held_new, sync
from keras_googlenet.images.files import JPEG
from keras_googlenet.images.headers import is_other
from keras_googlenet.storage.place import address
from keras_googlenet.text import reason

VERSION = "1.0.0"
SHARD_BYTES = 200_000_000
IMAGES_AT_ONCE = 64  # in memory


@dataclass(frozen=True)
class Written:
    """A set that was written.

    Attributes:
        folder: Where it is.
        counts: Number of images by split.
        skipped: Number of files left out because they cannot be read.
    """

    folder: Path
    counts: dict[str, int]
    skipped: int


def write_set(source: Path, name: str, *, skip_corrupt: bool = False) -> Written:
    """Write the images that training reads from a folder as the data set `tfds:NAME`.

    The bytes of JPEG and PNG files stay as they are, with their EXIF orientation. BMP, WebP and GIF (its
    first frame) become PNG, upright and on white: TFDS cannot decode them all. The set has a split for each
    of the folder's parts `train`, `validation` and `test`; images of an undivided folder are all in `train`.
    They stay in the folder's order, so that training splits and shuffles them as those of the folder. The
    set appears whole or not at all.

    Args:
        source: The folder, as `load_data` takes it.
        name: The set's name: lowercase letters, digits and underscores.
        skip_corrupt: Skip images that cannot be read, instead of an error.

    Raises:
        UserError: The folder cannot be trained on, the name is unfit or taken, or TFDS cannot write.
    """
    if not source.is_dir():
        raise UserError(f"no folder at {source}: expected one with one folder of images for each class")
    folder = _place(name)
    class_names, found = files_of_parts(source)
    for class_name in class_names:
        if class_name != class_name.strip():  # TFDS strips the lines of its file of names
            raise UserError(f"expected no space around a class name, found {class_name!r}: rename the folder")
    broken = set(check_images([path for files in found.values() for path, _ in files], skip=skip_corrupt))
    found = {part: [file for file in files if file[0] not in broken] for part, files in found.items()}
    for part, files in found.items():
        left = {label for _, label in files}
        for label, class_name in enumerate(class_names):
            if label not in left:
                raise UserError(f"no {part} image of {class_name!r} in {source} can be read: add some")
    with held_new(folder, "writes") as unfinished:
        made = unfinished / name
        try:
            _write(made, name, class_names, found)
        except Exception as error:  # any writer's, such as of a full disk
            raise UserError(f"could not write {TFDS}{name} in {folder.parent}: {reason(error)}") from error
        for path in [*made.rglob("*"), made]:
            sync(path)
        made.rename(folder)
    counts = {part: len(files) for part, files in found.items()}
    return Written(folder, counts, len(broken))


def _place(name: str) -> Path:
    """The folder of a new set, in the data directory of TFDS."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(
            f"expected `tfds` to be a name of lowercase letters, digits and underscores, got {name!r}"
        )
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(f"`tfds` needs tensorflow and tensorflow-datasets: {error}") from None
    from keras_googlenet.data.tfds import check_array_record

    check_array_record()
    if name in tfds.list_builders(with_community_datasets=False):
        raise UserError(f"TensorFlow Datasets has a set named {name}: choose another name")
    directory = os.fspath(tfds.core.constants.DATA_DIR)  # TFDS_DATA_DIR when it was imported
    if address(directory):
        raise UserError(f"expected TFDS_DATA_DIR to be a local folder, got {directory}")
    folder = Path(directory).expanduser() / name
    if folder.exists():
        raise UserError(f"{folder} exists: choose another name, or delete it")
    return folder


def _write(made: Path, name: str, class_names: tuple[str, ...], found: dict[str, Files]) -> None:
    import tensorflow_datasets as tfds

    paths = [path for files in found.values() for path, _ in files]
    is_jpeg = all(path.suffix.lower() in JPEG for path in paths)
    # What the bytes are decides at decoding; this is what TFDS itself would write.
    image = tfds.features.Image(encoding_format="jpeg" if is_jpeg else "png")
    label = tfds.features.ClassLabel(names=class_names)
    folder = made / VERSION
    folder.mkdir(parents=True)
    info = tfds.core.DatasetInfo(
        builder=tfds.core.DatasetIdentity(name, tfds.core.Version(VERSION), str(folder), __name__),
        description="Written by `keras-googlenet prepare --tfds`.",
        features=tfds.features.FeaturesDict({"image": image, "label": label}),
        disable_shuffling=True,  # says that the order is the folder's
    )
    total = sum(path.stat().st_size for path in paths)
    a_shard = max(1, len(paths) * SHARD_BYTES // max(total, 1))
    writer = tfds.core.SequentialWriter(info, a_shard, file_format="array_record")
    writer.initialize_splits([*found])
    with tqdm(total=len(paths), desc="writing images", leave=False, disable=None) as progress:
        for part, examples in _examples(found):
            writer.add_examples({part: examples})
            progress.update(len(examples))
    writer.close_all()


def _examples(found: dict[str, Files]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Some examples at a time, with their part."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for part, files in found.items():
            for start in range(0, len(files), IMAGES_AT_ONCE):
                some = files[start : start + IMAGES_AT_ONCE]
                images = pool.map(_image, [path for path, _ in some])
                labels = [label for _, label in some]
                both = zip(images, labels, strict=True)
                yield part, [{"image": image, "label": label} for image, label in both]


def _image(file: Path) -> bytes:
    encoded = file.read_bytes()
    return as_png(encoded) if is_other(encoded) else encoded
