"""Export for TensorFlow Serving: the main head alone, preprocessing inside the graph."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import keras
import tensorflow as tf

from keras_googlenet.data.images import load_images
from keras_googlenet.errors import UserError
from keras_googlenet.preprocessing import Preprocessing
from keras_googlenet.serving.versions import latest_version
from keras_googlenet.surgery import strip_aux, with_dtype_policy

TOP_K = 5
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


def export_saved_model(
    model: keras.Model,
    directory: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    version: int | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
    preprocessing: Preprocessing | None = None,
) -> Path:
    """Write `model` as the next version in a TensorFlow Serving model directory.

    The SavedModel holds the main head alone. Its signatures:

    - `serving_default`: `images`, string (batch,), each an encoded JPEG or PNG;
    - `tensor`: `images`, float32 (batch, height, width, channels), pixels in 0..255.

    Both return `probabilities`, float32 (batch, classes) in the order of `class_names`, and the best
    five (or fewer) as `classes`, string, and `scores`, float32, best first. The version appears by
    one rename, so that a server never sees half of it.

    Args:
        model: A GoogLeNet with its top, trained on preprocessed images.
        directory: The model's directory: its name is the model's, its children are versions.
        class_names: In label order; by default "0", "1" and so on.
        version: The version's number; by default one more than the highest there.
        precision: What the graph computes in. Inputs, outputs and weights are float32 either way.
        preprocessing: What the model was trained with; by default pixels scaled to -1..1, as
            `preprocess_input` does, at the model's own size and channels.

    Returns:
        The version's folder.

    Raises:
        UserError: The model, the class names or the version do not fit, or Keras does not run on
            TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise UserError(
            f"export needs Keras on TensorFlow, not {keras.backend.backend()}: save the model and "
            "run `keras-googlenet export`, or set KERAS_BACKEND=tensorflow"
        )
    if precision not in POLICIES:
        raise UserError(f"expected precision float32 or bfloat16, got {precision!r}")
    if version is not None and not 0 <= version < 2**63:
        raise UserError(f"expected a version of 0 or more, got {version}")
    main = with_dtype_policy(strip_aux(model), POLICIES[precision])
    preprocessing = preprocessing or _default_preprocessing(main)
    names = _class_names(main, class_names)

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    staging = directory / f".tmp-{uuid.uuid4().hex}"
    try:
        _write(main, preprocessing, names, staging)
        return _publish(staging, directory, version)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _default_preprocessing(model: keras.Model) -> Preprocessing:
    _, height, width, channels = model.input_shape
    if height is None or width is None:
        raise UserError(
            "expected a model with a fixed input size: give GoogLeNet an `input_shape`, or "
            "`preprocessing` here"
        )
    return Preprocessing(height, width, channels)


def _class_names(model: keras.Model, class_names: Sequence[str] | None) -> list[str]:
    classes = model.output_shape[-1]
    names = [str(i) for i in range(classes)] if class_names is None else list(class_names)
    if len(names) != classes:
        raise UserError(f"expected {classes} class names, as the model has; received {len(names)}")
    return names


def _write(main: keras.Model, preprocessing: Preprocessing, class_names: list[str], folder: Path) -> None:
    """Write the SavedModel, with its bytes on the disk when this returns."""
    pixels_shape = (None, preprocessing.height, preprocessing.width, preprocessing.channels)
    gives_logits = main.get_layer("main").activation is keras.activations.linear
    # A constant and a gather need no lookup table and no asset, which would embed its path.
    names = tf.constant(class_names)

    def answer(pixels: Any) -> dict[str, Any]:
        probabilities = main(preprocessing.normalize(pixels), training=False)
        if gives_logits:
            probabilities = tf.nn.softmax(probabilities)
        scores, best = tf.math.top_k(probabilities, k=min(TOP_K, len(class_names)))
        return {"probabilities": probabilities, "classes": tf.gather(names, best), "scores": scores}

    def serving_default(images: Any) -> dict[str, Any]:
        return answer(load_images(images, preprocessing))

    def tensor(images: Any) -> dict[str, Any]:
        # A server does not check a signature's shape, and a wrong rank would abort its process.
        return answer(tf.ensure_shape(images, pixels_shape))

    archive = keras.export.ExportArchive()
    # Nothing is tracked: endpoints keep just the variables they use.
    archive.add_endpoint(
        "serving_default", serving_default, [tf.TensorSpec((None,), tf.string, name="images")]
    )
    archive.add_endpoint("tensor", tensor, [tf.TensorSpec(pixels_shape, tf.float32, name="images")])
    archive.write_out(str(folder), verbose=False)
    extra = folder / "assets.extra"  # TensorFlow's place for files that no op reads
    extra.mkdir()
    (extra / "labels.txt").write_text("".join(f"{name}\n" for name in class_names))
    for path in folder.rglob("*"):
        _sync(path)
    _sync(folder)


def _publish(staging: Path, directory: Path, version: int | None) -> Path:
    while True:
        number = version if version is not None else (latest_version(directory) or 0) + 1
        target = directory / str(number)
        # An empty folder would be replaced without a word.
        if not target.exists():
            try:
                staging.rename(target)
            except OSError:
                if not target.exists():
                    raise
            else:
                _sync(directory)
                return target
        if version is not None:
            raise UserError(f"{target} exists: choose another version, or none for the next free one")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
