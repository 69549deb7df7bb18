"""The augmentations by name.

To add one, put it into `AUGMENTATIONS`: both pipelines, `RunConfig` and the help then know it. Imports no
framework: the command line reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from keras_googlenet.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from keras_googlenet.images.spec import Preprocessing

Tensor = Any
MIXUP_ALPHA = 0.2  # Keras's layer's
TRANSLATE = 16  # a shift of at most this part of the side: 2 of 32 pixels, as airbench has it
CUTOUT = 4  # the square's side is this part of the image's: 8 of 32 pixels
GRAY = 128


@dataclass(frozen=True)
class Turn:
    """An image's number and the epoch: integers, or int64 tensors."""

    seed: Any
    image: Any
    epoch: Any

    @property
    def is_mirrored(self) -> Any:
        """Whether to mirror the image in this epoch: every other epoch; half of the images in the first."""
        begins = (self.image * 40503 + self.seed * 48271) // 4096  # as good as drawn
        return (begins + self.epoch) % 2 == 1


@dataclass(frozen=True)
class Draws:
    """Sources of random numbers for a change in NumPy."""

    random: np.random.Generator
    turn: Turn


@dataclass(frozen=True)
class ImageAugmentation:
    """A change to single images.

    Attributes:
        name: As options have it.
        help: What it does, in a few words.
        tensorflow: The function (preprocessing, least area) -> (pixels, uint8 (height, width, channels) of
            the network's size, `augment.Seeds`) -> the same, changed.
        numpy: (pixels, float32 in 0..255, `Draws`) -> the same, changed; `None` where it needs TensorFlow.
        implies: Augmentations that it includes.
        takes_elements: Whether it takes elements of `loading.loader` instead of pixels of the network's size;
            at most one chosen augmentation may.
    """

    name: str
    help: str
    tensorflow: Callable[[Preprocessing, float], Callable[[Tensor, Any], Tensor]]
    numpy: Callable[[np.ndarray, Draws], np.ndarray] | None = None
    implies: tuple[str, ...] = ()
    takes_elements: bool = False


@dataclass(frozen=True)
class BatchAugmentation:
    """A change to a batch and its labels. If several are chosen, each batch gets one of them.

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


def shifted(pixels: np.ndarray, draws: Draws) -> np.ndarray:
    """Shifted by up to an eighth of the side, filled with zeros."""
    return _shifted(pixels, draws, 8, "constant")


def _shifted(
    pixels: np.ndarray, draws: Draws, share: int, mode: Literal["constant", "reflect"]
) -> np.ndarray:
    import numpy as np

    height, width, _ = pixels.shape
    top, left = height // share, width // share
    padded = np.pad(pixels, [(top, top), (left, left), (0, 0)], mode)
    row, column = draws.random.integers(0, 2 * top + 1), draws.random.integers(0, 2 * left + 1)
    return padded[row : row + height, column : column + width]


def _translate(preprocessing: Preprocessing, min_area: float) -> Callable[[Tensor, Any], Tensor]:
    from keras_googlenet.data.augment import pad_and_crop

    return lambda image, draws: pad_and_crop(image, draws.next(), TRANSLATE, "REFLECT")


def translated(pixels: np.ndarray, draws: Draws) -> np.ndarray:
    """Shifted by up to a sixteenth of the side, the image's own border mirrored."""
    return _shifted(pixels, draws, TRANSLATE, "reflect")


def _alternate(preprocessing: Preprocessing, min_area: float) -> Callable[[Tensor, Any], Tensor]:
    import tensorflow as tf

    return lambda image, draws: tf.where(draws.turn.is_mirrored, tf.reverse(image, [1]), image)


def alternated(pixels: np.ndarray, draws: Draws) -> np.ndarray:
    """Mirrored or unchanged, in turn."""
    return pixels[:, ::-1] if draws.turn.is_mirrored else pixels


def _cutout(preprocessing: Preprocessing, min_area: float) -> Callable[[Tensor, Any], Tensor]:
    from keras_googlenet.data.augment import cut_out

    return lambda image, draws: cut_out(image, draws.next())


def cut_out(pixels: np.ndarray, draws: Draws) -> np.ndarray:
    """A square of a quarter of the side in gray."""
    height, width, _ = pixels.shape
    rows, columns = height // CUTOUT, width // CUTOUT
    top = draws.random.integers(0, height - rows + 1)
    left = draws.random.integers(0, width - columns + 1)
    pixels = pixels.copy()
    pixels[top : top + rows, left : left + columns] = GRAY
    return pixels


def _flip(preprocessing: Preprocessing, min_area: float) -> Callable[[Tensor, Any], Tensor]:
    import tensorflow as tf

    return lambda image, draws: tf.image.stateless_random_flip_left_right(image, draws.next())


def flipped(pixels: np.ndarray, draws: Draws) -> np.ndarray:
    """Mirrored or unchanged."""
    return pixels[:, ::-1] if draws.random.random() < 0.5 else pixels


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
    """Each image and its label mixed with another's, in the same proportion."""
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
        ImageAugmentation("translate", "shift by a few pixels, the border mirrored", _translate, translated),
        ImageAugmentation("flip", "left to right at random", _flip, flipped),
        ImageAugmentation("alternate", "left to right in every other epoch", _alternate, alternated),
        ImageAugmentation("randaugment", "two of 11 changes", _randaugment),
        ImageAugmentation("cutout", "a square in gray", _cutout, cut_out),
        BatchAugmentation("mixup", "mix two images", _mixup, mixed_up),
        BatchAugmentation("cutmix", "put a part of one image into another", _cutmix),
    )
}


def augmentation_help() -> str:
    """The choices, for the help."""
    return ", ".join(f"{each.name} ({each.help})" for each in AUGMENTATIONS.values())


def of_images(names: Iterable[str]) -> list[ImageAugmentation]:
    """The augmentations of single images, with those they imply, in the order of application."""
    chosen = [AUGMENTATIONS[name] for name in names]
    implied = {name for each in chosen if isinstance(each, ImageAugmentation) for name in each.implies}
    wanted = {*names, *implied}
    return [
        each for each in AUGMENTATIONS.values() if each.name in wanted and isinstance(each, ImageAugmentation)
    ]


def of_batches(names: Iterable[str]) -> list[BatchAugmentation]:
    """The augmentations of batches, in the table's order."""
    return [
        each
        for each in AUGMENTATIONS.values()
        if each.name in set(names) and isinstance(each, BatchAugmentation)
    ]


def takes_elements(names: Iterable[str]) -> bool:
    """Whether one of them needs the stored images, which then cannot be resized beforehand."""
    return any(each.takes_elements for each in of_images(names))


def check_numpy(names: Sequence[str]) -> None:
    """Refuse augmentations that need TensorFlow.

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
