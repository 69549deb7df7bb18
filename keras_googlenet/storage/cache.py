"""Local copies of what lies at addresses: commands work in these.

A copy is a folder of hard links to the cache's objects. Objects and folders get their names by a rename, so
what a killed process leaves is not found by another.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path

from keras_googlenet.errors import UserError
from keras_googlenet.files import UNFINISHED
from keras_googlenet.storage.place import Entry, Place, address
from keras_googlenet.text import SHOWN, say

CACHE_VARIABLE = "KERAS_GOOGLENET_CACHE"
THREADS = 16  # requests at a time: small objects wait for the network
TRIES = 3  # readings of what is being changed


def cache() -> Path:
    """The folder of local copies: `KERAS_GOOGLENET_CACHE`, or one below Keras's home."""
    home = os.environ.get("KERAS_HOME") or "~/.keras"
    return Path(os.environ.get(CACHE_VARIABLE) or f"{home}/datasets/keras_googlenet").expanduser().absolute()


def digest(*values: object) -> str:
    """A hash of JSON values, as the name of a file."""
    return blake2b(json.dumps(values).encode(), digest_size=16).hexdigest()


def copied(place: Place, files: Mapping[str, Entry]) -> Path:
    """A local folder that holds these objects, from the cache as far as they are there.

    It appears complete or not at all, is never changed afterwards, and has the address's last name.

    Args:
        place: Where they are.
        files: By the path that each gets in the folder.
    """
    folder = cache() / "copies" / digest(place.address, sorted(files.items())) / place.name
    if not folder.is_dir():
        objects = cache() / "objects"
        objects.mkdir(parents=True, exist_ok=True)
        stored = {entry: objects / digest(place.address, entry) for entry in files.values()}
        absent = [entry for entry, file in stored.items() if not _is_whole(file, entry)]
        if absent:
            size = sum(entry.size for entry in absent) / 2**20
            say(f"{place.address}: fetching {len(absent):,} files, {size:,.1f} MiB", file=sys.stderr)
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda entry: _fetch(place, entry, stored[entry]), absent))
        _link({path: stored[entry] for path, entry in files.items()}, folder)
    SHOWN[str(folder)] = place.address
    return folder


def _is_whole(file: Path, entry: Entry) -> bool:
    return file.is_file() and file.stat().st_size == entry.size


def _fetch(place: Place, entry: Entry, file: Path) -> None:
    unfinished = file.with_name(f"{UNFINISHED}{uuid.uuid4().hex}")
    try:
        place.download(entry, unfinished)
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


def _link(files: Mapping[str, Path], folder: Path) -> None:
    """Make a folder of hard links, or of copies where the file system has none."""
    unfinished = folder.parent.with_name(f"{UNFINISHED}{uuid.uuid4().hex}")
    made = unfinished / folder.name
    made.mkdir(parents=True)
    for path, stored in files.items():
        file = made / path
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(stored, file)
        except OSError:
            shutil.copyfile(stored, file)
    try:
        unfinished.rename(folder.parent)
    except OSError:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not folder.is_dir():  # else another process made the same
            raise


_DATA: dict[str, Path] = {}  # copies of data sets that this process has opened


def data_folder(data: str, *, again: bool = False) -> Path:
    """The local folder of a data set's path or address.

    Args:
        data: The path or address.
        again: Look at the address again, and fetch what has changed since this process first did.

    Raises:
        UserError: There is nothing at the address, or it keeps changing.
    """
    there = address(data)
    if there is None:
        return Path(data)
    if there not in _DATA or again:
        place = Place(there)
        entries = place.entries()
        for _ in range(TRIES):
            if not entries:
                raise UserError(f"nothing at {there}: expected images in one folder for each class")
            folder, before = copied(place, entries), entries
            entries = place.entries()
            if entries == before:
                break
        else:
            raise UserError(f"{there} changes while it is fetched: rerun when it stays the same")
        _DATA[there] = folder
    return _DATA[there]
