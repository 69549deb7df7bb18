"""Groups of images that stay in one part of the data: copies of an image, and groups listed by the user."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np

from keras_googlenet.data.inspection import ImageFacts, copies, look
from keras_googlenet.data.near_duplicates import grouped
from keras_googlenet.data.parts import Part
from keras_googlenet.errors import UserError

PAIRS = ["first", "second"]  # columns of what `inspect` writes
MEMBERS = ["file", "group"]


def groups_of(
    paths: Sequence[Path],
    folder: Path,
    listed_in: Path | None,
    *,
    duplicates: bool = False,
    skipped: Collection[Path] = (),
) -> np.ndarray | None:
    """The group of each image.

    Args:
        paths: The images.
        folder: The data set's folder.
        listed_in: CSV file with the columns `file,group` (patients, visits, videos), or `first,second` as in
            `near_duplicates.csv` of `inspect`. Paths are relative to `folder` or to the current directory;
            images that it does not list are groups of one.
        duplicates: Whether copies of an image form a group.
        skipped: Images that are not among `paths`, which the file may list all the same.

    Returns:
        int64 (images,): images of a group share a number; `None` without groups.

    Raises:
        UserError: The file is not as above, or lists a file that is none of them.
    """
    if listed_in is None and not duplicates:
        return None
    pairs = list(_listed(paths, folder, listed_in, skipped)) if listed_in is not None else []
    if duplicates:
        parts = {"": Part(paths, np.zeros(len(paths), "int32"))}
        facts = [image for image in look(parts) if isinstance(image, ImageFacts)]
        pairs += [(first, second) for (_, first), (_, second) in copies(parts, facts)]
    return grouped(len(paths), pairs)


def _listed(
    paths: Sequence[Path], folder: Path, file: Path, skipped: Iterable[Path]
) -> Iterable[tuple[int, int]]:
    """Pairs of indices from a CSV file of groups or pairs."""
    index_of = {str(path): index for index, path in enumerate(paths)}
    index_of |= {str(path.relative_to(folder)): index for index, path in enumerate(paths)}
    left_out = {name for path in skipped for name in (str(path), str(path.relative_to(folder)))}
    try:
        with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            rows = list(csv.reader(stream))
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or "not a CSV file"
        raise UserError(f"cannot read groups from {file}: {reason}") from None
    expected = f"{','.join(MEMBERS)} or {','.join(PAIRS)}"
    header = rows[0] if rows else []
    if header not in (PAIRS, MEMBERS):
        raise UserError(f"expected groups in the columns {expected}; {file} begins {','.join(header)!r}")
    first_of: dict[str, int] = {}
    for number, row in enumerate(rows[1:], 2):
        if len(row) != 2:
            raise UserError(f"{file}, line {number}: expected two columns, {expected}; got {','.join(row)!r}")
        named = row if header == PAIRS else row[:1]
        if not left_out.isdisjoint(named):
            continue
        unknown = [name for name in named if name not in index_of]
        if unknown:
            raise UserError(f"{file}, line {number}: {unknown[0]} is not an image in {folder}")
        index = index_of[row[0]]
        yield index, index_of[row[1]] if header == PAIRS else first_of.setdefault(row[1], index)
