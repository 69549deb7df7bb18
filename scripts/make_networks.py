"""Train the networks that ship with the package, and pack each run's folder.

    python scripts/make_networks.py cifar10 --to keras_googlenet/networks/cifar10  # train first
    python scripts/make_networks.py cifar10 --data FOLDER                          # to ./cifar10
    python scripts/make_networks.py cifar10 --run runs/cifar10_best                # pack a finished run

Kernels are stored in float16, all other weights in float32. The packed network is evaluated on the run's test
images. Its accuracy and command are written to its model card, `README.md` in the same folder.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow reads it once, when it is imported

import h5py
import numpy as np

from keras_googlenet import RunConfig, evaluate, train
from keras_googlenet.errors import UserError, reported
from keras_googlenet.export.provenance import PATHS
from keras_googlenet.files import write_json, write_text
from keras_googlenet.network.architecture import Architecture
from keras_googlenet.network.cost import InputSize, cost
from keras_googlenet.run import folder as run_folder
from keras_googlenet.run.config import ARCHITECTURE, CONFIG
from keras_googlenet.run.recipes import recipe_options
from keras_googlenet.text import say
from keras_googlenet.weights.files import MODEL

RECIPES = {"cifar10": "cifar10_best", "fashion_mnist": "fashion_mnist_best"}  # by name of the network
ABOUT = {
    "cifar10": {"dataset": "CIFAR-10", "knows": "photos of 32 x 32 pixels"},
    "fashion_mnist": {"dataset": "Fashion-MNIST", "knows": "pictures of clothes of 28 x 28 pixels"},
}
CARDS = Path(__file__).with_name("model_cards")
VIEWS = 6


def half(model: Path, to: Path) -> None:
    """Copy a `.keras` file with its kernels in float16; Keras loads it into float32 as before."""
    with zipfile.ZipFile(model) as whole, zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as packed:
        for member in whole.namelist():
            data = whole.read(member)
            packed.writestr(member, half_weights(data) if member.endswith(".h5") else data)


def half_weights(data: bytes) -> bytes:
    """A Keras weights file with its arrays of two axes or more in float16."""
    written = io.BytesIO()
    with h5py.File(io.BytesIO(data)) as old, h5py.File(written, "w") as new:

        def copy(name: str, item: Any) -> None:
            made = (
                new.create_group(name)
                if isinstance(item, h5py.Group)
                else new.create_dataset(name, data=halved(item))
            )
            made.attrs.update(item.attrs)

        new.attrs.update(old.attrs)
        old.visititems(copy)
    return written.getvalue()


def halved(dataset: h5py.Dataset) -> np.ndarray:
    """The values of a dataset: kernels in float16."""
    values = np.asarray(dataset)
    return values.astype("float16") if values.dtype == np.float32 and values.ndim > 1 else values


def pack(run: Path, name: str, to: Path) -> None:
    """A finished run's folder as a network of the package, in a new folder.

    Raises:
        UserError: It is not finished, or its data cannot be opened.
    """
    summary, recorded = run_folder.summary(run), run_folder.recorded(run)
    if summary is None:
        raise UserError(f"{run} is not finished: resume its training")
    to.mkdir(parents=True)
    for file in (ARCHITECTURE, run_folder.LABELS):
        shutil.copy(run / file, to / file)
    half(run / MODEL, to / MODEL)
    for option in PATHS:
        if recorded.get(option) is not None and option != "data":
            recorded[option] = Path(recorded[option]).name
    recorded["tfds_manual_dir"] = None
    recorded["preprocessing"]["orientation"] = "exif"  # these data sets have no EXIF orientation
    recorded["data"] = recipe_options(RECIPES[name])["data"]  # the public name of the data
    write_json(to / CONFIG, recorded)
    write_json(to / run_folder.SUMMARY, summary)
    found = evaluate(to, run_folder.load_config(run).data, part="test", views=VIEWS)
    size = run_folder.load_preprocessing(run)
    architecture = Architecture.from_json((run / ARCHITECTURE).read_text())
    costs = cost(architecture, InputSize(size.height, size.width, size.channels, len(found.classes)))
    facts = {
        "name": name,
        "recipe": RECIPES[name],
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
        ).stdout.strip(),
        "top1": f"{found.one_view_top1:.4f}",
        "views_top1": f"{found.top1:.4f}",
        "views": VIEWS,
        "test_images": f"{found.images:,}",
        "train_images": f"{summary['train_images']:,}",
        "minutes": round(summary["train_seconds"] / 60),
        "machine": summary["machine"],
        "precision": summary["precision"],
        "epochs": summary["epochs"],
        "seed": recorded["seed"],
        "parameters": f"{costs.parameters / 1e6:.2f} million",
        "macs": f"{costs.macs / 1e6:.1f} million",
        "megabytes": f"{(to / MODEL).stat().st_size / 1e6:.1f}",
        "variant": recorded["variant"],
        "classes": ", ".join(row.name for row in found.classes),
        "size": f"{size.height} x {size.width} x {size.channels}",
    }
    write_json(
        to / run_folder.SUMMARY,
        summary | {"test_accuracy": found.one_view_top1, f"test_accuracy_{VIEWS}_views": found.top1},
    )
    notes = (CARDS / f"{name}.md").read_text()
    card = Template((CARDS / "card.md").read_text()).substitute(facts, notes=notes, **ABOUT[name])
    write_text(to / "README.md", card)
    say(json.dumps(facts, indent=2))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--run", type=Path, help="its run's folder (runs/NAME)")
    parser.add_argument("--data", help="the images, instead of those that the recipe names")
    parser.add_argument("--to", type=Path, help="the network's new folder (NAME)")
    options = parser.parse_args(arguments)
    to = options.to or Path(options.name)
    if to.exists():
        raise UserError(f"{to} exists: delete it, or name another folder with --to")
    run = options.run or Path("runs") / options.name
    recipe = RECIPES[options.name]
    if run_folder.summary(run) is None:
        chosen = recipe_options(recipe) | ({"data": options.data} if options.data else {})
        train(RunConfig(**chosen, recipe=recipe, run=run), resume=True)
    pack(run, options.name, to)
    say(f"wrote {to}")


if __name__ == "__main__":
    with reported():
        main()
