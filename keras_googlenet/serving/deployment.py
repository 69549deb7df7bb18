"""`deploy(folder, model)`: files for a deployment of one model, with the page to try it."""

from __future__ import annotations

import re
import shutil
import tempfile
from importlib import resources
from pathlib import Path

from keras_googlenet.errors import UserError
from keras_googlenet.serving import page
from keras_googlenet.versions import versions

PACKAGE = Path(str(resources.files("keras_googlenet")))
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # that of a folder, and of a part of a URL
EXAMPLE = "googlenet"  # the model of the files


def deploy(folder: Path, model: str) -> str:
    """Write a folder of files to deploy a model with TensorFlow Serving.

    Args:
        folder: The folder to make; it must not exist.
        model: The model's name, or its directory of versions, whose parent `.env` then names.

    Returns:
        The model's name.

    Raises:
        UserError: The folder exists, or the name does not fit a URL.
    """
    directory = Path(model).resolve()
    name = directory.name if model and directory.is_dir() else model
    if not NAME.fullmatch(name):
        raise UserError(f"expected a model's name of letters, digits, '.', '-' and '_', got {name!r}")
    if folder.exists():
        raise UserError(f"{folder} exists: choose another folder, or delete it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as made:
        unfinished = Path(made) / "files"
        shutil.copytree(files(), unfinished, ignore=shutil.ignore_patterns("__pycache__"))
        config = unfinished / "models.config"
        text = config.read_text(encoding="utf-8")
        for example, own in ((f'"{EXAMPLE}"', f'"{name}"'), (f"/models/{EXAMPLE}", f"/models/{name}")):
            text = text.replace(example, own)
        config.write_text(text, encoding="utf-8")
        for file in (unfinished / "Dockerfile", unfinished / "Dockerfile.dockerignore"):
            text = file.read_text(encoding="utf-8")
            text = re.sub(r"(?<![\w/-])serving(?=/|$)", lambda _: folder.name, text, flags=re.MULTILINE)
            file.write_text(text, encoding="utf-8")
        shutil.copytree(
            page.FOLDER, unfinished / "page", ignore=shutil.ignore_patterns("__pycache__", "*.py")
        )
        (unfinished / "page/index.html").write_text(page.html([name]), encoding="utf-8")
        if directory.is_dir() and versions(directory):
            (unfinished / ".env").write_text(f"MODELS='{directory.parent}'\n", encoding="utf-8")
        unfinished.rename(folder)
    return name


def files() -> Path:
    """The folder of the files: the package's, or in a checkout the repository's."""
    packaged = PACKAGE / "serving/files"
    return packaged if packaged.is_dir() else PACKAGE.parent / "serving"
