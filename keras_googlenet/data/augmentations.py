"""The augmentations by name.

To add one, put it into `AUGMENTATIONS`: both pipelines, `RunConfig` and the help then know it. Nothing here
imports a framework: the command line reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keras_googlenet.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from keras_googlenet.images.spec import Preprocessing

Tensor = Any
MIXUP_ALPHA = 0.2  # Keras's layer's


@dataclass(frozen=True)
class ImageAugmentation:
    """A change to single images.

    Attributes:
        name: As options have it.
        help: What it does, in a few words.
        tensorflow: The function (preprocessing, least area) -> (pixels, uint8 (height, width, channels) of
            the network's size, `augment.Seeds`) -> the same, changed.
        numpy: (pixels, float32 in 0..255, random generator) -> the same, changed; `None` where it needs
            TensorFlow.
        implies: Others that come with it.
        takes_elements: Whether it takes the elements of `loading.loader` in place of pixels of the
            network's size; one at most of those chosen.
    """

    name: str
    help: str
    tensorflow: Callable[[Preprocessing, float], Callable[[Tensor, Any], Tensor]]
    numpy: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None
    implies: tuple[str, ...] = ()
    takes_elements: bool = False


@dataclass(frozen=True)
class BatchAugmentation:
    """A change to a batch and its labels. Of several, each batch takes one.

    Attributes:
        name: As options have it.
        help: What it does, in a few words.
        tensorflow: The function () -> (images float32 (batch, height, width, channels) in 0..255, labels
            float32 (batch, classes), seed) -> both, changed.
        numpy: (images, labels, random generator) -> both, changed; `None` where it needs TensorFlow.
    """

    name: str
    help: str
    tensorflow: Callable[[], Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]]
    numpy: Callable[..., tuple[np.ndarray, np.ndarray]] | None = None


def _paper(preprocessing: Preprocessing, min_area: float) -> Callable[[Tensor, Any], Tensor]:
    from keras_googlenet.data.augment import random_crop_and_distort

    return lambda element, draws: random_crop_and_distort(element, preprocessing, min_area, draws)


def _crop(preprocessing: Preprocessing, min_area: float) -> Callable[[Tensor, Any], Tensor]:
    from keras_googlenet.data.augment import pad_and_crop

    return lambda image, draws: pad_and_crop(image, draws.next())


def shifted(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Shifted by up to an eighth of the side, zeros coming in."""
    import numpy as np

    height, width, _ = pixels.shape
    top, left = height // 8, width // 8
    padded = np.pad(pixels, [(top, top), (left, left), (0, 0)])
    row, column = random.integers(0, 2 * top + 1), random.integers(0, 2 * left + 1)
    return padded[row : row + height, column : column + width]


def _flip(preprocessing: Preprocessing, min_area: float) -> Callable[[Tensor, Any], Tensor]:
    import tensorflow as tf

    return lambda image, draws: tf.image.stateless_random_flip_left_right(image, draws.next())


def flipped(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Left to right, or as it is."""
    return pixels[:, ::-1] if random.random() < 0.5 else pixels


def _randaugment(preprocessing: Preprocessing, min_area: float) -> Callable[[Tensor, Any], Tensor]:
    from keras_googlenet.data.augment import randaugment, randaugment_layers

    changes = randaugment_layers(preprocessing.channels)
    return lambda image, draws: randaugment(image, changes, draws)


def _mixup() -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    import keras

    from keras_googlenet.data.augment import mixing

    return mixing(keras.layers.MixUp(MIXUP_ALPHA, dtype="float32"))


def mixed_up(
    images: np.ndarray, labels: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Each image and its label with another's, in one share for both."""
    share = random.beta(MIXUP_ALPHA, MIXUP_ALPHA, len(images)).astype("float32")
    others = random.permutation(len(images))
    of_image, of_label = share[:, None, None, None], share[:, None]
    return (
        of_image * images + (1 - of_image) * images[others],
        of_label * labels + (1 - of_label) * labels[others],
    )


def _cutmix() -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    import keras

    from keras_googlenet.data.augment import mixing

    return mixing(keras.layers.CutMix(dtype="float32"))


Augmentation = ImageAugmentation | BatchAugmentation
# In the order in which they are applied.
AUGMENTATIONS: dict[str, Augmentation] = {
    each.name: each
    for each in (
        ImageAugmentation("paper", "the paper's crop and colors", _paper, None, ("flip",), True),
        ImageAugmentation("crop", "pad and crop, and flip", _crop, shifted, ("flip",)),
        ImageAugmentation("flip", "left to right", _flip, flipped),
        ImageAugmentation("randaugment", "two of 11 changes", _randaugment),
        BatchAugmentation("mixup", "mix two images", _mixup, mixed_up),
        BatchAugmentation("cutmix", "put a part of one image into another", _cutmix),
    )
}


def augmentation_help() -> str:
    """What can be chosen, for the help."""
    return ", ".join(f"{each.name} ({each.help})" for each in AUGMENTATIONS.values())


def of_images(names: Iterable[str]) -> list[ImageAugmentation]:
    """Those of single images, with all that they imply, in the order in which they are applied."""
    chosen = [AUGMENTATIONS[name] for name in names]
    implied = {name for each in chosen if isinstance(each, ImageAugmentation) for name in each.implies}
    wanted = {*names, *implied}
    return [
        each for each in AUGMENTATIONS.values() if each.name in wanted and isinstance(each, ImageAugmentation)
    ]


def of_batches(names: Iterable[str]) -> list[BatchAugmentation]:
    """Those of batches, in the table's order."""
    return [
        each
        for each in AUGMENTATIONS.values()
        if each.name in set(names) and isinstance(each, BatchAugmentation)
    ]


def takes_elements(names: Iterable[str]) -> bool:
    """Whether one of them takes images as they are stored, so that these cannot be resized beforehand."""
    return any(each.takes_elements for each in of_images(names))


def check_numpy(names: Sequence[str]) -> None:
    """Refuse those that need TensorFlow.

    Raises:
        UserError: There are some.
    """
    missing = [name for name in names if AUGMENTATIONS[name].numpy is None]
    if missing:
        possible = [name for name, each in AUGMENTATIONS.items() if each.numpy is not None]
        raise UserError(
            f"augmentation by {', '.join(missing)} needs TensorFlow, which is not installed: install it, or "
            f"choose of {', '.join(possible)}"
        )
