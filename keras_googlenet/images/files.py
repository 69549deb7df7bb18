"""Which files are images: one definition for training, inspection, preparation and the client."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple


class Format(NamedTuple):
    """A format of image files.

    Attributes:
        name: For help and messages.
        suffixes: How names of such files end, in lower case.
        use: `"decoded"` by training and prediction; `"converted"` to PNG by `prepare` and by the client; or
            `"skipped"`.
    """

    name: str
    suffixes: tuple[str, ...]
    use: Literal["decoded", "converted", "skipped"]


FORMATS = (
    Format("JPEG", (".jpg", ".jpeg", ".jfif", ".jpe"), "decoded"),
    Format("PNG", (".png",), "decoded"),
    Format("BMP", (".bmp",), "decoded"),
    Format("WebP", (".webp",), "decoded"),
    Format("GIF", (".gif",), "decoded"),  # its first frame, as of an animated WebP
    Format("TIFF", (".tif", ".tiff"), "converted"),
    Format("PPM", (".ppm", ".pgm"), "converted"),
    Format("HEIC", (".heic", ".heif"), "skipped"),
    Format("AVIF", (".avif",), "skipped"),
    Format("JPEG 2000", (".jp2",), "skipped"),
    Format("JPEG XL", (".jxl",), "skipped"),
)
"""The one definition of what an image file is."""


def suffixes_of(*uses: str) -> frozenset[str]:
    """The suffixes of files with that use."""
    return frozenset(suffix for each in FORMATS if each.use in uses for suffix in each.suffixes)


TRAINED = suffixes_of("decoded")
READ = suffixes_of("decoded", "converted")
JPEG, PNG, *_ = (frozenset(each.suffixes) for each in FORMATS)
KEPT = JPEG | PNG  # `prepare` writes these; all else becomes PNG
*_FIRST, _LAST = (each.name for each in FORMATS if each.use == "decoded")
TRAINED_NAMES = f"{', '.join(_FIRST)} or {_LAST}"
HIDDEN = ("__MACOSX",)  # folders that archives bring along; and all whose names begin with a dot


def is_hidden(name: str) -> bool:
    """Whether a system made this file or folder: `._1.jpg`, `.ipynb_checkpoints`, `__MACOSX`."""
    return name.startswith(".") or name in HIDDEN


def visible_files(folder: Path) -> list[Path]:
    """All files below a folder, sorted, except hidden ones. Follows linked folders, but not in circles."""
    return list(walk(folder))


def walk(folder: Path, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[Path]:
    """The same, one by one, with one folder's names in memory at a time; `above` are the parent folders."""
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:  # a link to a folder that it is in
        return
    with os.scandir(folder) as entries:
        names = sorted((entry.name, entry.is_dir()) for entry in entries if not is_hidden(entry.name))
    for name, is_folder in names:
        if is_folder:
            yield from walk(folder / name, above | {here})
        elif (file := folder / name).is_file() or file.is_symlink():  # one to nothing cannot be read
            yield file


def with_suffix(files: Iterable[Path], suffixes: frozenset[str]) -> list[Path]:
    """Those whose names end in one of `suffixes`, in upper or lower case."""
    return [file for file in files if file.suffix.lower() in suffixes]


def left_out(files: Iterable[Path]) -> str | None:
    """A message about images that training does not decode; `None` if there are none."""
    found = Counter(file.suffix.lower() for file in with_suffix(files, suffixes_of("converted", "skipped")))
    if not found:
        return None
    kinds = " and ".join(f"{count:,} {suffix}" for suffix, count in sorted(found.items()))
    readable = [suffix for suffix in found if suffix in READ]
    what_to_do = "`keras-googlenet prepare` makes PNG of them" if readable else "save them as JPEG or PNG"
    return f"left out {kinds} {'file' if found.total() == 1 else 'files'}: {what_to_do}"
