"""Throughput of the training input pipeline against Keras's own.

    python benchmarks/input_pipeline.py [--data FOLDER]

The peer is `keras.utils.image_dataset_from_directory` with the same augmentation as Keras layers, with
AUTOTUNE and prefetch as Keras's guide recommends. The layers are mapped over batches, as in the guide, or
over single images, whichever is faster here. Both read the same JPEG files, shuffled, in batches of the
same size.

Our pipeline decodes all images once, at its start, if they fit in memory; the peer decodes them in every
epoch. So two more pairs are measured: ours when the images do not fit, and the peer with `cache()`. `paper`
crops the original differently each time, so its images are never cached.

Writes `input_pipeline.csv` and a plot of it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from photographs import copy_photographs, synthesize
from timing import Spread, alternate, circumstances, fastest, ratio, spread, write_csv

from keras_googlenet.data import parts
from keras_googlenet.data.batch_spec import BatchSpec
from keras_googlenet.data.folders import find_images, labeled_folder
from keras_googlenet.data.order import Cursor, Order
from keras_googlenet.data.training_batches import training_batches
from keras_googlenet.errors import UserError, reported
from keras_googlenet.images.spec import Preprocessing

AUGMENTATIONS = ("flip", "crop", "paper")
ENDLESS = 10_000  # epochs
DRAIN = 0.4  # of a round's seconds: batches made while other pipelines ran are ready at once

OURS, OURS_EACH_TIME = "ours", "ours, decoding in every epoch"
ON_BATCHES, ON_IMAGES, CACHED = "Keras, layers on batches", "Keras, layers on images", "Keras, cached"


@dataclass(frozen=True)
class Task:
    """What both pipelines read, and the batches they make of it."""

    folder: Path
    size: int
    batch_size: int
    seed: int = 0


# --- the pipelines ---------------------------------------------------------------------------------


def ours(task: Task, augment: str, *, each_time: bool = False) -> tf.data.Dataset:
    """Batches as `keras_googlenet.train` makes them."""
    class_names, part = labeled_folder(task.folder)
    order = Order(part.count, task.batch_size, task.seed, epochs=ENDLESS)
    preprocessing = Preprocessing(task.size, task.size, 3)
    memory = 0 if each_time else parts.MEMORY_BYTES
    with patch.object(parts, "MEMORY_BYTES", memory):
        spec = BatchSpec(classes=len(class_names), augment=(augment,) * bool(augment))
        return training_batches(part, preprocessing, order, Cursor(), spec)


def keras_layers(augment: str, size: int, *, batched: bool) -> list[keras.Layer]:
    """The same augmentation as layers of Keras 3.15."""
    layers = keras.layers
    flip = layers.RandomFlip("horizontal")
    if augment == "flip":
        return [flip]
    if augment == "crop":
        if batched:  # RandomCrop crops all images of a batch alike
            return [layers.RandomTranslation(1 / 8, 1 / 8, fill_mode="constant"), flip]
        return [layers.ZeroPadding2D(size // 8), layers.RandomCrop(size, size), flip]
    if augment == "paper":
        least = float(np.sqrt(0.08) - 1)  # Keras has no random resized crop: 8% to 100%, about the center
        jitter = layers.RandomColorJitter(
            value_range=(0, 255),
            brightness_factor=32 / 255,
            contrast_factor=0.5,
            saturation_factor=(1 / 3, 0.6),  # half to one and a half times
            hue_factor=0.2,
        )
        return [layers.RandomZoom((least, 0.0), (least, 0.0)), jitter, flip]
    return []


def peer(task: Task, augment: str, *, batched: bool = True, cached: bool = False) -> tf.data.Dataset:
    """`image_dataset_from_directory` and Keras layers on batches or single images; repeats forever."""
    layers = keras_layers(augment, task.size, batched=batched)
    change = keras.Sequential([*layers, keras.layers.Rescaling(1 / 127.5, -1)])
    dataset = keras.utils.image_dataset_from_directory(
        task.folder,
        label_mode="categorical",
        batch_size=task.batch_size if batched else None,
        image_size=(task.size, task.size),
        shuffle=not cached,
        seed=None if cached else task.seed,
        verbose=False,
    )
    if cached:  # otherwise every epoch would have the same order
        dataset = dataset.cache().shuffle(len(find_images(task.folder)), task.seed)

    def load(images: Any, labels: Any) -> Any:
        if batched:
            return change(images, training=True), labels
        return change(images[tf.newaxis], training=True)[0], labels

    dataset = dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE)
    if not batched:
        dataset = dataset.batch(task.batch_size)
    return dataset.repeat().prefetch(tf.data.AUTOTUNE)


def pipelines(task: Task, augment: str) -> dict[str, Callable[[], tf.data.Dataset]]:
    """The measurements for an augmentation."""
    found = {
        OURS: lambda: ours(task, augment),
        OURS_EACH_TIME: lambda: ours(task, augment, each_time=True),
        ON_BATCHES: lambda: peer(task, augment),
        ON_IMAGES: lambda: peer(task, augment, batched=False),
        CACHED: lambda: peer(task, augment, batched=False, cached=True),
    }
    if augment == "paper":
        del found[OURS_EACH_TIME]  # the same pipeline as our default
    return found


# --- the same kind of batches ----------------------------------------------------------------------


def check_batch(name: str, batch: tuple[Any, Any], task: Task) -> None:
    """Check that a batch has float32 images in -1..1 and one-hot labels.

    Raises:
        UserError: It does not.
    """
    images, labels = (part.numpy() for part in batch)
    classes = len([path for path in task.folder.iterdir() if path.is_dir()])
    expected = (task.batch_size, task.size, task.size, 3), (task.batch_size, classes)
    fine = (
        (images.shape, labels.shape) == expected
        and images.dtype == labels.dtype == np.float32
        and -1.001 <= images.min() < -0.2 < 0.2 < images.max() <= 1.001
        and set(np.unique(labels)) == {0, 1}
        and (labels.sum(axis=1) == 1).all()
    )
    if not fine:
        raise UserError(
            f"{name}: expected shapes {expected} and pixels in -1..1, got {images.shape}, {labels.shape}, "
            f"{images.dtype} and {images.min():.3f}..{images.max():.3f}"
        )


def check_alike(task: Task) -> None:
    """Check that both feed the same images in an epoch, before any augmentation.

    Raises:
        UserError: They do not, or the images do not fill a batch.
    """
    count = len(find_images(task.folder))
    if count < task.batch_size:
        raise UserError(f"expected {task.batch_size} images at least, for one batch; found {count}")
    facts = []
    for dataset in (ours(task, ""), peer(task, "", batched=False)):
        batches = [images.numpy() for images, _ in dataset.take(count // task.batch_size)]
        facts.append(
            [np.mean([batch.mean() for batch in batches]), np.mean([batch.std() for batch in batches])]
        )
    # Keras does not antialias, and full batches leave a few images out.
    if np.abs(np.array(facts[0]) - facts[1]).max() > 0.05:
        raise UserError(f"expected the same images, got their mean and deviation as {facts}")


# --- measuring -------------------------------------------------------------------------------------


def first_batch(name: str, make: Callable[[], tf.data.Dataset], task: Task) -> tuple[Iterator[Any], float]:
    """A running pipeline, and the seconds to its first batch."""
    begun = time.perf_counter()
    running = iter(make())
    batch = next(running)
    seconds = time.perf_counter() - begun
    check_batch(name, batch, task)
    return running, seconds


def measured(running: Iterator[Any], seconds: float) -> float:
    """Images/s, after the batches that were prefetched since the last round."""
    take(running, DRAIN * seconds)
    images, taken = take(running, seconds)
    return images / taken


def take(running: Iterator[Any], seconds: float) -> tuple[int, float]:
    """Take batches for a time; returns the number of images and the seconds to the end of the last batch."""
    images, begun = 0, time.perf_counter()
    while not images or time.perf_counter() - begun < seconds:
        images += len(next(running)[0])
    return images, time.perf_counter() - begun


def compare(task: Task, augment: str, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Measure all pipelines with an augmentation: one row per pipeline."""
    running, to_first = {}, {}
    for name, make in pipelines(task, augment).items():
        running[name], to_first[name] = first_batch(name, make, task)
    epoch = len(find_images(task.folder)) // task.batch_size
    for iterator in running.values():  # an epoch: caches fill, AUTOTUNE finds its settings
        for _ in range(epoch):
            next(iterator)
    rates = alternate({name: partial(measured, one, seconds) for name, one in running.items()}, rounds)
    decoding = fastest({name: rates[name] for name in (ON_BATCHES, ON_IMAGES)})
    return [
        {"augment": augment, "pipeline": name, "first_batch_seconds": to_first[name]}
        | columns("images_per_second", spread(of_name))
        | columns("times_keras", ratio(of_name, rates[decoding]))
        | columns("times_keras_cached", ratio(of_name, rates[CACHED]))
        for name, of_name in rates.items()
    ]


def columns(name: str, figures: Spread) -> dict[str, float]:
    """A spread as three columns."""
    return {name: figures.median, f"{name}_low": figures.low, f"{name}_high": figures.high}


# --- report ----------------------------------------------------------------------------------------


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The figures as a text table."""

    def cell(row: dict[str, Any], name: str, digits: int) -> str:
        return f"{row[name]:,.{digits}f} ({row[name + '_low']:,.{digits}f}-{row[name + '_high']:,.{digits}f})"

    form = "{:8} {:30} {:>24} {:>18} {:>18} {:>12}"
    head = ("augment", "pipeline", "images/s (spread)", "times Keras", "times its cache", "first batch")
    lines = [form.format(*head)]
    for row in rows:
        ratios = (cell(row, "times_keras", 2), cell(row, "times_keras_cached", 2))
        rate, first = cell(row, "images_per_second", 0), f"{row['first_batch_seconds']:.1f} s"
        lines.append(form.format(row["augment"], row["pipeline"], rate, *ratios, first))
    return "\n".join(lines)


def draw(rows: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """Images per second with their spread: a panel per augmentation."""
    augments = list(dict.fromkeys(row["augment"] for row in rows))
    figure = Figure(figsize=(8.5, 0.8 + 1.7 * len(augments)), layout="constrained")
    for axes, augment in zip(figure.subplots(len(augments), squeeze=False).flat, augments, strict=True):
        shown = [row for row in rows if row["augment"] == augment]
        for place, row in enumerate(shown):
            rate, low, high = (row[f"images_per_second{end}"] for end in ("", "_low", "_high"))
            color = "#2563c9" if row["pipeline"].startswith("ours") else "#b4bcc7"
            axes.barh(
                place, rate, xerr=[[rate - low], [high - rate]], color=color, capsize=2, error_kw={"lw": 0.7}
            )
            axes.text(high, place, f"  {rate:,.0f}", va="center", fontsize=9)
        axes.set_yticks(range(len(shown)), [row["pipeline"] for row in shown])
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(f"augmentation {augment}", fontsize=10)
    figure.axes[-1].set_xlabel("images per second")
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=110)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of class folders of photographs; else synthesized")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--augment", nargs="+", choices=AUGMENTATIONS, default=AUGMENTATIONS)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="in a round, of each pipeline")
    parser.add_argument("--to", type=Path, default=Path("results"), help="folder of the figures (results)")
    options = parser.parse_args(arguments)
    kind = "synthesized" if options.data is None else "photographs"
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        if options.data is None:
            synthesize(Path(folder), options.images)
        else:
            copy_photographs(options.data, Path(folder), options.images)
        task = Task(Path(folder), options.image_size, options.batch_size)
        check_alike(task)
        common = circumstances("keras", "tensorflow") | {
            "data": kind,
            "images": len(find_images(task.folder)),
            "image_size": task.size,
            "batch_size": task.batch_size,
            "rounds": options.rounds,
            "seconds": options.seconds,
        }
        for augment in options.augment:
            found = compare(task, augment, options.rounds, options.seconds)
            print(table(found), flush=True)
            rows += [common | row for row in found]
    write_csv(options.to / "input_pipeline.csv", rows)
    title = f"Training images fed at {task.size} x {task.size}, {kind}: {common['machine']}"
    draw(rows, title, options.to / "input_pipeline.png")
    print(f"wrote {options.to / 'input_pipeline.csv'} and {options.to / 'input_pipeline.png'}")


if __name__ == "__main__":
    with reported():
        main()
