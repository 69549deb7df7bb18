"""The published networks: their files, converted once to Keras's format."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras

from keras_googlenet.names import MAIN
from keras_googlenet.network.graph import build
from keras_googlenet.network.variants import VARIANTS
from keras_googlenet.weights.convert import convert
from keras_googlenet.weights.fetch import cache_folder, original_file
from keras_googlenet.weights.files import read_arrays, save_weights, transfer
from keras_googlenet.weights.published import WeightsSpec
from keras_googlenet.weights.readers import read

BACKGROUND = 1001  # classes of TF-Slim's networks: ImageNet's, and class 0 before them


def converted_file(spec: WeightsSpec) -> Path:
    """The published weights as a Keras weights file; converted the first time."""
    path = cache_folder() / f"{spec.name}-{spec.sha256[:8]}.weights.h5"
    if not path.is_file():
        convert_file(original_file(spec), spec, path)
    return path


def convert_file(original: Path, spec: WeightsSpec, to: Path) -> None:
    """Convert a published file to a Keras weights file, which appears whole or not at all.

    Raises:
        UserError: The file does not hold the weights of the row's variant.
    """
    with _keras_as_stored():
        inputs = keras.Input((spec.preprocessing.height, spec.preprocessing.width, 3))
        outputs = build(inputs, VARIANTS[spec.variant], classes=spec.classes, aux_heads=spec.aux_heads)
        model = keras.Model(inputs, outputs, name=spec.variant)
        convert(read(original, spec.source), spec.source, model)
        save_weights(model, to)


@contextmanager
def _keras_as_stored() -> Iterator[None]:
    """Build in float32 and channels last, whatever the caller's settings: later sessions read the file."""
    policy, data_format = keras.config.dtype_policy(), keras.config.image_data_format()
    keras.config.set_dtype_policy("float32")
    keras.config.set_image_data_format("channels_last")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)
        keras.config.set_image_data_format(data_format)


def load_imagenet(model: keras.Model, spec: WeightsSpec) -> list[str]:
    """Fill `model` from published weights, all that fits it.

    TF-Slim's background class is omitted if the model has no such class.

    Returns:
        Names of the layers left at their initial values.

    Raises:
        UserError: The model has another architecture, or the weights are not available.
    """
    arrays = read_arrays(converted_file(spec))
    main = next((layer for layer in model.layers if layer.name == MAIN), None)
    if spec.classes == BACKGROUND and main is not None and main.units == BACKGROUND - 1:
        kernel, bias = arrays[MAIN]
        arrays[MAIN] = [kernel[:, 1:], bias[1:]]
    return transfer(arrays, model)
