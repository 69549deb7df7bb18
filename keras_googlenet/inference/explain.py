"""Where in an image a network sees a class: class activation maps.

Source: Zhou et al. 2016, "Learning Deep Features for Discriminative Localization".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import keras
import numpy as np
from matplotlib.figure import Figure

from keras_googlenet.evaluation.plots import AS_WRITTEN, DPI, shortened
from keras_googlenet.images.spec import Preprocessing
from keras_googlenet.names import MAIN
from keras_googlenet.network.surgery import features_of, pooled_map

INCHES = 2.4  # of each picture
STRENGTH = 0.55  # of a map over its image


@dataclass(frozen=True)
class Explanation:
    """What a network sees in an image.

    Attributes:
        pixels: The image as the network takes it, uint8 (height, width, 1 or 3), in RGB.
        classes: The best classes with their probabilities, best first.
        maps: float32 (classes, height, width): each class's share of its logit by place, at the image's size.
    """

    pixels: np.ndarray = field(repr=False)
    classes: tuple[tuple[str, float], ...]
    maps: np.ndarray = field(repr=False)


def explanation(
    model: keras.Model, preprocessing: Preprocessing, class_names: Sequence[str], pixels: np.ndarray, top: int
) -> Explanation:
    """The maps of the best `top` classes.

    Args:
        model: A network that ends in a global pool and a Dense layer, its main head alone.
        preprocessing: What it expects.
        class_names: In label order.
        pixels: float32 (height, width, channels) of its size, in 0..255.
        top: How many.

    Raises:
        UserError: The network ends otherwise.
    """
    features = pooled_map(model, features_of(model))
    outputs = keras.Model(model.inputs[0], [model.output, features])(
        preprocessing.normalize(pixels[np.newaxis])
    )
    probabilities, maps = (keras.ops.convert_to_numpy(output)[0] for output in outputs)
    best = np.argsort(-probabilities, kind="stable")[:top]
    weights = keras.ops.convert_to_numpy(model.get_layer(MAIN).kernel)[:, best]
    of_classes = np.moveaxis(maps.astype("float32") @ weights, -1, 0)
    height, width = pixels.shape[:2]
    resized = [cv2.resize(one, (width, height), interpolation=cv2.INTER_CUBIC) for one in of_classes]
    return Explanation(
        pixels=np.rint(pixels).clip(0, 255).astype("uint8"),
        classes=tuple((class_names[label], float(probabilities[label])) for label in best),
        maps=np.stack(resized),
    )


def draw(found: Explanation, path: Path, title: str = "") -> None:
    """A picture: the image, and each class's map over it; red is where the class gets most of its logit."""
    image = np.repeat(found.pixels, 3, axis=-1) if found.pixels.shape[-1] == 1 else found.pixels
    count = len(found.classes) + 1
    figure = Figure(figsize=(INCHES * count, INCHES + 0.5), layout="constrained")
    first, *others = figure.subplots(1, count)
    first.imshow(image)
    first.set_title(shortened(title), fontsize=10, **AS_WRITTEN)
    largest = max(np.abs(found.maps).max(), 1e-6)
    for axes, (label, probability), values in zip(others, found.classes, found.maps, strict=True):
        axes.imshow(image)
        axes.imshow(values, cmap="RdBu_r", vmin=-largest, vmax=largest, alpha=STRENGTH)
        axes.set_title(f"{shortened(label)}\n{probability:.1%}", fontsize=10, **AS_WRITTEN)
    for axes in (first, *others):
        axes.set_axis_off()
    figure.savefig(path, dpi=DPI)
