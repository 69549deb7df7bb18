"""Test images: real ones from a folder, or synthetic ones of a photo's size."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np

from keras_googlenet.data.folders import find_images
from keras_googlenet.errors import UserError

GRAIN = 5  # standard deviation of the noise, so that files are as large as photos
OCTAVES = ((4, 5), (16, 20), (64, 80))  # rows and columns of random colors, one texture each
QUALITY = 90  # JPEG quality
CLASSES = 4  # number of class folders


def synthesize(folder: Path, count: int) -> None:
    """Make smooth random textures of about 500 x 400 pixels, in class folders, as JPEG files."""
    random = np.random.default_rng(0)
    for index in range(count):
        height, width = random.integers(360, 440), random.integers(460, 540)
        image = random.normal(127.5, GRAIN, (height, width, 3))
        for rows, columns in OCTAVES:
            colors = random.normal(0, 1 / rows, (rows, columns, 3)) * 200
            image += cv2.resize(colors, (width, height), interpolation=cv2.INTER_CUBIC)
        path = folder / f"class{index % CLASSES}" / f"{index:04}.jpg"
        path.parent.mkdir(exist_ok=True)
        image = np.clip(image, 0, 255).astype("uint8")
        cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


def copy_photographs(source: Path, folder: Path, count: int) -> None:
    """Copy at most `count` JPEG files from class folders, the same number from each."""
    classes = sorted(path for path in source.iterdir() if path.is_dir()) if source.is_dir() else []
    if len(classes) < 2:
        raise UserError(f"expected a folder for each class (two at least) in {source}")
    for of_class in classes:
        files = [path for path in find_images(of_class) if path.suffix.lower() != ".png"]
        if not files:
            raise UserError(f"no JPEG image in {of_class}")
        (folder / of_class.name).mkdir()
        for index, path in enumerate(files[: max(1, count // len(classes))]):
            shutil.copyfile(path, folder / of_class.name / f"{index:04}.jpg")
