"""Exported versions in object storage: uploaded and copied down so that no reader sees half of one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from keras_googlenet.errors import UserError
from keras_googlenet.export.publish import prune, publish, staging
from keras_googlenet.storage.place import Entry, MissingError, Place
from keras_googlenet.storage.published import (
    FILES,
    below,
    check_version,
    listed_files,
    numbers,
    of_version,
    whole_versions,
)
from keras_googlenet.text import listed
from keras_googlenet.versions import GRAPH, MAX_VERSION, latest_version, versions

Listings = dict[str, Mapping[str, Entry]]
"""The files of versions by their addresses."""


def check_free(place: Place, version: int | None) -> None:
    """Refuse a version that is whole at a model's address.

    Raises:
        UserError: It is, or the address cannot be read.
    """
    if version in whole_versions(place.entries()):
        raise UserError(
            f"{place.address}/{version} exists: choose another version, or none for the next free one"
        )


def check_new(files: Iterable[Place]) -> None:
    """Refuse files that exist.

    Raises:
        UserError: One does, or the address cannot be read.
    """
    for file in files:
        if file.exists():
            raise UserError(f"{file.address} exists: choose another name, or delete it")


def upload(folder: Path, place: Place, version: int | None = None, keep: int | None = None) -> str:
    """Upload a version: first the list of its files, which takes the number, and the graph last.

    Args:
        folder: The local version's.
        place: The model's address.
        version: The number; by default one more than the highest there, of half versions too. Half a version
            of this number, which a killed upload left, is replaced.
        keep: Delete the versions below the highest so many.

    Returns:
        The version's address.

    Raises:
        UserError: The version exists, or the storage refuses.
    """
    check_free(place, version)
    entries = place.entries()
    if version is not None:
        place.delete([f"{version}/{name}" for name in of_version(entries, version)])
    files = listed_files(folder)
    listing = json.dumps(files, indent=1).encode()
    number = version if version is not None else max(numbers(entries), default=0) + 1
    while True:
        if number > MAX_VERSION:
            raise UserError(f"no version is higher than {MAX_VERSION}: choose a free one with `version`")
        try:
            place.write(f"{number}/{FILES}", listing, new=True)
            break
        except FileExistsError:
            if version is not None:
                raise _taken(place, number) from None
            number += 1
    for name in sorted(files, key=lambda name: (name == GRAPH, name)):
        if name == GRAPH and place.read(f"{number}/{FILES}") != listing:  # it took this for half a version
            raise _taken(place, number)
        place.write(f"{number}/{name}", (folder / name).read_bytes())
    if keep is not None:
        _prune(place, keep, number)
    return f"{place.address}/{number}"


def _taken(place: Place, number: int) -> UserError:
    return UserError(f"another process exports {place.address}/{number}: choose another")


def _prune(place: Place, keep: int, made: int) -> None:
    """Delete the lowest versions, each one's graph first: without it, it is not a version."""
    found = whole_versions(place.entries())
    for number in sorted(found)[:-keep]:
        if number != made:
            place.delete([f"{number}/{GRAPH}"])
            place.delete([f"{number}/{name}" for name in found[number] if name != GRAPH])


def sync(
    place: Place, directory: Path, keep: int | None = None, waiting: Listings | None = None
) -> Iterator[Path]:
    """Copy the whole versions that a local directory lacks, of a model or of each in a folder of models.

    Each appears by a rename, complete; a version's content never changes, so what is there stays.

    Args:
        place: The address of a model, or of a folder of models.
        directory: The local directory for it, which a server watches.
        keep: Copy the highest so many alone, and delete those below from the directory.
        waiting: Versions that the last call left, because another program than `export` may still upload
            them: they are copied once their files have not changed since. It is brought up to date. Without
            it, they are copied as they are.

    Yields:
        The folder of each new version, once it is there.

    Raises:
        UserError: The address cannot be read, or the directory not be written to.
    """
    entries = place.entries()
    names = sorted({name.split("/")[0] for name in entries if "/" in name})
    models = {
        Place(f"{place.address}/{name}"): (directory / name, below(entries, f"{name}/")) for name in names
    }
    if numbers(entries):
        if strays := [each.address for each, (_, inside) in models.items() if numbers(inside)]:
            raise UserError(
                f"{place.address} has both versions and models ({listed(strays)}): move its versions into a "
                "model's folder"
            )
        models = {place: (directory, entries)}
    if not any(numbers(inside) for _, inside in models.values()):
        raise MissingError(f"no exported version at {place.address}: expected what `export` uploaded")
    errors: list[UserError] = []
    held_back: Listings = {}
    for model, (folder, inside) in models.items():
        for number, files in _lacking(folder, keep, whole_versions(inside)):
            there = Place(f"{model.address}/{number}")
            if waiting is not None and FILES not in files and waiting.get(there.address) != files:
                held_back[there.address] = files
                continue
            try:
                yield _copied(there, files, folder, number)
            except UserError as error:  # the others are copied nevertheless
                errors.append(error)
        if keep and folder.is_dir() and (latest := latest_version(folder)) is not None:
            prune(folder, keep, folder / str(latest))
    if waiting is not None:
        waiting.clear()
        waiting.update(held_back)
    for failure in errors:
        raise failure


def _lacking(
    directory: Path, keep: int | None, found: Mapping[int, Mapping[str, Entry]]
) -> list[tuple[int, Mapping[str, Entry]]]:
    """The versions to copy, ascending, and their files."""
    here = versions(directory) if directory.is_dir() else {}
    whole = {number for number, path in here.items() if (path / GRAPH).is_file()}
    wanted = sorted({*found, *whole})[-keep if keep else None :]  # those that `prune` keeps
    return [(number, found[number]) for number in wanted if number not in here]


def _copied(there: Place, files: Mapping[str, Entry], directory: Path, number: int) -> Path:
    with staging(directory) as folder:
        for name, entry in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            there.download(entry, folder / name)
        return publish(check_version(folder, there.address), directory, number)
