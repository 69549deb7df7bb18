"""A data set as NumPy arrays and lists: labels, and images decoded, encoded or in files."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_googlenet.errors import UserError
from keras_googlenet.text import is_utf8

LIMIT = Path("/sys/fs/cgroup/memory.max")  # of the container that this process is in


def memory_bytes() -> int:
    """Bytes of memory that the machine has, or that the container may use, if that is less."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = LIMIT.read_text().strip() if LIMIT.exists() else "max"
    return machine if limit == "max" else min(machine, int(limit))


MEMORY_BYTES = memory_bytes() // 4
"""What a data set may take of the memory; beyond, it stays on the disk."""


@dataclass(frozen=True, eq=False)
class StoredImages(Sequence[bytes]):
    """Encoded images that stay on the disk, in the shards of a data set; each is read when indexed.

    Attributes:
        read: The function from a number in the data set to the image. Several threads call it at once.
        numbers: Which images, in order: int (images,).
    """

    read: Callable[[int], bytes]
    numbers: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: Any) -> Any:
        return self.read(int(self.numbers[index]))

    def take(self, indices: np.ndarray) -> StoredImages:
        """Some of the images; reads none."""
        return StoredImages(self.read, self.numbers[indices])


@dataclass(frozen=True)
class Part:
    """Training, validation or test images.

    Attributes:
        images: uint8 (images, height, width, 1 or 3); or encoded images (JPEG, PNG, BMP, WebP or GIF),
            as `bytes`, as the paths of files, or as `StoredImages`.
        labels: int32 (images,).
        files: The user's file of each image, if there is one: the image's name in messages.
    """

    images: np.ndarray | Sequence[bytes] | Sequence[Path]
    labels: np.ndarray
    files: Sequence[Path] | None = None

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.labels)

    @property
    def encoded(self) -> bool:
        """Whether the images are still to be decoded."""
        return not isinstance(self.images, np.ndarray)

    def take(self, indices: np.ndarray) -> Part:
        """Some of the images, in the order of `indices`."""
        files = None if self.files is None else [self.files[index] for index in indices]
        if isinstance(self.images, np.ndarray):
            return Part(self.images[indices], self.labels[indices], files)
        if isinstance(self.images, StoredImages):
            return Part(self.images.take(indices), self.labels[indices], files)
        return Part([self.images[index] for index in indices], self.labels[indices], files)


def check_class_names(names: Sequence[str], where: str = "") -> None:
    """Refuse names that `labels.txt`, which has a name a line in UTF-8, could not hold.

    Raises:
        UserError: A name is empty, has a line break, is not UTF-8, or is there twice.
    """
    for name in names:
        if name.splitlines() != [name]:
            raise UserError(f"expected class names of one line, found {name!r}{where}: rename it")
        if not is_utf8(name):
            raise UserError(f"expected class names in UTF-8, found {name!r}{where}: rename it")
    name, count = Counter(names).most_common(1)[0] if names else ("", 1)
    if count > 1:
        raise UserError(f"expected each class name once, found {name!r} {count} times{where}")


def check_left(
    class_names: Sequence[str], needed: set[int], train_labels: Iterable[int], where: str, least: str
) -> None:
    """Refuse a division that leaves no training image of a class.

    Args:
        class_names: In label order.
        needed: The labels that must be left.
        train_labels: Those that are.
        where: The data's name in the message.
        least: How many images a class needs, as text.

    Raises:
        UserError: A class has none; the message names it.
    """
    if gone := sorted(needed - set(train_labels)):
        names = ", ".join(class_names[label] for label in gone)
        raise UserError(
            f"too few images in {where}: none is left to train on for {names} once test and validation "
            f"images are set aside; add images ({least} at least)"
        )


@dataclass(frozen=True)
class ImageData:
    """A data set in three parts. Class names are in label order."""

    class_names: tuple[str, ...]
    train: Part
    validation: Part
    test: Part
    channels: int = 3
    image_size: int = 224  # what to train at when nothing else is asked for
    skipped: tuple[str, ...] = field(default=())  # skipped files: they cannot be read

    def __post_init__(self) -> None:
        check_class_names(self.class_names)

    @classmethod
    def from_arrays(
        cls,
        train: tuple[Any, Any],
        test: tuple[Any, Any],
        *,
        validation: tuple[Any, Any] | None = None,
        class_names: Sequence[str] | None = None,
        validation_fraction: float = 0.1,
        seed: int = 0,
    ) -> ImageData:
        """A data set of NumPy arrays, for `train(config, data=...)`.

        Args:
            train: Images, uint8 (images, height, width[, 1 or 3]), and labels, integers from 0 (images,)
                or (images, 1), as `keras.datasets` has them.
            test: The same.
            validation: The same; by default a stratified share of `train`.
            class_names: Class names in label order; by default "0", "1" and so on.
            validation_fraction: The share.
            seed: Random seed of that split.

        Raises:
            UserError: An array is not as above.
        """
        parts = {"train": array_part(*train), "test": array_part(*test)}
        if validation is not None:
            parts["validation"] = array_part(*validation)
        else:
            kept, held = stratified_split(parts["train"].labels, validation_fraction, seed)
            parts["train"], parts["validation"] = parts["train"].take(kept), parts["train"].take(held)
        classes = 1 + max(int(part.labels.max(initial=0)) for part in parts.values())
        names = tuple(class_names) if class_names is not None else tuple(map(str, range(classes)))
        if len(names) < max(classes, 2):
            raise UserError(f"expected a name for each of {classes} classes (two at least), got {len(names)}")
        unseen = sorted(set(range(len(names))) - set(parts["train"].labels.tolist()))
        if unseen:
            raise UserError(
                f"no training image of class {names[unseen[0]]!r}, label {unseen[0]}: expected labels from 0 "
                f"to {len(names) - 1}, with training images of each"
            )
        images = parts["train"].images
        assert isinstance(images, np.ndarray)
        return cls(names, parts["train"], parts["validation"], parts["test"], channels=images.shape[-1])

    def only(self, classes: Sequence[str]) -> ImageData:
        """Only the images of some classes, labeled in the given order.

        Raises:
            UserError: There is no such class, or there are fewer than two.
        """
        unknown = [name for name in classes if name not in self.class_names]
        if unknown or len(set(classes)) < 2:
            raise UserError(
                f"expected two classes at least of {', '.join(self.class_names)}; got {', '.join(classes)}"
            )
        label_of = {self.class_names.index(name): label for label, name in enumerate(classes)}

        def part(old: Part) -> Part:
            chosen = old.take(np.flatnonzero(np.isin(old.labels, list(label_of))))
            labels = np.array([label_of[int(label)] for label in chosen.labels], "int32")
            return replace(chosen, labels=labels)

        return ImageData(
            tuple(classes),
            part(self.train),
            part(self.validation),
            part(self.test),
            channels=self.channels,
            image_size=self.image_size,
            skipped=self.skipped,
        )


def array_part(images: Any, labels: Any) -> Part:
    """A part of arrays; gray images may lack their channel axis.

    Raises:
        UserError: They are not images with labels.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or images.dtype != np.uint8:
        raise UserError(
            "expected images of type uint8 and shape (images, height, width[, 1 or 3]), "
            f"got {images.dtype} {images.shape}"
        )
    if labels.shape not in ((len(images),), (len(images), 1)) or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(
            f"expected an integer label for each of {len(images)} images, got {labels.dtype} {labels.shape}"
        )
    if not len(images) or labels.min() < 0:
        raise UserError("expected one image at least, and labels from 0")
    return Part(images, labels.reshape(-1).astype("int32"))


def stratified_split(
    labels: Sequence[int] | np.ndarray, fraction: float, seed: int, groups: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Indices (kept, held out): `fraction` of each class is held out, and at least one image; of 0, none.

    Args:
        labels: Of the images.
        fraction: The share to hold out.
        seed: Random seed.
        groups: A number for each image: images with the same number are held out together or not at all, so
            the share may not be met exactly.
    """
    of_image = np.asarray(labels)
    random = np.random.default_rng(seed)
    numbers = np.arange(len(of_image)) if groups is None else groups
    members_of: dict[int, list[int]] = defaultdict(list)
    for index, number in enumerate(numbers.tolist()):
        members_of[number].append(index)
    held = np.zeros(len(of_image), bool)
    for label in np.unique(of_image):
        members = random.permutation(np.flatnonzero(of_image == label))
        wanted = max(1, round(fraction * len(members))) if fraction else 0
        sizes = Counter(numbers[members].tolist())  # in the order of `members`
        has = sum(size for number, size in sizes.items() if held[members_of[number][0]])
        smallest = min(sizes, key=sizes.__getitem__)
        for number in [*sizes, smallest]:
            left = wanted - has
            fits = sizes[number] <= 2 * left or (number == smallest and not has)
            if left > 0 and fits and not held[members_of[number][0]]:
                held[members_of[number]] = True
                has += sizes[number]
    return np.flatnonzero(~held), np.flatnonzero(held)
