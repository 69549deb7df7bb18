"""Inspect data sets, and leave a folder with what was found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_googlenet.data.inspection import inspect_images, parts_of
from keras_googlenet.data.parts import ImageData
from keras_googlenet.data.sources import load_data
from keras_googlenet.errors import UserError
from keras_googlenet.evaluation.features import (
    FeatureNetwork,
    check_projection,
    embed,
    feature_network,
    project,
    spread,
)
from keras_googlenet.evaluation.inspection_plots import plot_contact_sheet, plot_scatter
from keras_googlenet.evaluation.plots import shortened

REPORT = "inspection.json"
SCATTER = "features.png"


def inspect(
    names: Sequence[str],
    to: Path,
    *,
    class_name: str | None = None,
    weights: str | None = None,
    variant: str | None = None,
    projection: str = "pca",
    images: int = 500,
    seed: int = 0,
) -> dict[str, Any]:
    """Look at one data set, or at two beside each other.

    Args:
        names: Of the data, as `data.sources.load_data` takes them.
        to: The folder to make: `inspection.json`, a contact sheet of each set, and `features.png`, a
            scatter of features, coloured by class for one set and by set for two.
        class_name: Draw features of this class alone.
        weights: Of the network that features are from; see `features.feature_network`.
        variant: The same.
        projection: `"pca"` or `"tsne"`.
        images: How many of each set to draw features of, at most; each class has its share.
        seed: Of that choice, of the data's division, and of an untrained network.

    Returns:
        What `inspection.json` holds: `sets`, of each what `data.inspection.inspect_images` finds, by
        name, and `features`: what is drawn.

    Raises:
        UserError: An argument is not as above, or `to` is no new or empty folder: then nothing is written.
    """
    _check_arguments(names, to, projection, images, seed)
    sets = {name: load_data(name, seed=seed, skip_corrupt=True) for name in names}
    for name, data in sets.items():
        if class_name is not None and class_name not in data.class_names:
            raise UserError(
                f"expected a class of {name}, one of {', '.join(data.class_names)}; got {class_name!r}"
            )
    network = feature_network(
        weights,
        variant,
        image_size=max(data.image_size for data in sets.values()),
        channels=max(data.channels for data in sets.values()),
        seed=seed,
    )
    drawn = {name: _embedded(network, data, class_name, images, seed) for name, data in sets.items()}
    points, axis_names = project(np.concatenate([f for f, _ in drawn.values()]), projection, seed)
    report = {
        "sets": {name: inspect_images(data) for name, data in sets.items()},
        "features": {
            "network": network.description,
            "projection": projection,
            "class": class_name,
            "images": {name: len(labels) for name, (_, labels) in drawn.items()},
        },
    }

    to.mkdir(parents=True, exist_ok=True)
    (to / REPORT).write_text(json.dumps(report, indent=2) + "\n")
    for number, (name, data) in enumerate(sets.items(), 1):
        sheet = to / (f"contact_sheet_{number}.png" if len(sets) > 1 else "contact_sheet.png")
        plot_contact_sheet(data, shortened(name, 60), sheet, seed)
    what = " and ".join(shortened(name) for name in names)
    of_class = f", class {shortened(class_name)}" if class_name else ""
    title = f"Features of {what}{of_class}\n{shortened(network.description, 60)}"
    groups, group_names = _groups(sets, [labels for _, labels in drawn.values()])
    plot_scatter(points, groups, group_names, axis_names, title, to / SCATTER)
    return report


def _check_arguments(names: Sequence[str], to: Path, projection: str, images: int, seed: int) -> None:
    if not 1 <= len(names) <= 2 or len(set(names)) < len(names):
        raise UserError(f"expected one data set or two different ones, got {', '.join(names)}")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"{to} exists: choose another folder, or delete it")
    if images < 1:
        raise UserError(f"expected images to be at least 1, got {images}")
    if not 0 <= seed < 2**32:
        raise UserError(f"expected seed to be between 0 and 4294967295, got {seed}")
    check_projection(projection)


def _groups(sets: dict[str, ImageData], labels: list[np.ndarray]) -> tuple[np.ndarray, Sequence[str]]:
    """The colour of each point: its class for one set, its set for two; and the colours' names."""
    if len(sets) == 1:
        (data,) = sets.values()
        return labels[0], data.class_names
    return np.repeat(np.arange(len(sets)), [len(of_set) for of_set in labels]), tuple(sets)


def _embedded(
    network: FeatureNetwork, data: ImageData, class_name: str | None, images: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Features (images, features) of some images of all parts, and their labels (images,)."""
    parts = parts_of(data).values()
    labels = np.concatenate([part.labels for part in parts])
    candidates = np.arange(len(labels))
    if class_name is not None:
        candidates = np.flatnonzero(labels == data.class_names.index(class_name))
    chosen = candidates[spread(labels[candidates], images, seed)]
    features, start = [], 0
    for part in parts:
        of_part = chosen[(chosen >= start) & (chosen < start + part.count)] - start
        start += part.count
        if len(of_part):
            features.append(embed(network, part.take(of_part)))
    return np.concatenate(features), labels[chosen]
