"""A run's images and their split: recorded when it starts, compared when it resumes.

A file's row holds its class, size and hash. Images that are not the user's files, such as those of
TensorFlow Datasets, have one fingerprint for each part.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import blake2b
from os import cpu_count
from pathlib import Path
from typing import Any

import numpy as np

from keras_googlenet.data.folders import file_part
from keras_googlenet.data.parts import ImageData, Part
from keras_googlenet.errors import UserError
from keras_googlenet.names import DIVISION
from keras_googlenet.storage.cache import data_folder
from keras_googlenet.text import listed

PARTS = ("train", "validation", "test")
DIGEST_BYTES = 8
NAMED = 2  # files in a message


def encoded(data: ImageData, root: str | None) -> bytes:
    """The content of a run's `DIVISION`.

    Args:
        data: Its images.
        root: Its option `data`: the folder that paths are relative to; `None` for a run of arrays.
    """
    text = json.dumps(described(data, root), separators=(",", ":"))
    return gzip.compress(text.encode("utf-8", "surrogateescape"), mtime=0)


def recorded(run: Path) -> dict[str, Any] | None:
    """What a run's `DIVISION` holds; `None` for a run of an earlier version.

    Raises:
        UserError: It is damaged.
    """
    file = run / DIVISION
    try:
        found = json.loads(gzip.decompress(file.read_bytes()))
        return {"classes": list(found["classes"]), "parts": {name: found["parts"][name] for name in PARTS}}
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError, TypeError, LookupError, zlib.error) as error:
        raise UserError(f"{file} is not a run's record of its images ({error!r})") from None


def described(data: ImageData, root: str | None) -> dict[str, Any]:
    """A data set as JSON types: class names, and the files or the fingerprint of each part."""
    parts = {name: _files(getattr(data, name), root, data.class_names) for name in PARTS}
    return {"classes": list(data.class_names), "parts": parts}


def _files(part: Part, root: str | None, class_names: Sequence[str]) -> dict[str, Any]:
    if part.files is None:
        return {"images": part.count, "fingerprint": _fingerprint(part)}
    with ThreadPoolExecutor(cpu_count()) as pool:
        digests = list(pool.map(_digest, part.images))
    return {
        _relative(file, root): [class_names[label], *digest]
        for file, label, digest in zip(part.files, part.labels.tolist(), digests, strict=True)
    }


def _relative(file: Path, root: str | None) -> str:
    folder = None if root is None else data_folder(root)
    is_below = folder is not None and file.is_relative_to(folder)
    return file.relative_to(str(folder)).as_posix() if is_below else str(file)


def _bytes(image: bytes | Path | np.ndarray) -> bytes:
    if isinstance(image, np.ndarray):
        return np.ascontiguousarray(image).tobytes()
    return image if isinstance(image, bytes) else image.read_bytes()


def _digest(image: bytes | Path) -> tuple[int, str]:
    """Size in bytes, and a hash."""
    data = _bytes(image)
    return len(data), blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


def _fingerprint(part: Part) -> str:
    digest = blake2b(part.labels.tobytes(), digest_size=DIGEST_BYTES)
    images: Iterable[Any] = part.images
    for image in images:
        digest.update(_bytes(image))
    return digest.hexdigest()


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The differences between two descriptions of a data set, in words."""
    found = []
    if then["classes"] != now["classes"]:
        lost = [name for name in then["classes"] if name not in now["classes"]]
        new = [name for name in now["classes"] if name not in then["classes"]]
        said = [f"no class {listed(lost, NAMED)}"] * bool(lost)
        said += [f"a new class {listed(new, NAMED)}"] * bool(new)
        found += said or ["the classes in another order"]
    if any("fingerprint" in part for described in (then, now) for part in described["parts"].values()):
        found += [f"other {name} images" for name in PARTS if then["parts"][name] != now["parts"][name]]
        return found
    before, after = _by_file(then), _by_file(now)
    both = [name for name in before if name in after]
    for names, words in (
        ([name for name in after if name not in before], "added"),
        ([name for name in before if name not in after], "missing"),
        ([name for name in both if before[name][2:] != after[name][2:]], "changed"),
        ([name for name in both if before[name][1] != after[name][1]], "of another class"),
        ([name for name in both if before[name][0] != after[name][0]], "in another part"),
    ):
        if names:
            images = "1 image" if len(names) == 1 else f"{len(names):,} images"
            found.append(f"{images} {words} ({listed(names, NAMED)})")
    return found


def _by_file(described: dict[str, Any]) -> dict[str, tuple[str, str, int, str]]:
    return {
        file: (part, *facts) for part, files in described["parts"].items() for file, facts in files.items()
    }


def check(run: Path, data: ImageData, root: str | None) -> bool:
    """Compare the current data with a run's record; returns whether there was a record.

    Raises:
        UserError: It has changed; the first differences are named.
    """
    then = recorded(run)
    if then is None:
        return False
    found = differences(then, described(data, root))
    if found:
        raise UserError(
            f"{root or 'the data'} has changed since {run} began to train on it: {'; '.join(found)}. "
            "Restore it, or pass `recorded_split` to use the recorded files that still exist"
        )
    return True


def as_recorded(run: Path, data: ImageData, root: str | None) -> ImageData:
    """The images of a run's record that still exist, with their recorded classes and parts.

    Args:
        run: The run's folder.
        data: Its current data.
        root: The folder that paths are relative to.

    Raises:
        UserError: There is no record of files, a class has no training image left, or another part has
            none.
    """
    then = recorded(run)
    if then is None or any("fingerprint" in part for part in then["parts"].values()):
        raise UserError(f"{run} has no record of image files: `recorded_split` needs one")
    there = {
        _relative(file, root): file
        for part in (data.train, data.validation, data.test)
        for file in part.files or ()
    }
    labels = {name: label for label, name in enumerate(then["classes"])}

    def part(name: str) -> Part:
        files = then["parts"][name].items()
        return file_part([(there[file], labels[facts[0]]) for file, facts in files if file in there])

    parts = {name: part(name) for name in PARTS}
    trained = set(parts["train"].labels.tolist())
    gone = [name for label, name in enumerate(then["classes"]) if label not in trained]
    if gone:
        raise UserError(
            f"{root or 'the data'} has no training image left of {listed(gone, NAMED)}, "
            f"as {run} recorded them"
        )
    emptied = [name for name, found in parts.items() if then["parts"][name] and not found.count]
    if emptied:
        raise UserError(f"{root or 'the data'} has no {emptied[0]} image left, as {run} recorded them")
    train, validation, test = (parts[name] for name in PARTS)
    return replace(data, class_names=tuple(then["classes"]), train=train, validation=validation, test=test)
