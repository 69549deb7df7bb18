"""Measure a network on a folder of labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from keras_googlenet import GoogLeNet
from keras_googlenet.data.feed import evaluation_batches
from keras_googlenet.data.folders import labelled_folder
from keras_googlenet.data.parts import Part
from keras_googlenet.errors import UserError
from keras_googlenet.evaluation.metrics import top_k_accuracy
from keras_googlenet.preprocessing import Preprocessing
from keras_googlenet.surgery import strip_aux
from keras_googlenet.training import run_folder
from keras_googlenet.weights.specs import imagenet_spec

TOP_K = 5


def evaluate(weights: str, folder: Path, *, variant: str = "paper", batch_size: int = 64) -> dict[str, Any]:
    """Accuracy of trained weights on a folder of class folders, one crop an image.

    Args:
        weights: `"imagenet"`, or the folder of a finished run.
        folder: One folder of images for each class. For ImageNet: 1000 folders, whose sorted names
            (WordNet ids) are the order of the classes.
        variant: The network, for `"imagenet"`.
        batch_size: Images in a step.

    Returns:
        `images`, `top1` and `top5` (shares of them), and for published weights `published_top1` and
        `published_top5`.

    Raises:
        UserError: The weights cannot be had, or the folder's classes are not theirs.
    """
    class_names, part = labelled_folder(folder)
    if weights != "imagenet":
        run = run_folder.load(Path(weights))
        if class_names != run.class_names:
            raise UserError(
                f"{folder} has other classes than {weights}: expected folders named "
                f"{', '.join(run.class_names)}"
            )
        return accuracy(strip_aux(run.model), run.preprocessing, part, batch_size)
    spec = imagenet_spec(variant, aux_heads=False)
    classes = min(spec.classes, 1000)  # TF-Slim's background is no class of the images
    if len(class_names) != classes:
        raise UserError(
            f"expected {classes} class folders in {folder}, as ImageNet has; found {len(class_names)}"
        )
    model = GoogLeNet(variant=variant, weights="imagenet", aux_heads=False, classes=classes)
    return accuracy(model, spec.preprocessing, part, batch_size) | {
        "published_top1": spec.top1 / 100,
        "published_top5": spec.top5 / 100,
    }


def accuracy(model: keras.Model, preprocessing: Preprocessing, part: Part, batch_size: int) -> dict[str, Any]:
    """Count right answers of a model with one output."""
    images = evaluation_batches(part, preprocessing, batch_size=batch_size)
    labels = part.labels
    probabilities = model.predict(images, verbose=0)
    k = min(TOP_K, probabilities.shape[1])
    return {
        "images": part.count,
        "top1": top_k_accuracy(labels, probabilities, 1),
        f"top{k}": top_k_accuracy(labels, probabilities, k),
    }
