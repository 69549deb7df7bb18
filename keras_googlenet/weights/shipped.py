"""The package's own trained networks: each has a run's folder and a model card.

Imports no framework: the command line lists them.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

from keras_googlenet.errors import UserError
from keras_googlenet.names import ARCHITECTURE, CONFIG, LABELS
from keras_googlenet.storage.published import local
from keras_googlenet.text import meant

IMAGENET, HUB = "imagenet", "hf://"
FOLDER = Path(str(resources.files("keras_googlenet"))) / "networks"


def shipped_names() -> list[str]:
    """The names of the networks that came with the package, sorted."""
    return sorted(file.parent.name for file in FOLDER.glob(f"*/{CONFIG}"))


def is_shipped(name: str | Path | None) -> bool:
    """Whether this is the name of a shipped network. `./cifar10`, or a `Path`, is a folder."""
    return isinstance(name, str) and name in shipped_names()


def is_address(name: str | Path) -> bool:
    """Whether this is the address of a download."""
    return isinstance(name, str) and name.startswith(("https://", HUB, "http://"))


def check_run(run: str | Path) -> None:
    """Refuse what is neither a folder nor a network of the package.

    Raises:
        UserError: There is no such run.
    """
    if not located(run).is_dir():
        raise UserError(
            f"no run at {run}: expected the folder that `train` made"
            + (meant(run, shipped_names()) if isinstance(run, str) else "")
        )


def check_network(name: str | Path) -> None:
    """Refuse a name that `load` does not know.

    Raises:
        UserError: There is no such network.
    """
    names = [*shipped_names(), IMAGENET]
    if isinstance(name, Path) and str(name) in names and not name.is_dir():
        raise UserError(f"no folder at {name}: the network of that name is chosen by `weights`")
    if name not in names and not is_address(name) and not located(name).is_dir():
        raise UserError(
            f"no network {str(name)!r}: expected {', '.join(names)}, a run's folder, an exported version's, "
            f"or an https:// or hf:// address{meant(str(name), names)}"
        )


def located(name: str | Path) -> Path:
    """The folder of a shipped network by its name, of an address its local copy, or else the path itself."""
    return FOLDER / name if is_shipped(name) else local(name)


def fits(name: str) -> dict[str, Any]:
    """What a shipped network is: its `architecture` as JSON, `shape` (height, width, channels), `classes`."""
    folder = FOLDER / name
    size = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["preprocessing"]
    return {
        "architecture": (folder / ARCHITECTURE).read_text(encoding="utf-8"),
        "shape": (size["height"], size["width"], size["channels"]),
        "classes": len((folder / LABELS).read_text(encoding="utf-8").splitlines()),
    }
