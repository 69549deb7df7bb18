"""The package's own trained networks: in each one's folder is what a run's has, and a model card.

Imports no framework: the command line lists them.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

from keras_googlenet.names import ARCHITECTURE, CONFIG, LABELS

FOLDER = Path(str(resources.files("keras_googlenet"))) / "networks"


def shipped_names() -> list[str]:
    """The names of the networks that came with the package, sorted."""
    return sorted(file.parent.name for file in FOLDER.glob(f"*/{CONFIG}"))


def is_shipped(name: str | Path | None) -> bool:
    """Whether it is the name of a shipped network. `./cifar10`, or a `Path`, is a folder."""
    return isinstance(name, str) and name in shipped_names()


def located(name: str | Path) -> Path:
    """The folder of a shipped network by its name, or else the path itself."""
    return FOLDER / name if is_shipped(name) else Path(name)


def fits(name: str) -> dict[str, Any]:
    """What a shipped network is: its `architecture` as JSON, `shape` (height, width, channels), `classes`."""
    folder = FOLDER / name
    size = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["preprocessing"]
    return {
        "architecture": (folder / ARCHITECTURE).read_text(encoding="utf-8"),
        "shape": (size["height"], size["width"], size["channels"]),
        "classes": len((folder / LABELS).read_text(encoding="utf-8").splitlines()),
    }
