"""Files of weights, and weights by layer: read, written, and put into a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import keras
import ml_dtypes
import numpy as np

from keras_googlenet.errors import UserError
from keras_googlenet.files import replacing
from keras_googlenet.names import MODEL, is_classifier
from keras_googlenet.text import listed, reason

ABOUT = "keras_googlenet"  # attribute of the weights files that this package converted: the network's name

Arrays = dict[str, list[np.ndarray]]
"""Weights by the name of their layer, in the order of `layer.weights`."""


def load_model(path: Path) -> keras.Model:
    """Load a `.keras` file.

    Raises:
        UserError: It is corrupt.
    """
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # of zip, JSON, HDF5 or Keras, as the damage has it
        raise UserError(f"cannot load {path}, it is corrupt or not a Keras model: {reason(error)}") from error


def save_weights(model: keras.Model, to: Path) -> None:
    """Write a Keras weights file that `load_weights` takes for any network of the same architecture."""
    with replacing(to) as unfinished:
        model.save_weights(unfinished)
        with h5py.File(unfinished, "a") as file:
            file.attrs[ABOUT] = model.name


def read_arrays(path: Path) -> Arrays:
    """What `save_weights` wrote."""
    with h5py.File(path) as file:
        return {
            group["vars"].attrs["name"]: [
                _array(group["vars"][key]) for key in sorted(group["vars"], key=int)
            ]
            for group in file["layers"].values()
            if "vars" in group and len(group["vars"])
        }


def _array(dataset: h5py.Dataset) -> np.ndarray:
    """A tensor; HDF5 has no bfloat16, so Keras notes it in an attribute."""
    is_bfloat16 = dataset.attrs.get("dtype") == "bfloat16"
    return np.array(dataset, dtype=ml_dtypes.bfloat16) if is_bfloat16 else np.asarray(dataset)


def load_weights(model: keras.Model, path: Path) -> list[str]:
    """Fill `model` from a file of weights, as far as they fit.

    Args:
        model: A network of the family.
        path: A `.keras` file, a run's folder, or a `.weights.h5` file. A file that this package converted may
            have other classes, input size, channels or heads; any other must fit.

    Returns:
        Names of the layers left at their initial values.

    Raises:
        UserError: The file is missing, corrupt, or of another architecture.
    """
    path = path / MODEL if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"no weights at {path}: expected a .keras or .weights.h5 file, or a run's folder")
    if path.suffix == ".keras":
        return transfer(arrays_of(load_model(path)), model)
    try:
        with h5py.File(path) as file:
            is_ours = ABOUT in file.attrs
        if is_ours:
            return transfer(read_arrays(path), model)
        model.load_weights(path)
    except UserError:
        raise
    except Exception as error:  # of HDF5 or Keras, as the file has it
        raise UserError(f"cannot load weights from {path}: {reason(error)}") from error
    return []


def arrays_of(model: keras.Model) -> Arrays:
    """A network's weights."""
    return {layer.name: layer.get_weights() for layer in _weighted(model)}


def transfer(arrays: Mapping[str, Sequence[np.ndarray]], model: keras.Model) -> list[str]:
    """Put weights into the layers of `model` of the same names.

    Classifiers may have other classes, the first convolution other channels, and the auxiliary heads another
    input size or be absent: those layers keep their initial values.

    Args:
        arrays: The weights.
        model: A network of the family.

    Returns:
        Names of the layers left at their initial values.

    Raises:
        UserError: Any other layer differs: nothing is changed then.
    """
    layers = {layer.name: layer for layer in _weighted(model)}
    names = {*arrays, *layers}
    may_differ = {name for name in names if is_classifier(name)}
    may_differ.add(next(iter(layers)))  # the first convolution
    same = {
        name
        for name, layer in layers.items()
        if name in arrays and [w.shape for w in arrays[name]] == [tuple(w.shape) for w in layer.weights]
    }
    wrong = sorted(names - same - may_differ)
    if wrong:
        raise UserError(
            f"these weights are of another architecture than {model.name!r}: they differ in "
            f"{listed(wrong, 1)}"
        )
    for name in same:
        layers[name].set_weights(arrays[name])
    return [name for name in layers if name not in same]


def _weighted(model: keras.Model) -> list[keras.Layer]:
    # Dropout's variable is the state of a random generator.
    return [layer for layer in model.layers if layer.weights and not isinstance(layer, keras.layers.Dropout)]
