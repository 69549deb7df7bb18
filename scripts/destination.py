"""The output file of a script: the given one, or a new one in the current folder."""

from __future__ import annotations

from pathlib import Path

from keras_googlenet.errors import UserError


def destination(told: Path | None, name: str, option: str = "--to") -> Path:
    """The output file.

    Args:
        told: Value of the option; an existing file is replaced.
        name: File in the current folder that is used without the option.
        option: Name of the option, for the error message.

    Raises:
        UserError: The option is not given and the file exists, or the folder does not exist.
    """
    path = Path(name) if told is None else told
    if told is None and path.exists():
        raise UserError(f"{path} exists: pass {option} {path} to replace it, or name another file")
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"expected {option} to be a file in an existing folder, got {path}")
    return path
