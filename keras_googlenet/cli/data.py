"""`sample`, `prepare` and `inspect`: images before training."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import cyclopts

from keras_googlenet.data.sources import TFDS, check_data
from keras_googlenet.errors import UserError
from keras_googlenet.images.files import TRAINED_NAMES
from keras_googlenet.quiet import import_tensorflow, silenced_libraries
from keras_googlenet.text import listed, say

NAMED = 20  # unreadable files in an error of one line


def sample(to: Path, /) -> None:
    """Write a held-out image of the bundled sample, to try `predict` with.

    Parameters
    ----------
    to
        The PNG file to write; it must not exist.
    """
    if to.suffix.lower() != ".png" or not to.parent.is_dir():
        raise UserError(f"expected a file that ends in .png, in an existing folder; got {to}")
    if to.exists():
        raise UserError(f"{to} exists: choose another file, or delete it")
    import cv2

    from keras_googlenet.data.bundled import SAMPLE_CLASSES, sample_arrays

    arrays = sample_arrays()
    to.write_bytes(cv2.imencode(".png", arrays["test_images"][0])[1].tobytes())
    say(f"{to}  {SAMPLE_CLASSES[arrays['test_labels'][0]]}")


def prepare(
    source: Path,
    target: Path | None = None,
    /,
    *,
    size: int | None = None,
    quality: int | None = None,
    enlarge: Annotated[bool, cyclopts.Parameter(negative="")] = False,
    tfds: str | None = None,
    skip_corrupt: Annotated[bool, cyclopts.Parameter(negative="")] = False,
) -> None:
    """Write smaller copies of a folder's images to another folder, so that training decodes them faster.

    Rerun to finish after an interruption. With --tfds, write a set of TensorFlow Datasets instead.

    Parameters
    ----------
    source
        A folder of images, at any depth; it is not changed. With --tfds, a folder as train --data takes it.
    target
        The new folder: the images get the same paths in it. Not with --tfds.
    size
        Length of the shorter side in pixels, by default 224; the aspect ratio is kept.
    quality
        Quality of JPEG images, 1 to 100, by default 95. PNG images stay PNG.
    enlarge
        Enlarge images that are smaller than --size instead of copying them.
    tfds
        Write the images, in their size, as the set tfds:NAME in the data directory of TensorFlow Datasets
        (TFDS_DATA_DIR). For sets that are larger than the memory: a few large files instead of one per image.
    skip_corrupt
        Report unreadable files and exit with 0; by default they are an error after all others are done.
    """
    if tfds is not None:
        given = {"target": target, "size": size, "quality": quality, "enlarge": enlarge or None}
        for name, value in given.items():
            if value is not None:
                raise UserError(
                    f"expected no `{name}` with `tfds`, which keeps the images as they are: to resize them, "
                    "prepare a folder first, then write that one"
                )
        write_tfds(source, tfds, skip_corrupt)
        return
    if target is None:
        raise UserError("expected TARGET, the new folder, or `tfds`, the name of a data set")
    from keras_googlenet.data.prepare import prepare as prepare_folder

    chosen = {"size": size, "quality": quality}
    options = {name: value for name, value in chosen.items() if value is not None}
    with silenced_libraries():
        done = prepare_folder(source, target, enlarge=enlarge, **options)
    unreadable = [f"{source / file} ({reason})" for file, reason in done.unreadable.items()]
    if skip_corrupt:
        for line in unreadable:
            say(f"skipped {line}")
    say(
        f"{target}: {done.resized} resized, {done.copied} copied, {done.present} already there, "
        f"{len(unreadable)} skipped"
    )
    if unreadable and not skip_corrupt:
        raise UserError(
            f"cannot read {listed(unreadable, NAMED)}: expected {TRAINED_NAMES} images; replace or "
            "remove them, or skip them with --skip-corrupt"
        )


def write_tfds(source: Path, name: str, skip_corrupt: bool) -> None:
    """Write a folder as a set of TensorFlow Datasets, and print what it holds."""
    import_tensorflow()
    from keras_googlenet.data.tfds_writing import write_set

    with silenced_libraries():
        written = write_set(source, name, skip_corrupt=skip_corrupt)
    counts = ", ".join(f"{count:,} {split}" for split, count in written.counts.items())
    say(f"{TFDS}{name}: {counts} images in {written.folder}")


def inspect(
    *,
    data: Annotated[list[str], cyclopts.Parameter(negative="")],
    to: Path,
    class_name: Annotated[str | None, cyclopts.Parameter(name="--class")] = None,
    weights: str | None = None,
    variant: str | None = None,
    projection: Literal["pca", "tsne"] = "pca",
    images: int = 500,
    seed: int = 0,
    tfds_manual_dir: Path | None = None,
) -> None:
    """Inspect one or two data sets: counts, sizes, duplicates, leakage between parts, pictures.

    Parameters
    ----------
    data
        "sample", a folder with one folder of images for each class, or "tfds:NAME"; pass it twice for two.
    to
        The folder to make, with report.html, which shows all, inspection.json, near_duplicates.csv (pairs of
        copies of the same picture), contact sheets and features.png.
    class_name
        Draw the features of this class only.
    weights
        The network whose features are drawn: one of the package such as cifar10, a run's folder, a .keras or
        .weights.h5 file, or "imagenet"; by default cifar10, or fashion_mnist for gray images.
    variant
        Name of the network, if the weights do not determine it; without --weights, it is not trained.
    projection
        How features become points; tsne needs scikit-learn.
    images
        Maximum number of images per set whose features are drawn.
    seed
        Random seed for the choice of images, the split, and an untrained network.
    tfds_manual_dir
        Folder with the original files of a TensorFlow data set, to build it without a download.
    """
    for name in data:
        check_data(name)
    if os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow":
        import_tensorflow()
    from keras_googlenet.data.inspection import table
    from keras_googlenet.evaluation.inspect import inspect as inspect_data

    with silenced_libraries():
        report = inspect_data(
            data,
            to,
            class_name=class_name,
            weights=weights,
            variant=variant,
            projection=projection,
            images=images,
            seed=seed,
            tfds_manual_dir=tfds_manual_dir,
        )
    for name, found in report["sets"].items():
        say(table(name, found))
    say(to / "report.html")
