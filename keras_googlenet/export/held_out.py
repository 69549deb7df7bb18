"""The images on which an export is measured and calibrated: those that its run was not trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np

from keras_googlenet.data.feed import evaluation_batches
from keras_googlenet.data.parts import Part
from keras_googlenet.errors import UserError
from keras_googlenet.evaluation.images import Images, in_order, named_images, own_images
from keras_googlenet.export.network import served_network
from keras_googlenet.images.spec import Preprocessing

MAX_IMAGES = 1000  # a minute or so on a processor
BATCH = 64


@dataclass(frozen=True)
class PrecisionCheck:
    """Top-1 accuracy in float32 and in another precision on the same images.

    Attributes:
        images: Number of images.
        float32: Share of right answers.
        precision: The other, such as `"bfloat16"`.
        rounded: Share of right answers in the other precision.
        same: Share of images that get the same class in both.
    """

    images: int
    float32: float
    precision: str
    rounded: float
    same: float

    def to_dict(self) -> dict[str, float]:
        """With the other precision's share under its name."""
        return {
            "images": self.images,
            "float32": self.float32,
            self.precision: self.rounded,
            "same": self.same,
        }

    def __str__(self) -> str:
        return (
            f"top-1 accuracy on {self.images} images: {self.float32:.4f} in float32, {self.rounded:.4f} in "
            f"{self.precision} ({self.rounded - self.float32:+.4f}), the same class for {self.same:.2%}"
        )


def held_out_images(
    run: Path, class_names: tuple[str, ...], data: str | None = None, *, recorded_split: bool = False
) -> Images:
    """The run's validation images, or others; of more than 1,000, a fixed random sample of 1,000.

    Args:
        run: The run's folder.
        class_names: Its classes, in label order.
        data: Other images: their test part, or all of a folder that is not divided.
        recorded_split: If the run's images have changed, use the recorded files that still exist.

    Raises:
        UserError: The images cannot be opened, or have other classes.
    """
    found = (
        own_images([run], "validation", recorded_split=recorded_split)
        if data is None
        else named_images(data, None, run)
    )
    found = in_order(found, class_names, str(run))
    if found.part.count <= MAX_IMAGES:
        return found
    chosen = np.random.default_rng(0).permutation(found.part.count)[:MAX_IMAGES]
    return replace(found, part=found.part.take(np.sort(chosen)))


def logits(
    model: keras.Model,
    preprocessing: Preprocessing,
    part: Part,
    *,
    precision: str = "float32",
    optimize: str = "none",
) -> np.ndarray:
    """The main head's logits, (images, classes).

    Raises:
        UserError: The network does not end in softmax or logits.
    """
    network = served_network(model, preprocessing, precision=precision, optimize=optimize)
    if not network.softmax:
        raise UserError("expected a network that ends in softmax or logits, to calibrate or compare it")
    single = keras.Model(network.model.inputs[0], network.model.output["logits"])
    return single.predict(evaluation_batches(part, preprocessing, batch_size=BATCH), verbose=0)


def pixels(part: Part, preprocessing: Preprocessing) -> np.ndarray:
    """Decoded and resized images, float32 (images, height, width, channels): RGB in 0..255."""
    plain = replace(preprocessing, mean=0.0, scale=1.0, channel_order="rgb")
    batches = evaluation_batches(part, plain, batch_size=BATCH)
    return np.concatenate([keras.ops.convert_to_numpy(images) for images, _ in batches])


def compare_precisions(
    in_float32: np.ndarray, rounded: np.ndarray, labels: np.ndarray, precision: str
) -> PrecisionCheck:
    """What rounding changes.

    Args:
        in_float32: Logits or probabilities (images, classes).
        rounded: The same network's, in the other precision.
        labels: (images,).
        precision: The other's name.
    """
    one, other = in_float32.argmax(axis=1), rounded.argmax(axis=1)
    right, right_rounded, same = (
        float(np.mean(each)) for each in (one == labels, other == labels, one == other)
    )
    return PrecisionCheck(len(labels), right, precision, right_rounded, same)
