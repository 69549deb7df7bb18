"""Images as points: a GoogLeNet's features, and their projection on a plane."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np

from keras_googlenet.data.feed import evaluation_batches
from keras_googlenet.data.parts import Part
from keras_googlenet.errors import UserError
from keras_googlenet.images.spec import Preprocessing
from keras_googlenet.names import is_pool
from keras_googlenet.network.googlenet import GoogLeNet
from keras_googlenet.run import folder as run_folder
from keras_googlenet.weights.files import MODEL, load_model
from keras_googlenet.weights.published import imagenet_spec
from keras_googlenet.weights.shipped import is_shipped, located

BATCH = 32
FEWEST_POINTS = 3  # on a line at least, and not just two
PROJECTIONS = ("pca", "tsne")
OWN = {3: "cifar10", 1: "fashion_mnist"}  # the package's networks by the channels of their input


@dataclass(frozen=True)
class FeatureNetwork:
    """A network from images to features (batch, 1024), its preprocessing, and its name."""

    model: keras.Model
    preprocessing: Preprocessing
    description: str


def feature_network(
    weights: str | None = None,
    variant: str | None = None,
    *,
    image_size: int = 224,
    channels: int = 3,
    seed: int = 0,
) -> FeatureNetwork:
    """A GoogLeNet up to its pooled features.

    Args:
        weights: A network of the package such as `"cifar10"`; `"imagenet"`; a run's folder; a `.keras` or
            `.weights.h5` file. By default, `"cifar10"` for images in color and `"fashion_mnist"` for gray
            ones; or with a variant, an untrained network.
        variant: The network, if the weights do not define it: by default `"paper"` for `"imagenet"` and
            `"bn"` otherwise.
        image_size: Side of the input in pixels, if the weights do not define it.
        channels: Channels of the input, if the weights do not define them.
        seed: Random seed of the untrained network; sets Keras's random seed.

    Raises:
        UserError: The weights are not available, or are not a GoogLeNet's.
    """
    if weights is None and variant is None:
        weights = OWN[channels]
    variant = variant or ("paper" if weights == "imagenet" else "bn")
    plain = Preprocessing(image_size, image_size, channels)
    if weights is None:
        keras.utils.set_random_seed(seed)
        return FeatureNetwork(
            _without_top(variant, plain), plain, f"an untrained {variant} network, which knows no classes"
        )
    if weights == "imagenet":
        preprocessing = imagenet_spec(variant, aux_heads=False).preprocessing
        return FeatureNetwork(
            _without_top(variant, preprocessing, weights), preprocessing, f"the {variant} network of ImageNet"
        )
    path = located(weights)
    if path.name.endswith(".weights.h5") or not path.exists():
        return FeatureNetwork(
            _without_top(variant, plain, weights), plain, f"the {variant} network of {path}"
        )
    model = _pooled(load_model(path / MODEL if path.is_dir() else path), path)
    if path.is_dir():
        name = f"the package's {weights} network" if is_shipped(weights) else f"the network of {path}"
        return FeatureNetwork(model, run_folder.load_preprocessing(path), name)
    height, width, of_model = model.input_shape[1:]
    preprocessing = Preprocessing(height or image_size, width or image_size, of_model)
    return FeatureNetwork(model, preprocessing, f"the network of {path}")


def _without_top(variant: str, preprocessing: Preprocessing, weights: str | None = None) -> keras.Model:
    shape = (preprocessing.height, preprocessing.width, preprocessing.channels)
    try:
        return GoogLeNet(False, weights, input_shape=shape, pooling="avg", variant=variant)
    except ValueError as error:
        raise UserError(str(error)) from None


def _pooled(model: keras.Model, path: Path) -> keras.Model:
    found = [layer for layer in model.layers if is_pool(layer.name)]
    if not found:
        raise UserError(f"{path} holds no GoogLeNet: expected a layer 'avg_pool', whose output is features")
    return keras.Model(model.input, found[0].output)


def embed(network: FeatureNetwork, part: Part) -> np.ndarray:
    """Features of all images of a part, float32 (images, features)."""
    return network.model.predict(evaluation_batches(part, network.preprocessing, batch_size=BATCH), verbose=0)


def spread(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Sorted indices of `count` random images (or all, if there are fewer), with each class's share kept to
    within one image.
    """
    total = len(labels)
    count = min(count, total)
    by_class = np.lexsort((np.random.default_rng(seed).permutation(total), labels))
    return np.sort(by_class[np.arange(count) * total // count])


def check_projection(method: str) -> None:
    """Check that a method is available, before the work that needs it.

    Raises:
        UserError: There is no such method, or scikit-learn is missing.
    """
    if method not in PROJECTIONS:
        raise UserError(f"expected `projection` to be one of {', '.join(PROJECTIONS)}, got {method!r}")
    if method == "tsne" and find_spec("sklearn") is None:
        raise UserError(
            'scikit-learn is not installed: pip install "keras-googlenet[inspect]", or take `projection` pca'
        )


def project(features: np.ndarray, method: str = "pca", seed: int = 0) -> tuple[np.ndarray, tuple[str, str]]:
    """Points (images, 2) for features (images, features), and the names of the two axes.

    Features are scaled to unit length first: their direction separates the classes, and otherwise a few
    images with large features would dominate the picture.

    Args:
        features: Features of at least `FEWEST_POINTS` images.
        method: `"pca"`, or `"tsne"`, which scikit-learn computes.
        seed: Random seed of t-SNE.

    Raises:
        UserError: scikit-learn is missing, or the method or the number of images is not as above.
    """
    check_projection(method)
    if len(features) < FEWEST_POINTS:
        raise UserError(f"expected {FEWEST_POINTS} images at least to draw features of, got {len(features)}")
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    features = features / np.maximum(lengths, np.finfo("float32").tiny)
    if method == "tsne":
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(features) - 1) / 3)
        points = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(features)
        return points, ("t-SNE, first axis", "t-SNE, second axis")
    points, (first, second) = principal_components(features)
    return points, (
        f"first component ({first:.0%} of the variance)",
        f"second component ({second:.0%} of the variance)",
    )


def principal_components(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first two principal components: points (images, 2), and their shares of the variance (2,).

    The coordinate of the largest magnitude is positive on both axes.
    """
    centered = features.astype("float64") - features.mean(axis=0, dtype="float64")
    left, scale, _ = np.linalg.svd(centered, full_matrices=False)
    points = left[:, :2] * scale[:2]
    points *= np.sign(points[np.abs(points).argmax(axis=0), (0, 1)])
    return points, scale[:2] ** 2 / max((scale**2).sum(), np.finfo("float64").tiny)
