"""Version folders, as TensorFlow Serving finds them: children of the model's directory, by number."""

from __future__ import annotations

from pathlib import Path

from keras_googlenet.errors import UserError

MAX_VERSION = 2**63 - 1  # TensorFlow Serving's numbers are int64
MAX_WARMUP_RECORDS = 1000  # TensorFlow Serving refuses a version with more
GRAPH = "saved_model.pb"  # a version without it is not one
EXTRA = "assets.extra"  # TensorFlow's place for files that no op reads
WARMUP = f"{EXTRA}/tf_serving_warmup_requests"  # where TensorFlow Serving looks for it
PROVENANCE = "provenance.json"  # in `EXTRA`: where a version comes from
WARMUP_BATCH_SIZES = (1, 8)  # one client, and a few at once


def versions(directory: Path) -> dict[int, Path]:
    """The version folders in a model's directory, by number, ascending."""
    found = {
        int(path.name): path
        for path in directory.iterdir()
        if path.is_dir() and path.name.isascii() and path.name.isdigit() and int(path.name) <= MAX_VERSION
    }
    return dict(sorted(found.items()))


def latest_version(directory: Path) -> int | None:
    """The highest version number in a model's directory; `None` if there is no version."""
    return max(versions(directory), default=None)


def check_models(directory: Path) -> None:
    """Refuse a path that is not a folder.

    Raises:
        UserError: There is no such folder.
    """
    if not directory.is_dir():
        raise UserError(f"no model at {directory}: expected the model's folder that `export` wrote")


def version_folder(path: Path) -> Path:
    """`path` itself if it is a version folder, else the latest version in it.

    Raises:
        UserError: There is no SavedModel there.
    """
    if not path.is_dir():
        raise UserError(f"no model at {path}: expected the folder that `export` wrote")
    folder = path
    if not (path / GRAPH).is_file():
        found = versions(path)
        folder = found[max(found)] if found else path
    if not (folder / GRAPH).is_file():
        raise UserError(f"no SavedModel in {path}: expected the folder that `export` wrote")
    return folder
