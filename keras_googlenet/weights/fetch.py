"""Published files: from their address, from the cache, or from a folder of the user's."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import keras

from keras_googlenet.errors import UserError
from keras_googlenet.weights.published import WeightsSpec

ORIGINALS_VARIABLE = "KERAS_GOOGLENET_WEIGHTS_DIR"
CACHE_FOLDER = "models/keras_googlenet"  # below Keras's own home
SHA256_LENGTH = 64


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
    folder = cache_folder()
    known_hash = spec.sha256 if len(spec.sha256) == SHA256_LENGTH else None
    try:
        path = Path(
            keras.utils.get_file(
                spec.file,
                spec.address,
                file_hash=known_hash,
                cache_dir=folder.parent,
                cache_subdir=folder.name,
            )
        )
        check_file(path, spec)
    except Exception as error:  # of any network layer; the user sees one line
        (folder / spec.file).unlink(missing_ok=True)  # a wrong file must not be found the next time
        reason = " ".join(str(error).split())
        raise UserError(
            f"cannot fetch {spec.name} weights: {reason}; download {spec.address} yourself, and set "
            f"{ORIGINALS_VARIABLE} to its folder"
        ) from error
    return path


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
