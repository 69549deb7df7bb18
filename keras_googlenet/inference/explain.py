"""Where in an image a network sees a class: class activation maps, each head's probabilities, blocks'
features.

Source of the maps: Zhou et al. 2016, "Learning Deep Features for Discriminative Localization".
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import cv2
import keras
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from keras_googlenet.evaluation.plots import AS_WRITTEN, DPI, shortened
from keras_googlenet.images.numpy import resize
from keras_googlenet.images.spec import Preprocessing, Region
from keras_googlenet.names import MAIN
from keras_googlenet.network.surgery import feature_model, features_of, pooled_map, strip_aux

INCHES = 2.4  # of each picture
STRENGTH = 0.55  # of a map over its image
LONGEST = 512  # pixels of a drawn image's side
WHOLE: Region = (0.0, 0.0, 1.0, 1.0)
SHOWN = 4  # pictures in a row, at least: channels of a block

Classes = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Explanation:
    """What a network sees in an image.

    Attributes:
        pixels: The image as the network takes it, uint8 (height, width, 1 or 3), in RGB.
        image: The whole image, uint8 (its height, its width, 1 or 3), in RGB.
        region: The part of `image` that the network sees: top, left, bottom and right as fractions of its
            height and width. The maps cover this part.
        classes: The best classes with their probabilities, best first.
        maps: float32 (classes, height, width), as large as `pixels`: what each position adds to the class's
            logit.
        heads: For a network with auxiliary heads: each head's probabilities of `classes`.
        features: The outputs of Inception blocks by name, float32 (height, width, channels).
    """

    pixels: np.ndarray = field(repr=False)
    image: np.ndarray = field(repr=False)
    region: Region
    classes: Classes
    maps: np.ndarray = field(repr=False)
    heads: dict[str, tuple[float, ...]] = field(default_factory=dict)
    features: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    def _repr_png_(self) -> bytes:
        """For notebooks: the picture that `draw` makes."""
        picture = io.BytesIO()
        draw(self, picture)
        return picture.getvalue()


def explanation(
    model: keras.Model,
    preprocessing: Preprocessing,
    class_names: Sequence[str],
    image: np.ndarray,
    top: int,
    blocks: Sequence[str] = (),
) -> Explanation:
    """The maps of the best `top` classes.

    Args:
        model: A network whose main head is a global pool and a Dense layer, with or without auxiliary heads.
        preprocessing: What it expects.
        class_names: In label order.
        image: The upright image, uint8 (its height, its width, channels).
        top: Number of classes.
        blocks: Names of Inception blocks whose outputs to return.

    Raises:
        UserError: The network ends otherwise, or has no such block.
    """
    pixels = resize(image, preprocessing)
    of_blocks = feature_model(model, blocks).outputs if blocks else []
    wanted = [pooled_map(model, features_of(model)), strip_aux(model).output, *of_blocks, *model.outputs]
    outputs = keras.Model(model.inputs[0], wanted)(preprocessing.normalize(pixels[np.newaxis]))
    maps, probabilities, *others = (keras.ops.convert_to_numpy(output)[0] for output in outputs)
    best = np.argsort(-probabilities, kind="stable")[:top]
    weights = keras.ops.convert_to_numpy(model.get_layer(MAIN).kernel)[:, best]
    of_heads = dict(zip(model.output_names, others[len(blocks) :], strict=True))
    return Explanation(
        pixels=as_shown(pixels),
        image=image,
        region=preprocessing.region(*image.shape[:2]),
        classes=tuple((class_names[label], float(probabilities[label])) for label in best),
        maps=enlarged(np.moveaxis(maps.astype("float32") @ weights, -1, 0), pixels.shape[:2]),
        heads={name: tuple(map(float, head[best])) for name, head in of_heads.items()}
        if len(of_heads) > 1
        else {},
        features=dict(zip(blocks, others[: len(blocks)], strict=True)),
    )


def as_shown(pixels: np.ndarray) -> np.ndarray:
    """Pixels of a network's input, float in 0..255, as uint8."""
    return np.rint(pixels).clip(0, 255).astype("uint8")


def enlarged(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Maps (count, rows, columns) at an image's height and width."""
    height, width = size
    return np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_CUBIC) for one in maps])


def shrunk(image: np.ndarray) -> np.ndarray:
    """An image in color, its longer side `LONGEST` pixels at most."""
    scale = LONGEST / max(image.shape[:2])
    if scale < 1:
        height, width = (max(1, round(side * scale)) for side in image.shape[:2])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).reshape(height, width, -1)
    return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image


def draw(found: Explanation, path: Path | str | BinaryIO, title: str = "") -> None:
    """Draw a picture: the image, and each class's map over it; red is where the class gets most of its logit.

    If the network sees only a part of the image, a frame shows that part. A large image is drawn smaller.
    Further rows show each head's probabilities and, for each block, the channels that respond most.
    """
    image = shrunk(found.image)
    height, width = image.shape[:2]
    top, left, bottom, right = (
        np.array(found.region) * (height, width, height, width) - 0.5
    )  # pixels' centers
    rows = 1 + bool(found.heads) + len(found.features)
    columns = max(len(found.classes) + 1, SHOWN if rows > 1 else 0)
    figure = Figure(figsize=(INCHES * columns, (INCHES + 0.5) * rows), layout="constrained")
    grid = figure.add_gridspec(rows, columns)
    first = figure.add_subplot(grid[0, 0])
    first.imshow(image)
    first.set_title(shortened(title), fontsize=10, **AS_WRITTEN)
    first.set_axis_off()
    largest = max(np.abs(found.maps).max(), 1e-6)
    for column, ((label, probability), values) in enumerate(zip(found.classes, found.maps, strict=True), 1):
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(image)
        seen = axes.imshow(
            values,
            extent=(left, right, bottom, top),
            cmap="RdBu_r",
            vmin=-largest,
            vmax=largest,
            alpha=STRENGTH,
        )
        seen.set_zorder(1)
        if found.region != WHOLE:
            axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, color="black"))
        axes.set_xlim(-0.5, width - 0.5)
        axes.set_ylim(height - 0.5, -0.5)
        axes.set_title(f"{shortened(label)}\n{probability:.1%}", fontsize=10, **AS_WRITTEN)
        axes.set_axis_off()
    if found.heads:
        axes = figure.add_subplot(grid[1, :])
        places = np.arange(len(found.classes))
        share = 0.8 / len(found.heads)
        for number, (head, opinions) in enumerate(found.heads.items()):
            bars = axes.bar(
                places + share * (number - (len(found.heads) - 1) / 2), opinions, share, label=head
            )
            axes.bar_label(bars, [f"{opinion:.0%}" for opinion in opinions], fontsize=8)
        axes.set_xticks(places, [shortened(label) for label, _ in found.classes], **AS_WRITTEN)
        axes.set_ylim(0, 1.12)
        axes.set_ylabel("probability")
        axes.legend(title="head", loc="upper right")
        axes.spines[["top", "right"]].set_visible(False)
    for row, (block, values) in enumerate(found.features.items(), 1 + bool(found.heads)):
        strongest = np.argsort(-values.mean(axis=(0, 1)), kind="stable")[:columns]
        for column, channel in enumerate(strongest):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(values[..., channel], cmap="viridis")
            axes.set_title(f"{block}, channel {channel}", fontsize=10)
            axes.set_axis_off()
    figure.savefig(path, dpi=DPI)
