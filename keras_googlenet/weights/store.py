"""Fetch published weights, convert them once, and fill models from files of weights."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import h5py
import keras

from keras_googlenet.architecture import Architecture
from keras_googlenet.errors import UserError
from keras_googlenet.weights.convert import convert
from keras_googlenet.weights.readers import read
from keras_googlenet.weights.specs import WeightsSpec

ORIGINALS_VARIABLE = "KERAS_GOOGLENET_WEIGHTS_DIR"
CACHE_FOLDER = "models/keras_googlenet"  # below Keras's own home
ABOUT = "keras_googlenet"  # attribute of our weights files: the network that they are of
SHA256_LENGTH = 64


def original_file(spec: WeightsSpec) -> Path:
    """The published file, checked: from `KERAS_GOOGLENET_WEIGHTS_DIR`, the cache, or its address.

    Raises:
        UserError: It is not there, cannot be downloaded, or is not the published file.
    """
    originals = os.environ.get(ORIGINALS_VARIABLE)
    if originals:
        path = Path(originals) / spec.file
        if not path.is_file():
            raise UserError(f"{ORIGINALS_VARIABLE} is set and {path} is missing: put {spec.address} there")
        check_file(path, spec)
        return path
    folder = cache_folder()
    known_hash = spec.sha256 if len(spec.sha256) == SHA256_LENGTH else None
    try:
        path = Path(
            keras.utils.get_file(
                spec.file,
                spec.address,
                file_hash=known_hash,
                cache_dir=folder.parent,
                cache_subdir=folder.name,
            )
        )
        check_file(path, spec)
    except Exception as error:  # of any network layer; the user sees one line
        (folder / spec.file).unlink(missing_ok=True)  # a wrong file must not be found the next time
        reason = " ".join(str(error).split())
        raise UserError(
            f"cannot fetch {spec.name} weights: {reason}; download {spec.address} yourself, and set "
            f"{ORIGINALS_VARIABLE} to its folder"
        ) from error
    return path


def check_file(path: Path, spec: WeightsSpec) -> None:
    """Compare a file with the published size and checksum.

    Raises:
        UserError: It differs.
    """
    size = path.stat().st_size
    if spec.size is not None and size != spec.size:
        raise UserError(f"{path} is not the published file: expected {spec.size} bytes, found {size}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(spec.sha256):
        raise UserError(f"{path} is not the published file: expected SHA-256 {spec.sha256}, found {found}")


def cache_folder() -> Path:
    """Where originals and converted files are kept: in Keras's home, or where `KERAS_HOME` says."""
    folder = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / CACHE_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return folder


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
    from keras_googlenet.variants import VARIANTS

    about = {
        "architecture": json.loads(VARIANTS[spec.variant].to_json()),
        "input_shape": [224, 224, 3],
        "classes": spec.classes,
        "aux_heads": spec.aux_heads,
    }
    model = _network(about)
    convert(read(original, spec.source), spec.source, model)
    save_weights(model, to, about)


def load_imagenet(model: keras.Model, spec: WeightsSpec) -> list[str]:
    """Fill `model` from published weights; see `load_weights`."""
    source = _read_network(converted_file(spec))
    main = next((layer for layer in model.layers if layer.name == "main"), None)
    if spec.classes == 1001 and main is not None and main.units == 1000:
        source = _without_background(source)
    return transfer(source, model)


def _without_background(source: keras.Model) -> keras.Model:
    """TF-Slim's network less its class 0, so that classes count as everybody else's."""
    main = source.get_layer("main")
    features = main.input
    classifier = keras.layers.Dense(main.units - 1, name="main")
    model = keras.Model(source.inputs, classifier(features))
    kernel, bias = main.get_weights()
    classifier.set_weights([kernel[:, 1:], bias[1:]])
    return model


def save_weights(model: keras.Model, to: Path, about: dict[str, Any]) -> None:
    """Write a Keras weights file that tells which network it is of."""
    staging = to.with_name(f".tmp-{os.getpid()}-{to.name}")
    try:
        model.save_weights(staging)
        with h5py.File(staging, "a") as file:
            file.attrs[ABOUT] = json.dumps(about)
        staging.rename(to)
    finally:
        staging.unlink(missing_ok=True)


def load_weights(model: keras.Model, path: Path) -> list[str]:
    """Fill `model` from a file of weights, all that fits it.

    Args:
        model: A network of the family.
        path: A `.keras` file, a run's folder, or a `.weights.h5` file. One that this package
            converted may be of other classes, input size, channels or heads; any other must fit.

    Returns:
        Names of the layers left at their initial values.

    Raises:
        UserError: The file is missing, corrupt, or of another architecture.
    """
    from keras_googlenet.training import run_folder

    path = path / run_folder.MODEL if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"no weights at {path}: expected a .keras or .weights.h5 file, or a run's folder")
    if path.suffix == ".keras":
        return transfer(run_folder.load_model(path), model)
    try:
        with h5py.File(path) as file:
            converted = ABOUT in file.attrs
        if converted:
            return transfer(_read_network(path), model)
        model.load_weights(path)
    except UserError:
        raise
    except Exception as error:  # of HDF5 or Keras, as the file has it
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"cannot load weights from {path}: {reason}") from error
    return []


def _read_network(path: Path) -> keras.Model:
    """The network that a weights file of ours is of, with its weights."""
    with h5py.File(path) as file:
        model = _network(json.loads(file.attrs[ABOUT]))
    model.load_weights(path)
    return model


def _network(about: dict[str, Any]) -> keras.Model:
    from keras_googlenet.googlenet import GoogLeNet

    architecture = Architecture.from_json(json.dumps(about["architecture"]))
    return GoogLeNet(
        variant=architecture,
        input_shape=tuple(about["input_shape"]),
        classes=about["classes"],
        aux_heads=about["aux_heads"],
        name=architecture.name,
    )


def transfer(source: keras.Model, model: keras.Model) -> list[str]:
    """Copy the weights of `source` to the layers of `model` of the same names.

    Classifiers may be of other classes, the first convolution of other channels, and the auxiliary
    heads of another input size, or absent: those layers keep their initial values.

    Returns:
        Names of the layers left at their initial values.

    Raises:
        UserError: Any other layer differs: nothing is changed then.
    """
    old = {layer.name: layer for layer in _weighted(source)}
    new = {layer.name: layer for layer in _weighted(model)}
    may_differ = {name for name in {**old, **new} if name == "main" or name.startswith("aux")}
    may_differ |= {next(iter(new)), next(iter(old))}  # the first convolution
    same = {name for name in set(old) & set(new) if _shapes(old[name]) == _shapes(new[name])}
    wrong = sorted((set(old) | set(new)) - same - may_differ)
    if wrong:
        raise UserError(
            f"these weights are of another architecture than {model.name!r}: they differ in {wrong[0]}"
            + (f" and {len(wrong) - 1} more layers" if len(wrong) > 1 else "")
        )
    for name in same:
        new[name].set_weights(old[name].get_weights())
    return [name for name in new if name not in same]


def _weighted(model: keras.Model) -> list[keras.Layer]:
    # Dropout's variable is the state of a random generator.
    return [layer for layer in model.layers if layer.weights and not isinstance(layer, keras.layers.Dropout)]


def _shapes(layer: keras.Layer) -> list[tuple[int, ...]]:
    return [tuple(variable.shape) for variable in layer.weights]
