"""Names shared by several folders: of layers, of files in a run's folder, of metrics.

Trained weights, exports and surgery find layers by them.
A convolution of a block is `inception_3a_3x3_reduce`, its normalization `..._bn`, its activation `..._relu`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Figure = TypeVar("Figure")

# A run's folder; a network of the package has the first five.
CONFIG = "config.json"
ARCHITECTURE = "architecture.json"  # the network exactly, whatever its variant's name
LABELS = "labels.txt"
MODEL = "model.keras"
SUMMARY = "summary.json"
METRICS = "metrics.csv"
DIVISION = "division.json.gz"

TOP_K = 5  # best classes that an evaluation counts and a served answer lists

MAIN = "main"  # the classifier's layer, and the network's first output
BLOCK = "inception_"  # what a block's layers begin with
OUTPUT = "_output"  # what a block's last layer ends with
BATCH_NORM = "_bn"
POOL = "_pool"  # before the main classifier: `avg_pool` or `max_pool`
AUXILIARY = "aux"  # what the layers of auxiliary heads begin with


def main_accuracy(figures: Mapping[str, Figure], prefix: str = "") -> Figure | None:
    """The main head's accuracy among a network's metrics; `None` if it is not there.

    Args:
        figures: By metric; Keras names that of a network with one output just `accuracy`.
        prefix: `"val_"` for validation.
    """
    return figures.get(f"{prefix}{MAIN}_accuracy", figures.get(f"{prefix}accuracy"))


def is_pool(layer: str) -> bool:
    """Whether a layer is the pool before the main classifier."""
    return layer in (f"avg{POOL}", f"max{POOL}")


def block_layer(block: str, part: str = "") -> str:
    """The name of a block's layer, such as `inception_3a_1x1`, or the prefix of all of them.

    Args:
        block: Such as "3a".
        part: Such as "1x1" or "output".
    """
    return f"{BLOCK}{block}_{part}" if part else f"{BLOCK}{block}"


def is_head(layer: str) -> bool:
    """Whether a layer is the last of the main classifier or of an auxiliary head."""
    return layer == MAIN or (layer.startswith(AUXILIARY) and "_" not in layer)


def is_classifier(layer: str) -> bool:
    """Whether a layer is of the main classifier or of an auxiliary head."""
    return layer == MAIN or layer.startswith(AUXILIARY)
