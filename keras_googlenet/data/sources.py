"""Sources of images: a `Source` for each kind of name.

To add one, put a `Source` into `SOURCES`: `load_data`, every command and its help then know it. Imports no
framework: the command line reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from keras_googlenet.errors import UserError
from keras_googlenet.storage.cache import data_folder
from keras_googlenet.storage.place import Place, address

if TYPE_CHECKING:
    from keras_googlenet.data.parts import ImageData


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """How to open and split a data set; see `load_data`."""

    validation_fraction: float = 0.1
    seed: int = 0
    test_split: str | None = None
    tfds_manual_dir: Path | None = None
    skip_corrupt: bool = False
    group_duplicates: bool = False
    groups: Path | None = None


@dataclass(frozen=True)
class Source:
    """A kind of data set.

    Attributes:
        prefix: How its names begin, up to a colon; or its only name; or "" for the path of a folder.
        label: How such a name is written, for help and messages.
        open: The function (the name without its prefix, options) -> images, divided.
        options: Which of `OF_SOME` it takes.
    """

    prefix: str
    label: str
    open: Callable[[str, DataOptions], ImageData]
    options: tuple[str, ...] = ()

    def fits(self, data: str) -> bool:
        """Whether a name is of this kind."""
        return data.startswith(self.prefix) if self.prefix.endswith(":") else data == self.prefix


def _sample(name: str, options: DataOptions) -> ImageData:
    from keras_googlenet.data.bundled import sample_data

    return sample_data(options.validation_fraction, options.seed)


def _tfds(name: str, options: DataOptions) -> ImageData:
    from keras_googlenet.data.tfds import tfds_data

    return tfds_data(name, options.validation_fraction, options.seed, options.tfds_manual_dir)


def _folder(name: str, options: DataOptions) -> ImageData:
    from keras_googlenet.data.folders import folder_data

    check_data(name)
    return folder_data(
        data_folder(name, again=True),
        options.validation_fraction,
        options.seed,
        options.test_split,
        skip_corrupt=options.skip_corrupt,
        group_duplicates=options.group_duplicates,
        groups=options.groups,
    )


OF_FOLDERS = ("test_split", "group_duplicates", "groups")
TFDS = "tfds:"  # begins the name of a set of TensorFlow Datasets
OF_SOME = (*OF_FOLDERS, "tfds_manual_dir")  # options that not every source takes
FOLDER = Source(
    "",
    "a folder with one folder of images for each class, or its s3:// or gs:// address",
    _folder,
    OF_FOLDERS,
)
SOURCES = [
    Source("sample", '"sample"', _sample),
    Source(TFDS, '"tfds:NAME[:CONFIG]"', _tfds, ("tfds_manual_dir",)),
]
"""All but folders."""


def source_of(data: str) -> Source:
    """The source of a name."""
    return next((source for source in SOURCES if source.fits(data)), FOLDER)


def without_folders(data: str) -> str:
    """A name to show to other machines: for a path, only its last component."""
    return Path(data).name if source_of(data) is FOLDER else data


def expected_data() -> str:
    """What can be named, for help and messages."""
    return f"{', '.join(source.label for source in SOURCES)} or {FOLDER.label}"


def check_data(data: str | None) -> str:
    """Refuse a name that is not a data set's, before any work; returns the name.

    Raises:
        UserError: It is `None`, or it is not a known name and there is no such folder or address.
    """
    if data is None:
        raise UserError(f"expected `data`, the images: {expected_data()}")
    there = address(data)
    if source_of(data) is not FOLDER:
        return data
    if there is not None:
        Place(there).check()
    elif not Path(data).is_dir():
        raise UserError(f"unknown data {data!r}: expected {expected_data()}")
    return data


def load_data(
    data: str,
    *,
    validation_fraction: float = 0.1,
    seed: int = 0,
    test_split: str | None = None,
    classes: Sequence[str] | None = None,
    tfds_manual_dir: Path | None = None,
    skip_corrupt: bool = False,
    group_duplicates: bool = False,
    groups: Path | None = None,
) -> ImageData:
    """Open a data set by name.

    Args:
        data: A name that one of `SOURCES` knows, such as `"sample"` or `"tfds:NAME[:CONFIG]"`, or the
            path of a folder with one folder of JPEG, PNG, BMP, WebP or GIF images for each class, or its
            address in object storage, such as `s3://bucket/photos`, which is copied into the cache. The
            folder may be divided into `train/`, `test/` and `validation/` (or `val/`, `valid/`); else a
            fifth of each class is held out for the test.
        validation_fraction: Share of the training images kept out of training, for validation,
            where the data set names no validation part. Stratified by class.
        seed: Random seed of the splits.
        test_split: The test images of an undivided folder; see `folders.in_test_split`.
        classes: Use these classes alone, in this order.
        tfds_manual_dir: Folder with the original files of a TensorFlow data set, to build it offline.
        skip_corrupt: Skip images that cannot be read, instead of an error.
        group_duplicates: Keep copies of a picture in one part: they are held out together. If the folder's
            own parts separate them, the training copies are skipped.
        groups: A CSV file of images to keep in one part in the same way; see `groups.groups_of`.

    Raises:
        UserError: There is no such data, it cannot be trained on, or an option does not apply to it.
    """
    source = source_of(data)
    options = DataOptions(
        validation_fraction=validation_fraction,
        seed=seed,
        test_split=test_split,
        tfds_manual_dir=tfds_manual_dir,
        skip_corrupt=skip_corrupt,
        group_duplicates=group_duplicates,
        groups=groups,
    )
    for option in OF_SOME:
        if getattr(options, option) and option not in source.options:
            raise UserError(f"expected no `{option}` with the data {data!r}: it is not for {source.label}")
    found = source.open(data.removeprefix(source.prefix), options)
    return found.only(classes) if classes else found
