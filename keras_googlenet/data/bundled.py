"""The bundled sample of Fashion-MNIST: 5,000 small pictures of clothes, part of the package."""

from __future__ import annotations

from importlib import resources

import numpy as np

from keras_googlenet.data.parts import ImageData

SAMPLE_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def sample_arrays() -> dict[str, np.ndarray]:
    """`train_images`, `train_labels`, `test_images`, `test_labels`."""
    file = resources.files("keras_googlenet") / "data/sample/fashion_mnist.npz"
    with resources.as_file(file) as path, np.load(path) as arrays:
        return dict(arrays)


def sample_data(validation_fraction: float, seed: int) -> ImageData:
    """Open it; see `sources.load_data`."""
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
