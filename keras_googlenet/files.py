"""Files that appear whole or not at all, and folders that one process at a time works in."""

from __future__ import annotations

import fcntl
import glob
import json
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from keras_googlenet.errors import UserError

UNFINISHED = ".unfinished-"
"""How the names of files begin that are being written."""
LOCK = ".lock"
"""The file by which a process holds a folder; it says which one."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, with the same suffix; at the end it replaces `path` atomically.

    Its bytes are on the disk before that. If the block raises, `path` is unchanged.
    """
    unfinished = path.with_name(f"{UNFINISHED}{os.getpid()}-{path.name}")
    try:
        yield unfinished
        sync(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, atomically."""
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, content: Any) -> None:
    """Write human-readable JSON, atomically."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder, at any depth."""
    for leftover in folder.rglob(f"{UNFINISHED}*"):
        leftover.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def held(folder: Path, work: str, name: str = LOCK) -> Iterator[None]:
    """Lock an existing folder for this process; the end of the process always releases it.

    Args:
        folder: The folder to lock.
        work: What this process does there, such as "trains in", for another process's error message.
        name: The lock file, if a folder has several locks.

    Raises:
        UserError: Another process holds it.
    """
    with (folder / name).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise UserError(f"{holder} {work} {folder}: wait for it, stop it, or choose another") from None
        except OSError:  # a file system without locks
            yield
            return
        with suppress(OSError):  # a full disk: the lock holds, and does not say whose it is
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
        yield


@contextmanager
def held_new(folder: Path, work: str) -> Iterator[Path]:
    """A new empty folder next to `folder`, to be filled and renamed to it; held, under either name.

    It is removed at the end unless it was renamed; leftovers of killed processes are removed too.

    Args:
        folder: What it is to become.
        work: As of `held`.
    """
    for leftover in folder.parent.glob(f".{glob.escape(folder.name)}{UNFINISHED}*"):
        with suppress(UserError, OSError), held(leftover, work):
            shutil.rmtree(leftover, ignore_errors=True)
    while True:
        made = folder.with_name(f".{folder.name}{UNFINISHED}{uuid.uuid4().hex}")
        made.mkdir(parents=True)
        with ExitStack() as stack:
            # Another process may take it for a leftover before it is locked.
            with suppress(FileNotFoundError, UserError):
                stack.enter_context(held(made, work))
            if not (made / LOCK).exists():
                continue
            try:
                yield made
            finally:
                shutil.rmtree(made, ignore_errors=True)
            return
