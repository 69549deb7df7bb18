"""Inspect data sets, and leave a folder with what was found."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_googlenet.data.groups import PAIRS
from keras_googlenet.data.inspection import Place, image_name, inspect_images, parts_of, pixels
from keras_googlenet.data.parts import ImageData
from keras_googlenet.data.sources import load_data, source_of
from keras_googlenet.errors import UserError, checked_names
from keras_googlenet.evaluation.features import (
    FeatureNetwork,
    check_projection,
    embed,
    feature_network,
    project,
    spread,
)
from keras_googlenet.evaluation.inspection_plots import POINT, plot_contact_sheet, plot_scatter, thumbnail
from keras_googlenet.evaluation.inspection_report import write_page
from keras_googlenet.evaluation.plots import shortened

REPORT = "inspection.json"
SCATTER = "features.png"
PAGE = "report.html"


@checked_names
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
    tfds_manual_dir: Path | None = None,
) -> dict[str, Any]:
    """Inspect one data set, or compare two.

    Args:
        names: Names of data sets, as for `data.sources.load_data`.
        to: The folder to create. It gets `report.html`, which shows everything; `inspection.json`; for each
            set a contact sheet and `near_duplicates.csv` (pairs of copies of the same picture); and
            `features.png`, a scatter plot of features, colored by class for one set and by set for two.
        class_name: Draw the features of this class only.
        weights: Weights of the feature network; see `features.feature_network`.
        variant: Variant of the feature network; see `features.feature_network`.
        projection: `"pca"` or `"tsne"`.
        images: Maximum number of images per set whose features are drawn; each class has its share.
        seed: Random seed of the choice of images, of the data's split, and of an untrained network.
        tfds_manual_dir: Folder with the original files of TensorFlow data sets, to build them offline.

    Returns:
        The content of `inspection.json`: `sets`, the result of `data.inspection.inspect_images` by name, and
        `features`, a description of what is drawn.

    Raises:
        UserError: An argument is not as above, or `to` is not a new or empty folder; nothing is written.
    """
    _check_arguments(names, to, projection, images, seed)
    by_hand = {name: tfds_manual_dir for name in names if "tfds_manual_dir" in source_of(name).options}
    if tfds_manual_dir is not None and not by_hand:
        raise UserError("expected no `tfds_manual_dir` without data such as tfds:cifar10")
    sets = {
        name: load_data(name, seed=seed, skip_corrupt=True, tfds_manual_dir=by_hand.get(name))
        for name in names
    }
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
    points, axis_names = project(
        np.concatenate([of_set.features for of_set in drawn.values()]), projection, seed
    )
    found = {name: inspect_images(data) for name, data in sets.items()}
    report = {
        "sets": {name: facts for name, (facts, _) in found.items()},
        "features": {
            "network": network.description,
            "projection": projection,
            "class": class_name,
            "images": {name: len(of_set.labels) for name, of_set in drawn.items()},
        },
    }

    to.mkdir(parents=True, exist_ok=True)
    (to / REPORT).write_text(json.dumps(report, indent=2) + "\n")
    pairs = {name: of_set for name, (_, of_set) in found.items()}
    sheets = {}
    for number, (name, data) in enumerate(sets.items(), 1):
        of_set = f"_{number}" if len(sets) > 1 else ""
        sheets[name] = to / f"contact_sheet{of_set}.png"
        plot_contact_sheet(data, shortened(name, 60), sheets[name], seed)
        _write_pairs(data, pairs[name], to / f"near_duplicates{of_set}.csv")
    what = " and ".join(shortened(name) for name in names)
    of_class = f", class {shortened(class_name)}" if class_name else ""
    seen_by = shortened(network.description, 60)
    title = f"Images of {what}{of_class}: close ones are alike in the features of\n{seen_by}"
    groups, group_names = _groups(sets, [of_set.labels for of_set in drawn.values()])
    pictures = [picture for of_set in drawn.values() for picture in of_set.pictures]
    plot_scatter(points, groups, group_names, axis_names, title, to / SCATTER, pictures)
    write_page(report, sets, pairs, sheets, to / SCATTER, to / PAGE)
    return report


def _write_pairs(data: ImageData, pairs: list[tuple[Place, Place]], file: Path) -> None:
    parts = parts_of(data)
    with file.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(PAIRS)
        rows.writerows([image_name(part, parts[part], index) for part, index in pair] for pair in pairs)


def _check_arguments(names: Sequence[str], to: Path, projection: str, images: int, seed: int) -> None:
    if not 1 <= len(names) <= 2 or len(set(names)) < len(names):
        raise UserError(f"expected one data set or two different ones, got {', '.join(names)}")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"{to} exists: choose another folder, or delete it")
    if images < 1:
        raise UserError(f"expected `images` to be at least 1, got {images}")
    if not 0 <= seed < 2**32:
        raise UserError(f"expected `seed` to be between 0 and 4294967295, got {seed}")
    check_projection(projection)


def _groups(sets: dict[str, ImageData], labels: list[np.ndarray]) -> tuple[np.ndarray, Sequence[str]]:
    """The color group of each point (its class for one set, its set for two), and the groups' names."""
    if len(sets) == 1:
        (data,) = sets.values()
        return labels[0], data.class_names
    return np.repeat(np.arange(len(sets)), [len(of_set) for of_set in labels]), tuple(sets)


@dataclass(frozen=True)
class Drawn:
    """What the scatter shows of a set: features (images, features), labels (images,), and small pictures."""

    features: np.ndarray
    labels: np.ndarray
    pictures: list[np.ndarray]


def _embedded(
    network: FeatureNetwork, data: ImageData, class_name: str | None, images: int, seed: int
) -> Drawn:
    """Features of some images of all parts."""
    parts = parts_of(data).values()
    labels = np.concatenate([part.labels for part in parts])
    candidates = np.arange(len(labels))
    if class_name is not None:
        candidates = np.flatnonzero(labels == data.class_names.index(class_name))
    chosen = candidates[spread(labels[candidates], images, seed)]
    features, pictures, start = [], [], 0
    for part in parts:
        of_part = chosen[(chosen >= start) & (chosen < start + part.count)] - start
        start += part.count
        if len(of_part):
            features.append(embed(network, part.take(of_part)))
            pictures += [thumbnail(pixels(part, int(index)), POINT) for index in of_part]
    return Drawn(np.concatenate(features), labels[chosen], pictures)
