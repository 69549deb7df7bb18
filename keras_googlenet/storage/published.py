"""Runs and exported versions at addresses: of each, the object that makes it valid is written last."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

from keras_googlenet.errors import UserError
from keras_googlenet.files import LOCK, UNFINISHED
from keras_googlenet.storage.cache import TRIES, copied
from keras_googlenet.storage.place import Entry, MissingError, Place, address
from keras_googlenet.versions import EXTRA, GRAPH, MAX_VERSION

MANIFEST = "run.json"  # of a run at an address: which objects are its files
PROBE = ".writable"
OBJECTS = "files"  # where those are, by their hash
FILES = f"{EXTRA}/files.json"  # of a version at an address: its files, by which it is checked


class ChangedError(UserError):
    """Two processes train in a run at the same time."""


def local(name: str | Path) -> Path:
    """A local path as it is; of an address, the copy of the run or of the highest version there."""
    there = address(name)
    return Path(name) if there is None else fetched(there)


def fetched(there: str) -> Path:
    """The local copy of a run at an address, or of an exported version: itself, or the highest below it.

    Raises:
        UserError: There is neither.
    """
    for _ in range(TRIES - 1):
        with suppress(MissingError):  # a file was replaced or pruned meanwhile
            return _fetched(Place(there))
    return _fetched(Place(there))


def _fetched(place: Place) -> Path:
    try:
        manifest = read_manifest(place)
    except MissingError:
        entries = place.entries()
    else:
        return copied(place, run_files(manifest, place.address))
    if GRAPH in entries:
        return check_version(copied(place, entries), place.address)
    found = whole_versions(entries)
    if not found:
        raise UserError(
            f"no run and no exported version at {place.address}: expected what `train` or `export` uploaded"
        )
    there = Place(f"{place.address}/{max(found)}")
    return check_version(copied(there, found[max(found)]), there.address)


def read_manifest(place: Place) -> bytes:
    """What says which files a run at an address has.

    Raises:
        MissingError: There is no run.
    """
    return place.read(MANIFEST)


def check_free(place: Place, *, resume: bool) -> bytes | None:
    """The manifest of the run that is at an address and may be resumed; `None` where there is none.

    Raises:
        UserError: A run is there and is not to be resumed, or nothing can be written there.
    """
    try:
        manifest = read_manifest(place)
    except MissingError:
        manifest = None
    if manifest is not None and not resume:
        raise UserError(
            f"{place.address} exists: choose another run folder, delete it, or resume its run with `resume`"
        )
    place.write(PROBE, b"")  # before any work
    place.delete([PROBE])
    return manifest


def run_files(manifest: bytes, there: str) -> dict[str, Entry]:
    """A run's files by their paths: the objects that hold them.

    Raises:
        UserError: It is not the manifest of a run.
    """
    try:
        files = {name: Entry(*facts) for name, facts in json.loads(manifest)["files"].items()}
        if any({"", ".", ".."} & set(name.split("/")) for name in files):
            raise ValueError("a file is outside of the run")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{there}/{MANIFEST} is not the list of a run's files ({error!r})") from None
    return files


def upload_run(folder: Path, place: Place, before: bytes | None) -> bytes:
    """Upload a run's folder: new objects first, then the manifest that names them, at once.

    Args:
        folder: The run's.
        place: Its address.
        before: The manifest that is there, as this process wrote or read it; `None` for a new run.

    Returns:
        The manifest that is there now.

    Raises:
        ChangedError: Another process has changed the run meanwhile.
    """
    old = {} if before is None else run_files(before, place.address)
    known, files = set(old.values()), {}
    for file in sorted(folder.rglob("*")):
        if file.name == LOCK or file.name.startswith(UNFINISHED) or not file.is_file():
            continue
        content = file.read_bytes()
        tag = blake2b(content, digest_size=16).hexdigest()
        entry = Entry(f"{OBJECTS}/{tag}/{file.name}", len(content), tag)
        if entry not in known:
            place.write(entry.name, content)
        files[file.relative_to(folder).as_posix()] = entry
    if files == old:
        return before or b""
    manifest = json.dumps({"files": files}, indent=1).encode()
    changed = ChangedError(
        f"another process changed {place.address} meanwhile: choose another run, or rerun with `resume`"
    )
    if before is not None and read_manifest(place) != before:
        raise changed
    try:
        place.write(MANIFEST, manifest, new=before is None)
    except (FileExistsError, UserError) as error:
        if not _is_there(place, manifest):  # else it was written, and the answer to that was lost
            raise (changed if isinstance(error, FileExistsError) else error) from None
    # A reader may still be at the files of the manifest before.
    named = {entry.name for entry in (*files.values(), *old.values())}
    with suppress(UserError):  # the next upload deletes them
        place.delete(
            [
                f"{OBJECTS}/{name}"
                for name in Place(f"{place.address}/{OBJECTS}").entries()
                if f"{OBJECTS}/{name}" not in named
            ]
        )
    return manifest


def _is_there(place: Place, manifest: bytes) -> bool:
    try:
        return read_manifest(place) == manifest
    except UserError:
        return False


def numbers(entries: Iterable[str]) -> set[int]:
    """Of the names in a model's directory, the version numbers, of half versions too."""
    first = {name.split("/")[0] for name in entries if "/" in name}
    return {int(name) for name in first if name.isascii() and name.isdigit() and int(name) <= MAX_VERSION}


def of_version(entries: Mapping[str, Entry], number: int) -> dict[str, Entry]:
    """What a model's directory has of one version, by the paths in its folder."""
    return below(entries, f"{number}/")


def below(entries: Mapping[str, Entry], prefix: str) -> dict[str, Entry]:
    """The objects whose names begin with a prefix, named without it."""
    inside = {name.removeprefix(prefix): each for name, each in entries.items() if name.startswith(prefix)}
    return {name: entry._replace(name=name) for name, entry in inside.items()}


def whole_versions(entries: Mapping[str, Entry]) -> dict[int, dict[str, Entry]]:
    """The files of each version that is whole in a model's directory, by number, ascending."""
    found = {number: of_version(entries, number) for number in sorted(numbers(entries))}
    return {number: files for number, files in found.items() if GRAPH in files}


def listed_files(folder: Path) -> dict[str, str]:
    """A version's files and their hashes, as `FILES` of an uploaded one holds them."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    names = {file.relative_to(folder).as_posix(): file for file in files}
    return {
        name: blake2b(file.read_bytes(), digest_size=16).hexdigest()
        for name, file in names.items()
        if name != FILES
    }


def check_version(folder: Path, there: str) -> Path:
    """The local copy of a version, if its files are those that `FILES` lists.

    A version that others uploaded has no such list.

    Raises:
        UserError: They are not.
    """
    file = folder / FILES
    if file.is_file() and file.read_text() != json.dumps(listed_files(folder), indent=1):
        raise UserError(
            f"{there} is damaged: its files are not those that {FILES} lists; delete it and export again"
        )
    return folder
