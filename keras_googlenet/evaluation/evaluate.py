"""Measure networks on labeled images: one or several together, by any of the paper's protocols."""

from __future__ import annotations

import itertools
import math
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import keras
import numpy as np
from tqdm import tqdm

from keras_googlenet.data.feed import evaluation_batches
from keras_googlenet.data.inspection import pixels
from keras_googlenet.data.parts import ImageData, Part
from keras_googlenet.errors import UserError, checked_names
from keras_googlenet.evaluation.crops import PROTOCOLS
from keras_googlenet.evaluation.images import (
    PARTS,
    Images,
    check_same_classes,
    in_order,
    named_images,
    own_images,
)
from keras_googlenet.evaluation.metrics import top_k_accuracy
from keras_googlenet.evaluation.report import write_report
from keras_googlenet.evaluation.results import Evaluation, ModelRow, command_line, measure
from keras_googlenet.evaluation.views import VIEWS, views_of
from keras_googlenet.images.decoder import has_tensorflow
from keras_googlenet.images.spec import Preprocessing
from keras_googlenet.network.googlenet import GoogLeNet
from keras_googlenet.network.surgery import strip_aux
from keras_googlenet.run import folder as run_folder
from keras_googlenet.text import printable
from keras_googlenet.weights.published import WeightsSpec, imagenet_spec
from keras_googlenet.weights.shipped import IMAGENET, located


@dataclass(frozen=True)
class Network:
    """A network to evaluate: a model with one output, and the preprocessing of its images."""

    name: str
    variant: str
    model: keras.Model
    preprocessing: Preprocessing
    published: tuple[float | None, float | None] = (None, None)  # top-1 and top-5 accuracy

    def row(self) -> ModelRow:
        """The network's row in a result."""
        size = self.preprocessing
        return ModelRow(self.name, self.variant, size.height, size.width, size.channels)


@checked_names
def evaluate(
    run: str | Path,
    data: str | Path | ImageData | None = None,
    *,
    ensemble: Sequence[str | Path] = (),
    part: str | None = None,
    crops: int = 1,
    views: int = 1,
    variant: str = "paper",
    batch_size: int = 64,
    recorded_split: bool = False,
    tfds_manual_dir: Path | None = None,
    to: Path | None = None,
) -> Evaluation:
    """Measure a run, published weights, or several runs whose probabilities are averaged.

    Args:
        run: The folder of a finished run, the name of a network of the package such as `"cifar10"`, or
            `"imagenet"` for published weights.
        data: Images to measure on: a folder with one folder of images for each class, another name that
            `load_data` takes, or an `ImageData`. By default the run's data, in its recorded split. For
            ImageNet: 1000 folders, in label order when sorted by name (WordNet ids).
        ensemble: Folders of further runs, or names of networks of the package, with the same classes.
        part: `"test"`, `"validation"` or `"train"`; by default the test part, or all images of a folder
            without parts.
        crops: Number of crops per image: 1 as in training, or 10 or 144 as in section 7 of the paper.
        views: Number of views of the one crop: 1 (the crop), 2 (and its mirror image), 6 (and one-pixel
            shifts). The result also has the accuracy of the crop alone.
        variant: With `"imagenet"`: the variant.
        batch_size: Number of crops per step.
        recorded_split: If the run's data has changed, use the recorded files that still exist.
        tfds_manual_dir: Folder with the original files of a TensorFlow data set, to build it offline.
        to: Folder to create for the report, its pictures and `evaluation.json`; by default no report is
            written.

    Raises:
        UserError: A run, weights or data cannot be used, they have different classes, or `to` exists.
    """
    _check(part=part, crops=crops, views=views, batch_size=batch_size, to=to)
    if recorded_split and data is not None:
        raise UserError("expected `recorded_split` without `data`: it is of what the run was trained on")
    if tfds_manual_dir is not None and isinstance(data, ImageData):
        raise UserError("expected no `tfds_manual_dir` with `data` that is open: it is for tfds:NAME")
    data = str(data) if isinstance(data, Path) else data
    networks, images = _prepare([run, *ensemble], variant, data, part, recorded_split, tfds_manual_dir)
    for network in networks:
        _check_square(network, crops)
    with _new_folder(to):
        started = time.perf_counter()
        first, mean = reduce(
            np.add, (answers(network, images.part, crops, views, batch_size) for network in networks)
        ) / len(networks)
        seconds = time.perf_counter() - started
        files = images.part.files
        evaluation = measure(
            images.part.labels,
            mean,
            images.class_names,
            files=None if files is None else [str(file) for file in files],
            models=[network.row() for network in networks],
            data=images.data,
            part=images.part_name,
            crops=crops,
            views=views,
            protocol=PROTOCOLS[crops] if views == 1 else f"{views} views: {VIEWS[views]}",
            one_view_top1=None if views == 1 else top_k_accuracy(images.part.labels, first, 1),
            command="keras_googlenet.evaluate(...)"
            if isinstance(data, ImageData)
            else command_line(
                [str(run), *map(str, ensemble)],
                variant,
                data,
                part,
                crops,
                views,
                recorded_split=recorded_split,
                tfds_manual_dir=tfds_manual_dir,
            ),
            seconds=seconds,
            published_top1=networks[0].published[0],
            published_top5=networks[0].published[1],
        )
        if to is not None:
            write_report(evaluation, [pixels(images.part, m.index) for m in evaluation.mistakes], to)
    return evaluation


def _prepare(
    names: Sequence[str | Path],
    variant: str,
    data: str | ImageData | None,
    part: str | None,
    recorded_split: bool,
    tfds_manual_dir: Path | None,
) -> tuple[list[Network], Images]:
    """Load what takes part, and the images with labels in its order of classes."""
    spec = imagenet_spec(variant, aux_heads=False) if names[0] == IMAGENET else None
    of_runs = [str(name) for name in names[0 if spec is None else 1 :]]
    folders = [located(name) for name in names[0 if spec is None else 1 :]]
    runs = [run_folder.load(folder) for folder in folders]
    for name, run in zip(of_runs, runs, strict=True):
        check_same_classes(name, run.class_names, of_runs[0], runs[0].class_names)
    networks = [_of_run(*each) for each in zip(of_runs, folders, runs, strict=True)]
    if spec is None:
        images = (
            own_images(folders, part, recorded_split=recorded_split, tfds_manual_dir=tfds_manual_dir)
            if data is None
            else named_images(data, part, folders[0], tfds_manual_dir)
        )
        return networks, in_order(images, runs[0].class_names, of_runs[0])
    if data is None:
        raise UserError("expected `data` to measure published weights on: a folder of images for each class")
    images = named_images(data, part, None, tfds_manual_dir)
    if isinstance(data, str):
        _check_wordnet(images)
    network = _published(spec, images)
    if runs:
        check_same_classes(of_runs[0], runs[0].class_names, images.data, images.class_names)
    return [network, *networks], images


def answers(network: Network, part: Part, crops: int, views: int, batch_size: int) -> np.ndarray:
    """A network's probabilities, float64 (2, images, classes): of each unchanged image, and averaged.

    The average is over its crops or views; where there are several crops, the first is 0.
    """
    shape = (2, part.count, network.model.output_shape[-1])
    total, done = np.zeros(shape), 0
    if crops > 1:
        from keras_googlenet.evaluation.crop_pipeline import crop_batches

        batches = crop_batches(part, network.preprocessing, crops, batch_size).as_numpy_iterator()
    else:
        dataset = evaluation_batches(part, network.preprocessing, batch_size=batch_size)
        batches = (np.asarray(images) for images, _ in dataset)
    steps = math.ceil(part.count * crops / batch_size)
    for images in tqdm(batches, printable(network.name), steps, leave=False, disable=None):
        places = (done + np.arange(len(images))) // crops
        for number, (weight, view) in enumerate(views_of(images, views)):
            found = network.model.predict_on_batch(view)
            np.add.at(total[1], places, found * (weight / crops))
            if number == 0 and crops == 1:
                total[0, places] = found
        done += len(images)
    return total


def _check(*, part: str | None, crops: int, views: int, batch_size: int, to: Path | None) -> None:
    for name, fine, expected, got in (
        ("part", part in (None, *PARTS), "test, validation or train", part),
        ("crops", crops in PROTOCOLS, "1, 10 or 144", crops),
        ("views", views in VIEWS, "1, 2 or 6", views),
        ("crops", crops == 1 or views == 1, "1 with `views`, which define their crops", crops),
        ("batch_size", batch_size >= 1, "at least 1", batch_size),
    ):
        if not fine:
            raise UserError(f"expected `{name}` to be {expected}, got {got}")
    if crops != 1 and not has_tensorflow():
        raise UserError(f"{crops} crops need TensorFlow, which is not installed: install it, or take 1 crop")
    if to is not None and to.exists():
        raise UserError(f"{to} exists: choose another folder, or delete it")


def _check_square(network: Network, crops: int) -> None:
    height, width = network.preprocessing.height, network.preprocessing.width
    if crops != 1 and height != width:
        raise UserError(
            f"expected 1 crop: {crops} are squares, and {network.name} takes images of {height} x {width}"
        )


def _check_wordnet(images: Images) -> None:
    """Refuse class folders whose sorted order may not be that of ImageNet's labels."""
    for name in images.class_names:
        if not re.fullmatch(r"n\d{8}", name):
            raise UserError(
                f"expected class folders in {images.data} named by their WordNet ids, such as n01440764, "
                f"because the labels of published weights are in their order; found {name}"
            )


def _published(spec: WeightsSpec, chosen: Images) -> Network:
    classes = min(spec.classes, 1000)  # TF-Slim's background class has no images
    found = len(chosen.class_names)
    if found != classes:
        raise UserError(f"expected {classes} class folders in {chosen.data}, as ImageNet has; found {found}")
    model = GoogLeNet(variant=spec.variant, weights=IMAGENET, aux_heads=False, classes=classes)
    published = (spec.top1 / 100, spec.top5 / 100)
    return Network(IMAGENET, spec.variant, model, spec.preprocessing, published)


def _of_run(name: str, folder: Path, run: run_folder.Run) -> Network:
    return Network(name, run_folder.load_config(folder).variant, strip_aux(run.model), run.preprocessing)


def free_folder(folder: Path) -> Path:
    """`folder`, or where it exists the first of `folder-2`, `folder-3` and so on that does not."""
    numbered = (folder.with_name(f"{folder.name}-{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([folder], numbered) if not path.exists())


@contextmanager
def _new_folder(folder: Path | None) -> Iterator[None]:
    """Create a folder before the work that fills it; remove it if the work fails and leaves it empty."""
    if folder is None:
        yield
        return
    folder.mkdir(parents=True)
    try:
        yield
    except BaseException:
        with suppress(OSError):
            folder.rmdir()
        raise
