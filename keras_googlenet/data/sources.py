"""Where images come from, by name: the bundled sample, a folder, TensorFlow Datasets."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from keras_googlenet.data.folders import folder_data
from keras_googlenet.data.parts import ImageData

SAMPLE_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def load_data(
    data: str,
    *,
    validation_fraction: float = 0.1,
    seed: int = 0,
    test_split: str | None = None,
    classes: Sequence[str] | None = None,
    tfds_manual_dir: Path | None = None,
    skip_corrupt: bool = False,
) -> ImageData:
    """Open a data set by name.

    Args:
        data: `"sample"`, `"tfds:NAME[:CONFIG]"`, or the path of a folder with one folder of JPEG or
            PNG images for each class. The folder may be divided into `train/`, `test/` and
            `validation/` (or `val/`); else a fifth of each class is held out for the test.
        validation_fraction: Share of the training images kept out of training, for validation,
            where the data set names no validation part. Stratified by class.
        seed: Of the divisions.
        test_split: The test images of an undivided folder; see `folders.in_test_split`.
        classes: Use these classes alone, in this order.
        tfds_manual_dir: Folder with the original files of a TensorFlow data set, to build it offline.
        skip_corrupt: Leave out images that cannot be read, in place of an error.

    Raises:
        UserError: No such data, or data that cannot be trained on.
    """
    if data == "sample":
        found = _sample(validation_fraction, seed)
    elif data.startswith("tfds:"):
        from keras_googlenet.data.tfds import tfds_data

        found = tfds_data(data.removeprefix("tfds:"), validation_fraction, seed, tfds_manual_dir)
    else:
        found = folder_data(Path(data), validation_fraction, seed, test_split, skip_corrupt=skip_corrupt)
    return found.only(classes) if classes else found


def sample_arrays() -> dict[str, np.ndarray]:
    """The bundled sample: `train_images`, `train_labels`, `test_images`, `test_labels`."""
    file = resources.files("keras_googlenet") / "data/sample/fashion_mnist.npz"
    with resources.as_file(file) as path, np.load(path) as arrays:
        return dict(arrays)


def _sample(validation_fraction: float, seed: int) -> ImageData:
    arrays = sample_arrays()
    found = ImageData.from_arrays(
        (arrays["train_images"], arrays["train_labels"]),
        (arrays["test_images"], arrays["test_labels"]),
        class_names=SAMPLE_CLASSES,
        validation_fraction=validation_fraction,
        seed=seed,
    )
    # 80 is the smallest even size that the auxiliary heads accept.
    return ImageData(found.class_names, found.train, found.validation, found.test, 1, image_size=80)
