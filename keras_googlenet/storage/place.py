"""What lies at an address: objects that appear whole or not at all. Backends are fsspec's."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, ParamSpec, TypeVar

from keras_googlenet.errors import Interrupted, UserError
from keras_googlenet.text import reason

P = ParamSpec("P")
R = TypeVar("R")

OTHERS = ("http", "https", "hf", "grpc", "grpcs")  # addresses of something else than storage
ADDRESS = re.compile(rf"(?!(?:{'|'.join(OTHERS)}):)([a-z][a-z0-9+]+):/{{1,2}}([^/].*)", re.DOTALL)
TAGS = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime", "updated", "created")


class Entry(NamedTuple):
    """An object: its name below an address, its size in bytes, and what changes with its content."""

    name: str
    size: int
    tag: str


def address(name: str | Path) -> str | None:
    """A name as an address in object storage; `None` for the path of a local file.

    A `Path` has lost a slash of `s3://`, which is put back.
    """
    found = ADDRESS.fullmatch(str(name))
    return f"{found[1]}://{found[2].rstrip('/')}" if found else None


def _in_one_line(method: Callable[P, R]) -> Callable[P, R]:
    """Report what a backend raises in one line. Each has exceptions of its package, so all are caught."""

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except (UserError, FileExistsError, Interrupted):
            raise
        except FileNotFoundError as error:
            raise MissingError(f"nothing at {_place(args).address} ({reason(error)})") from None
        except Exception as error:
            raise UserError(f"cannot use {_place(args).address}: {reason(error)}") from None

    return call


def _place(args: tuple[object, ...]) -> Place:
    assert isinstance(args[0], Place)
    return args[0]


class MissingError(UserError):
    """There is no such bucket or object."""


@dataclass(frozen=True)
class Place:
    """What lies below an address.

    Raises:
        UserError: From every method: the backend is not installed, or its service refuses or does not answer.
    """

    address: str

    @property
    def name(self) -> str:
        """The address's last component."""
        return PurePosixPath(self.address).name

    def sibling(self, name: str) -> Place:
        """What has another name in the same folder."""
        return Place(f"{self.address.rpartition('/')[0]}/{name}")

    @functools.cached_property
    def _system(self) -> tuple[Any, str]:
        """fsspec's file system, and the address without its scheme."""
        for backend in ("fsspec", "s3fs", "gcsfs", "adlfs"):  # tracebacks of what is reported in one line
            logging.getLogger(backend).addHandler(logging.NullHandler())
        try:
            from fsspec.core import url_to_fs

            return url_to_fs(self.address)
        except ImportError as error:
            raise UserError(
                f"cannot use {self.address}: {reason(error)}; for s3:// and gs://: "
                'pip install "keras-googlenet[storage]"'
            ) from None
        except ValueError:
            scheme = self.address.split(":")[0]
            raise UserError(
                f"no storage is named {scheme}://: expected s3://, gs:// or another of fsspec's"
            ) from None

    @_in_one_line
    def entries(self) -> dict[str, Entry]:
        """All objects, at any depth, by name."""
        system, root = self._system
        system.invalidate_cache()
        found = {}
        for path, facts in system.find(root, detail=True).items():
            name = path.removeprefix(root).lstrip("/")
            if not name or path.endswith("/"):  # the marker of an empty folder
                continue
            if {"", ".", ".."} & set(name.split("/")):
                raise UserError(f"{self.address} holds {name!r}, which is not the name of a file: delete it")
            tag = next((str(facts[each]) for each in TAGS if facts.get(each) is not None), "")
            found[name] = Entry(name, int(facts["size"]), tag)
        return dict(sorted(found.items()))

    @_in_one_line
    def check(self) -> None:
        """Refuse an address with nothing below it."""
        system, root = self._system
        system.invalidate_cache()
        system.ls(root)

    @_in_one_line
    def exists(self) -> bool:
        """Whether there is an object of this very address."""
        system, root = self._system
        system.invalidate_cache()
        try:
            return bool(system.info(root)["type"] == "file")
        except FileNotFoundError:
            return False

    @_in_one_line
    def read(self, name: str) -> bytes:
        """An object's content.

        Raises:
            MissingError: There is no such object.
        """
        system, root = self._system
        return bytes(system.cat_file(f"{root}/{name}"))

    @_in_one_line
    def write(self, name: str, content: bytes, *, new: bool = False) -> None:
        """Write an object, at once or not at all.

        Raises:
            FileExistsError: It exists, and is to be `new`.
        """
        system, root = self._system
        system.pipe_file(f"{root}/{name}" if name else root, content, mode="create" if new else "overwrite")

    @_in_one_line
    def download(self, entry: Entry, file: Path) -> None:
        """Write an object's content to a new local file."""
        system, root = self._system
        system.get_file(f"{root}/{entry.name}", str(file))
        size = file.stat().st_size
        if size != entry.size:
            raise UserError(
                f"{self.address}/{entry.name}: expected {entry.size:,} bytes, got {size:,}; rerun"
            )

    @_in_one_line
    def delete(self, names: list[str]) -> None:
        """Delete objects, all if possible."""
        system, root = self._system
        if names:
            with suppress(FileNotFoundError):  # another process was faster
                system.rm([f"{root}/{name}" for name in names])
