"""Throughput of `keras-googlenet predict FOLDER --to FILE` against the bare SavedModel.

    python benchmarks/predict_folder.py

Both read the same JPEG files in batches of 32 and run the same float32 export in one process: ours with
`predict_to`, which writes a CSV file, the peer in a loop around TensorFlow's session. Rounds alternate.
Measures a variant on photos, and each network of the package on images of the network's size.

Writes `predict_folder.csv`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np
from timing import alternate, circumstances, ratio, spread, write_csv

from keras_googlenet import GoogLeNet, export_saved_model, load, shipped_names
from keras_googlenet.errors import UserError, reported
from keras_googlenet.images.files import visible_files
from keras_googlenet.inference.predict import predict_to
from keras_googlenet.inference.sources import Sources
from keras_googlenet.serving.client.answers import each
from keras_googlenet.serving.client.local import local_model
from keras_googlenet.session import SavedModelSession

BATCH = 32
PREDICT, BARE = "predict", "bare SavedModel"


def photographs(folder: Path, count: int, side: int) -> None:
    """Write JPEG files of random blobs."""
    random = np.random.default_rng(0)
    folder.mkdir()
    for index in range(count):
        small = random.integers(0, 256, (9, 12, 3), dtype=np.uint8)
        large = cv2.resize(small, (side * 4 // 3, side), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{index:05}.jpg"), large)


def bare(session: SavedModelSession, folder: Path) -> list[str]:
    """The best class of each image, by the SavedModel alone."""
    files = visible_files(folder)
    found: list[str] = []
    for start in range(0, len(files), BATCH):
        encoded = [file.read_bytes() for file in files[start : start + BATCH]]
        outputs = session.run("serving_default", {"images": np.array(encoded, object)})
        found += [name.decode() for name in outputs["classes"][:, 0]]
    return found


def compare(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure a network: one row for `predict`, one for the bare SavedModel."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, table = Path(temporary) / "photos", Path(temporary) / "rows.csv"
        if name in shipped_names():
            shipped = load(name)
            network, names, preprocessing = shipped.model, list(shipped.class_names), shipped.preprocessing
            size = side = preprocessing.height
        else:
            size, side, preprocessing = options.image_size, options.side, None
            network = GoogLeNet(variant=name, input_shape=(size, size, 3), aux_heads=False)
            names = [f"class {number}" for number in range(network.output_shape[-1])]
        photographs(folder, options.images, side)
        version = export_saved_model(
            network, Path(temporary) / "model", class_names=names, preprocessing=preprocessing
        )
        session, run = SavedModelSession(version), local_model(version)

        def ours() -> None:
            table.unlink(missing_ok=True)
            predict_to(
                table, Sources([str(folder)]), lambda items: each(run, items, BATCH, "model"), {}, top=1
            )

        def images_per_second(contender: str) -> float:
            begun = time.perf_counter()
            ours() if contender == PREDICT else bare(session, folder)
            return options.images / (time.perf_counter() - begun)

        ours()
        told = [line.split(",")[1] for line in table.read_text().splitlines()[1:]]
        if told != bare(session, folder):
            raise UserError("expected the same classes of both, got different ones")
        figures = alternate(
            {contender: partial(images_per_second, contender) for contender in (PREDICT, BARE)},
            options.rounds,
        )
    share = ratio(figures[PREDICT], figures[BARE])
    rows = []
    for contender in (PREDICT, BARE):
        of = spread(figures[contender])
        print(f"{name}, {contender:16} {of.median:7.1f} images/s ({of.low:.1f} to {of.high:.1f})")
        rows.append(
            {
                "network": name,
                "contender": contender,
                "images_per_second": of.median,
                "low": of.low,
                "high": of.high,
                "of_bare": share.median if contender == PREDICT else 1.0,
                "image_size": size,
                "side": side,
                "images": options.images,
                "rounds": options.rounds,
                **circumstances("tensorflow"),
            }
        )
    print(f"{name}, predict / bare SavedModel: {share.median:.2f} ({share.low:.2f} to {share.high:.2f})")
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--to", type=Path, default=Path("results"), help="folder of the figures (results)")
    parser.add_argument(
        "--networks", nargs="+", default=["bn", *shipped_names()], help="variants, or networks of the package"
    )
    parser.add_argument("--image-size", type=int, default=224, help="of a variant's input")
    parser.add_argument("--side", type=int, default=256, help="of the photos for a variant")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(arguments)
    rows = [row for name in options.networks for row in compare(name, options)]
    write_csv(options.to / "predict_folder.csv", rows)


if __name__ == "__main__":
    with reported():
        main()
