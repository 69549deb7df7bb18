"""Published files: from their address, from the cache, or from a folder chosen by the user."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import keras

from keras_googlenet.errors import UserError
from keras_googlenet.names import ARCHITECTURE, CONFIG, LABELS, MODEL, SUMMARY
from keras_googlenet.weights.published import WeightsSpec
from keras_googlenet.weights.shipped import HUB

ORIGINALS_VARIABLE = "KERAS_GOOGLENET_WEIGHTS_DIR"
CACHE_FOLDER = "models/keras_googlenet"  # below Keras's own home
SHA256_LENGTH = 64
OF_A_RUN = (CONFIG, ARCHITECTURE, LABELS, SUMMARY, MODEL)


def original_file(spec: WeightsSpec) -> Path:
    """The published file, checked: from `KERAS_GOOGLENET_WEIGHTS_DIR`, the cache, or its address.

    Raises:
        UserError: It is not there, cannot be downloaded, or is not the published file.
    """
    originals = os.environ.get(ORIGINALS_VARIABLE)
    if originals:
        path = Path(originals) / spec.file
        if not path.is_file():
            raise UserError(f"{ORIGINALS_VARIABLE} is set and {path} is missing: put {spec.address} there")
        check_file(path, spec)
        return path
    known_hash = spec.sha256 if len(spec.sha256) == SHA256_LENGTH else None
    path = cache_folder() / spec.file
    with suppress(UserError, FileNotFoundError):
        check_file(path, spec)
        return path
    try:
        with _downloaded(spec.file, spec.address, known_hash) as file:
            check_file(file, spec)
            file.replace(path)
    except UserError as error:
        raise UserError(
            f"cannot fetch {spec.name} weights: {error}; download {spec.address} yourself, and set "
            f"{ORIGINALS_VARIABLE} to its folder"
        ) from error
    return path


def published_run(address: str) -> Path:
    """A run's folder from the address of its zip archive; unpacked into the cache the first time.

    Args:
        address: `https://HOST/FILE.zip#sha256=...`, or `hf://OWNER/REPOSITORY/FILE.zip#sha256=...`.

    Raises:
        UserError: The address has no hash, the download fails or differs, or it is not an archive of a run.
    """
    url, _, fragment = address.partition("#")
    sha256 = fragment.removeprefix("sha256=").lower()
    if url.startswith("http://") or not re.fullmatch(f"[0-9a-f]{{{SHA256_LENGTH}}}", sha256):
        raise UserError(
            "expected https:// or hf:// and the file's hash, as in https://HOST/FILE.zip#sha256=..., with 64 "
            f"hexadecimal digits; got {address}"
        )
    if url.startswith(HUB):
        owner, repository, *path = url.removeprefix(HUB).split("/")
        if not path:
            raise UserError(f"expected hf://OWNER/REPOSITORY/FILE.zip#sha256=...; got {address}")
        url = f"https://huggingface.co/{owner}/{repository}/resolve/main/{'/'.join(path)}"
    folder = cache_folder() / f"run-{sha256[:16]}"
    if not folder.is_dir():
        with _downloaded(f"run-{sha256[:16]}.zip", url, sha256) as archive:
            _unpack(archive, folder, address)
    return folder


@contextmanager
def _downloaded(name: str, url: str, sha256: str | None) -> Iterator[Path]:
    """A file in a private folder, deleted afterwards: another process may download the same file."""
    with tempfile.TemporaryDirectory(prefix=".download-", dir=cache_folder()) as folder:
        try:
            file = keras.utils.get_file(name, url, file_hash=sha256, cache_dir=folder, cache_subdir="")
        except Exception as error:  # of any network layer; the user sees one line
            raise UserError(f"cannot fetch {url}: {' '.join(str(error).split())}") from error
        yield Path(file)


def _unpack(archive: Path, folder: Path, address: str) -> None:
    """The files of a run from a zip archive, where they may be in a folder."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        unfinished = Path(made) / "run"
        unfinished.mkdir()
        try:
            with zipfile.ZipFile(archive) as packed:
                for member in packed.infolist():
                    if Path(member.filename).name in OF_A_RUN:
                        (unfinished / Path(member.filename).name).write_bytes(packed.read(member))
        except (zipfile.BadZipFile, zlib.error, RuntimeError) as error:  # RuntimeError: it is encrypted
            raise UserError(f"{address} is not a zip archive that can be read: {error}") from None
        except OSError as error:
            raise UserError(f"cannot unpack {address} in {made}: {error.strerror}") from None
        if not (unfinished / CONFIG).is_file():
            raise UserError(f"{address} holds no run: expected a zip archive of its folder")
        with suppress(OSError):  # another process was first
            unfinished.rename(folder)


def check_file(path: Path, spec: WeightsSpec) -> None:
    """Compare a file with the published size and checksum.

    Raises:
        UserError: It differs.
    """
    size = path.stat().st_size
    if spec.size is not None and size != spec.size:
        raise UserError(f"{path} is not the published file: expected {spec.size} bytes, found {size}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(spec.sha256):
        raise UserError(f"{path} is not the published file: expected SHA-256 {spec.sha256}, found {found}")


def cache_folder() -> Path:
    """Where originals and converted files are kept: in Keras's home, or where `KERAS_HOME` says."""
    folder = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / CACHE_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return folder
