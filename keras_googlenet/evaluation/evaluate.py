"""Measure networks on labelled images: one or several together, by any of the paper's protocols."""

from __future__ import annotations

import itertools
import math
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
from keras_googlenet.errors import UserError
from keras_googlenet.evaluation.crops import PROTOCOLS
from keras_googlenet.evaluation.images import (
    PARTS,
    Images,
    check_same_classes,
    in_order,
    named_images,
    own_images,
)
from keras_googlenet.evaluation.report import write_report
from keras_googlenet.evaluation.results import Evaluation, ModelRow, command_line, measure
from keras_googlenet.images.decoder import has_tensorflow
from keras_googlenet.images.spec import Preprocessing
from keras_googlenet.network.googlenet import GoogLeNet
from keras_googlenet.network.surgery import strip_aux
from keras_googlenet.run import folder as run_folder
from keras_googlenet.text import printable
from keras_googlenet.weights.published import WeightsSpec, imagenet_spec

IMAGENET = "imagenet"


@dataclass(frozen=True)
class Network:
    """What takes part: a model with one output, and how it wants its images."""

    name: str
    variant: str
    model: keras.Model
    preprocessing: Preprocessing
    published: tuple[float | None, float | None] = (None, None)  # top-1 and top-5 accuracy

    def row(self) -> ModelRow:
        """What a result says about it."""
        size = self.preprocessing
        return ModelRow(self.name, self.variant, size.height, size.width, size.channels)


def evaluate(
    run: str | Path,
    data: str | Path | ImageData | None = None,
    *,
    ensemble: Sequence[str | Path] = (),
    part: str | None = None,
    crops: int = 1,
    variant: str = "paper",
    batch_size: int = 64,
    to: Path | None = None,
) -> Evaluation:
    """Measure a run, published weights, or several runs whose probabilities are averaged.

    Args:
        run: The folder of a finished run, or `"imagenet"` for published weights.
        data: A folder with one folder of images for each class, what else `load_data` opens, or opened
            data. By default what the run was trained on, divided as it was then. For ImageNet: 1000
            folders, whose sorted names (WordNet ids) are the order of the classes.
        ensemble: The folders of further runs, of the same classes.
        part: `"test"`, `"validation"` or `"train"`; by default the test part, but all images of a
            folder `data` that is not divided.
        crops: Of each image: 1 as in training, or the 10 or 144 of the paper's section 7.
        variant: The network, for `"imagenet"`.
        batch_size: Crops in a step.
        to: A folder to make for the report, its pictures and `evaluation.json`; by default none.

    Raises:
        UserError: A run, weights or data cannot be used, they have different classes, or `to` exists.
    """
    _check(part=part, crops=crops, batch_size=batch_size, to=to)
    data = str(data) if isinstance(data, Path) else data
    networks, images = _prepare([run, *ensemble], variant, data, part)
    for network in networks:
        _check_square(network, crops)
    with _new_folder(to):
        started = time.perf_counter()
        total = reduce(np.add, (answers(network, images.part, crops, batch_size) for network in networks))
        seconds = time.perf_counter() - started
        files = images.part.files
        evaluation = measure(
            images.part.labels,
            total / len(networks),
            images.class_names,
            files=None if files is None else [str(file) for file in files],
            models=[network.row() for network in networks],
            data=images.data,
            part=images.part_name,
            crops=crops,
            protocol=PROTOCOLS[crops],
            command="keras_googlenet.evaluate(...)"
            if isinstance(data, ImageData)
            else command_line([str(run), *map(str, ensemble)], variant, data, part, crops),
            seconds=seconds,
            published_top1=networks[0].published[0],
            published_top5=networks[0].published[1],
        )
        if to is not None:
            write_report(evaluation, [pixels(images.part, m.index) for m in evaluation.mistakes], to)
    return evaluation


def _prepare(
    names: Sequence[str | Path], variant: str, data: str | ImageData | None, part: str | None
) -> tuple[list[Network], Images]:
    """Load what takes part, and the images with labels in its order of classes."""
    spec = imagenet_spec(variant, aux_heads=False) if names[0] == IMAGENET else None
    folders = [Path(name) for name in names[0 if spec is None else 1 :]]
    runs = [run_folder.load(folder) for folder in folders]
    for folder, run in zip(folders, runs, strict=True):
        check_same_classes(str(folder), run.class_names, str(folders[0]), runs[0].class_names)
    of_runs = [_of_run(*pair) for pair in zip(folders, runs, strict=True)]
    if spec is None:
        images = own_images(folders, part) if data is None else named_images(data, part, folders[0])
        return of_runs, in_order(images, runs[0].class_names, str(folders[0]))
    if data is None:
        raise UserError("expected data to measure published weights on: a folder of images for each class")
    images = named_images(data, part, None)
    network = _published(spec, images)
    if runs:
        check_same_classes(str(folders[0]), runs[0].class_names, images.data, images.class_names)
    return [network, *of_runs], images


def answers(network: Network, part: Part, crops: int, batch_size: int) -> np.ndarray:
    """A network's probabilities, averaged over the crops of each image: float64 (images, classes)."""
    steps = math.ceil(part.count * crops / batch_size)
    with tqdm(desc=printable(network.name), total=steps, leave=False, disable=None) as bar:
        if crops == 1:
            dataset = evaluation_batches(part, network.preprocessing, batch_size=batch_size)
            progress = keras.callbacks.Callback()
            progress.on_predict_batch_end = lambda batch, logs: bar.update()
            return network.model.predict(dataset, verbose=0, callbacks=[progress]).astype("float64")
        from keras_googlenet.evaluation.crop_pipeline import crop_batches

        total, done = np.zeros((part.count, network.model.output_shape[-1])), 0
        for images in crop_batches(part, network.preprocessing, crops, batch_size).as_numpy_iterator():
            found = network.model.predict_on_batch(images)
            np.add.at(total, (done + np.arange(len(found))) // crops, found)
            done += len(found)
            bar.update()
    return total / crops


def _check(*, part: str | None, crops: int, batch_size: int, to: Path | None) -> None:
    for name, fine, expected, got in (
        ("part", part in (None, *PARTS), "test, validation or train", part),
        ("crops", crops in PROTOCOLS, "1, 10 or 144", crops),
        ("batch_size", batch_size >= 1, "at least 1", batch_size),
    ):
        if not fine:
            raise UserError(f"expected {name} to be {expected}, got {got}")
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


def _published(spec: WeightsSpec, chosen: Images) -> Network:
    classes = min(spec.classes, 1000)  # TF-Slim's background is no class of the images
    found = len(chosen.class_names)
    if found != classes:
        raise UserError(f"expected {classes} class folders in {chosen.data}, as ImageNet has; found {found}")
    model = GoogLeNet(variant=spec.variant, weights=IMAGENET, aux_heads=False, classes=classes)
    published = (spec.top1 / 100, spec.top5 / 100)
    return Network(IMAGENET, spec.variant, model, spec.preprocessing, published)


def _of_run(folder: Path, run: run_folder.Run) -> Network:
    return Network(
        str(folder), run_folder.load_config(folder).variant, strip_aux(run.model), run.preprocessing
    )


def free_folder(folder: Path) -> Path:
    """`folder`, or where it exists the first of `folder-2`, `folder-3` and so on that does not."""
    numbered = (folder.with_name(f"{folder.name}-{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([folder], numbered) if not path.exists())


@contextmanager
def _new_folder(folder: Path | None) -> Iterator[None]:
    """Make a folder before the work that fills it, and remove it where that fails and leaves it empty."""
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
