"""Publishes versions in a model's directory and removes old ones, each by one rename.

A server polls the directory and immediately loads any child named by a number. So work in progress has a name
that is not a number, and its process holds a lock on it. A free lock identifies the leftovers of a killed
process.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keras_googlenet.errors import UserError
from keras_googlenet.files import sync
from keras_googlenet.versions import MAX_VERSION, latest_version, versions

PREFIX = ".tmp-keras_googlenet-"
STAGING = re.compile(rf"{re.escape(PREFIX)}[0-9a-f]{{32}}")


@contextmanager
def staging(directory: Path) -> Iterator[Path]:
    """A new empty folder in a directory, locked; removed at the end unless it was renamed.

    Also removes such folders of killed processes.

    Raises:
        UserError: The directory cannot be made or written to.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        folder, descriptor = _locked_folder(directory)
    except OSError as error:
        raise UserError(f"cannot write in the folder {directory}: {error.strerror}; choose another") from None
    try:
        remove_leftovers(directory)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def publish(folder: Path, directory: Path, version: int | None = None) -> Path:
    """Rename a staged folder to its version, after its bytes are on the disk.

    Args:
        folder: In `directory`.
        directory: The model's.
        version: Version number; by default the highest existing one plus 1, even if others publish at the
            same time.

    Returns:
        The version's folder.

    Raises:
        UserError: The version exists, or no higher number is valid.
    """
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)
    number = version if version is not None else (latest_version(directory) or 0) + 1
    while True:
        if number > MAX_VERSION:
            raise UserError(f"no version is higher than {MAX_VERSION}: choose a free one with `version`")
        target = directory / str(number)
        # An empty folder would be replaced silently.
        if not os.path.lexists(target):
            try:
                folder.rename(target)
            except OSError:
                if not os.path.lexists(target):
                    raise
            else:
                sync(directory)
                return target
        if version is not None:
            check_free(directory, version)
        number += 1


def check_free(directory: Path, version: int) -> None:
    """Refuse a version that exists.

    Raises:
        UserError: It does.
    """
    if os.path.lexists(directory / str(version)):
        raise UserError(
            f"{directory / str(version)} exists: choose another version, or none for the next free one"
        )


def prune(directory: Path, keep: int, made: Path) -> list[Path]:
    """Delete the versions below the highest `keep`, except `made`.

    Only folders with a SavedModel count, and links are kept. A version is renamed before its files are
    deleted, so that a server never sees half of it.

    Returns:
        The deleted versions.
    """
    whole = [path for path in versions(directory).values() if (path / "saved_model.pb").is_file()]
    gone = []
    for path in whole[:-keep]:
        if path == made or path.is_symlink():
            continue
        unnamed = _new_name(directory)
        try:
            path.rename(unnamed)
        except OSError:  # another export pruned it, or it is somebody else's
            continue
        shutil.rmtree(unnamed, ignore_errors=True)
        gone.append(path)
    return gone


def remove_leftovers(directory: Path) -> None:
    """Remove the staged folders whose processes are dead."""
    for path in directory.iterdir():
        if not STAGING.fullmatch(path.name) or path.is_symlink():
            continue
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:  # gone, or not a folder
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        except OSError:  # in use; or a file system without locks, where this is unknown
            pass
        finally:
            os.close(descriptor)


def _locked_folder(directory: Path) -> tuple[Path, int]:
    """A new folder and the descriptor that holds its lock, which the process's end releases."""
    while True:
        folder = _new_name(directory)
        folder.mkdir()
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # another export took it for a leftover before it was locked
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # a file system without locks: then no export removes leftovers
            return folder, descriptor
        if folder.exists():
            return folder, descriptor
        os.close(descriptor)


def _new_name(directory: Path) -> Path:
    return directory / f"{PREFIX}{uuid.uuid4().hex}"
