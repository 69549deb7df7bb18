"""Export to a file for another runtime: ONNX, LiteRT and OpenVINO."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_googlenet.errors import UserError, checked_names
from keras_googlenet.export import reference
from keras_googlenet.export.formats import FORMATS, LABELS, PREPROCESSING, format_named, format_of
from keras_googlenet.export.network import ServedNetwork, served_network
from keras_googlenet.export.progress import stage
from keras_googlenet.export.publish import staging
from keras_googlenet.export.verify import TOLERANCES
from keras_googlenet.files import sync, write_json
from keras_googlenet.images.spec import Preprocessing
from keras_googlenet.run.folder import write_labels
from keras_googlenet.text import reason

BATCH = 32
INT8_AGREEMENT = 0.9  # share of the calibration images that must keep their class


@checked_names
def export_file(
    model: keras.Model,
    file: str | Path,
    *,
    format: str,
    class_names: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    temperature: float = 1.0,
    calibration_images: np.ndarray | None = None,
) -> Path:
    """Write `model`'s main head as a file, and next to it the class names and how to prepare an image.

    The network in the file takes `images`, float32 (batch, height, width, channels), RGB pixels in
    0..255 of the network's size, and gives probabilities, float32 (batch, classes), in the order of
    the lines of `NAME.labels.txt`. Decoding and resizing are the caller's: `NAME.preprocessing.json` says
    how, as fields of `Preprocessing`; `load` and `predict --model` obey it. Before the file appears under its
    name, its answers in the format's runtime are compared with those of `model`.

    Args:
        model: A GoogLeNet with its top, trained on preprocessed images.
        file: File to write, with the format's suffix: `.onnx`, `.tflite`, or `.xml`, whose weights are in
            `NAME.bin`.
        format: One of `formats.FORMATS` that is a file: `"onnx"`, `"litert"`, `"openvino"`.
        class_names: In label order; by default "0", "1" and so on.
        preprocessing: What the model was trained with; by default pixels scaled to -1..1. Required for a
            model with extra layers before the first convolution, such as `Rescaling`.
        temperature: Divisor of the logits before the softmax.
        calibration_images: For LiteRT in int8: typical images, pixels float32 (images, height, width,
            channels) in 0..255. Weights and activations are rounded to 8 bits (Jacob et al. 2018); 200 of
            these images determine the ranges of the activations. Probabilities then have steps of 1/256.
            Instead of the check above, the file must agree with `model` on the class of nine in ten of these
            images.

    Returns:
        The file.

    Raises:
        UserError: An argument does not fit, the file exists, a package is missing, or the file does
            not answer as the model.
    """
    file = Path(file)
    target = format_named(format)
    if target.write is None:
        raise UserError(f"format {format} is not a file: use `export_saved_model`")
    if calibration_images is not None and not target.int8:
        possible = ", ".join(each.name for each in FORMATS.values() if each.int8)
        raise UserError(f"int8 is for format {possible}, not for {format}")
    if file.suffix != target.suffix:
        raise UserError(f"expected a file that ends in {target.suffix} for format {format}, got {file}")
    target.check_installed()
    if keras.backend.backend() != "tensorflow":
        raise UserError(f"export needs Keras on TensorFlow, not {keras.backend.backend()}: set KERAS_BACKEND")
    network = served_network(model, preprocessing, class_names, temperature=temperature)
    if calibration_images is not None:
        shape, expected = np.shape(calibration_images), network.pixels_shape[1:]
        if shape[1:] != expected or shape[0] == 0:
            raise UserError(
                f"expected `calibration_images`, each of shape {expected}, got an array of {shape}"
            )
    files = [*target.companions(file), file]  # in the order in which they appear
    _check_free(files)
    with staging(file.parent) as folder:
        staged = folder / file.name
        whole = _from_pixels(network)
        try:
            with stage(f"writing {file.name}"):
                target.write(whole, staged, calibration_images)
            write_labels(staged.with_suffix(LABELS), network.class_names)
            left = replace(network.preprocessing, mean=0.0, scale=1.0, channel_order="rgb")
            write_json(staged.with_suffix(PREPROCESSING), left.to_dict())
        except (OSError, tf.errors.OpError) as full:
            why = full.strerror if isinstance(full, OSError) else reason(full)
            raise UserError(f"cannot write {file} ({why}): the partial file was removed") from None
        with stage("checking its answers"):
            if calibration_images is None:
                _check_answers(staged, model, network, preprocessing)
            else:
                _check_classes(staged, whole, calibration_images)
        for each in files:
            sync(folder / each.name)
        _check_free(files)  # the work took its time
        for each in files:
            (folder / each.name).rename(each)
        sync(file.parent)
    return file


def answers(file: Path, pixels: np.ndarray) -> np.ndarray:
    """What a file of `export_file` gives for pixels (images, height, width, channels), in its own runtime."""
    load = format_of(file).load
    assert load is not None
    answer = load(file)
    return np.concatenate([answer(batch) for batch in np.split(pixels, range(BATCH, len(pixels), BATCH))])


def _check_answers(
    staged: Path,
    model: keras.Model,
    network: ServedNetwork,
    preprocessing: Preprocessing | None,
) -> None:
    asked = reference.requests(network)
    expected = reference.answers(model, network, asked, preprocessing, precision="float32", cam=False)
    found = answers(staged, asked["tensor"]["images"])
    error = np.abs(found - expected["tensor"]["probabilities"]).max()
    if not error <= TOLERANCES["float32"]:
        raise UserError(
            f"the {staged.suffix} file does not answer as the model does, so it is not written: a difference "
            f"of {error:.1e}, allowed {TOLERANCES['float32']:.0e}"
        )


def _check_classes(staged: Path, whole: keras.Model, images: np.ndarray) -> None:
    expected = whole.predict(images, verbose=0).argmax(axis=1)
    same = np.mean(answers(staged, images).argmax(axis=1) == expected)
    if not same >= INT8_AGREEMENT:
        raise UserError(
            f"in int8 {same:.0%} of the calibration images keep their class, expected {INT8_AGREEMENT:.0%}: "
            "not written; give more images, or export float32"
        )


def _from_pixels(network: ServedNetwork) -> keras.Model:
    size = network.preprocessing
    shape = (size.height, size.width, size.channels)
    images = keras.Input(shape, name="images")
    single = keras.Model(network.model.inputs[0], network.model.output["logits"])
    outputs = single(network.preprocessing.normalize(images))
    if network.softmax:
        outputs = keras.ops.softmax(outputs / network.temperature)
    whole = keras.Model(images, outputs, name=network.model.name)
    whole(np.zeros((1, *shape), "float32"))  # Keras's ONNX exporter refuses a model that never ran
    return whole


def _check_free(files: Sequence[Path]) -> None:
    for file in files:
        if file.exists():
            raise UserError(f"{file} exists: choose another name, or delete it")
