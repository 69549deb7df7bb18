"""Where a network's weights start, other than at random.

Source: Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", arXiv 2404.00498.
"""

from __future__ import annotations

import keras
import numpy as np

from keras_googlenet.data.feed import evaluation_batches
from keras_googlenet.data.parts import Part
from keras_googlenet.images.spec import Preprocessing
from keras_googlenet.names import BLOCK, is_head
from keras_googlenet.run.config import RunConfig

IMAGES = 5000  # whose patches are whitened
LEAST_VARIANCE = 5e-4


def start(model: keras.Model, config: RunConfig, part: Part, preprocessing: Preprocessing) -> None:
    """Set the initial weights that a run's options specify; the others are unchanged.

    Args:
        model: The run's, as it was built.
        config: Its options.
        part: Its training images.
        preprocessing: The network's.
    """
    if config.identity_start:
        for layer in model.layers:
            if isinstance(layer, keras.layers.Conv2D) and _may_pass_on(layer.name):
                layer.kernel.assign(partial_identity(keras.ops.convert_to_numpy(layer.kernel)))
    if config.head_scale != 1:
        for layer in filter(lambda layer: is_head(layer.name), model.layers):
            layer.kernel.assign(layer.kernel * config.head_scale)
    if config.whiten:
        chosen = np.random.default_rng(config.seed).permutation(part.count)[:IMAGES]
        batches = evaluation_batches(part.take(chosen), preprocessing, batch_size=min(256, len(chosen)))
        images = np.concatenate([np.asarray(images) for images, _ in batches])
        kernel = first_convolution(model).kernel
        kernel.assign(whitening(images, kernel.shape[0], kernel.shape[-1]))


def _may_pass_on(layer: str) -> bool:
    """Whether a convolution may start as an identity: all branches of a block would pass on the same."""
    return not layer.startswith(BLOCK) or "_3x3" in layer


def first_convolution(model: keras.Model) -> keras.layers.Conv2D:
    """The convolution that takes the images."""
    return next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))


def partial_identity(kernel: np.ndarray) -> np.ndarray:
    """A kernel whose first filters, one per input channel, each pass on one channel.

    Args:
        kernel: (height, width, channels, filters), odd sides.
    """
    height, width, channels, filters = kernel.shape
    passed = np.arange(min(channels, filters))
    kernel = kernel.copy()
    kernel[..., passed] = 0
    kernel[height // 2, width // 2, passed, passed] = 1
    return kernel


def whitening(images: np.ndarray, size: int, filters: int) -> np.ndarray:
    """Filters that make an image's patches uncorrelated with variance 1: each filter and its negative.

    Args:
        images: float32 (count, height, width, channels).
        size: Side of a patch.
        filters: Number of filters: those of the largest variance, then their negatives, then zeros.

    Returns:
        float32 (size, size, channels, filters).
    """
    patches = np.lib.stride_tricks.sliding_window_view(images, (size, size), axis=(1, 2))
    patches = patches.transpose(0, 1, 2, 4, 5, 3).reshape(-1, size * size * images.shape[-1])
    variances, directions = np.linalg.eigh(patches.T @ patches / len(patches))
    largest = (directions / np.sqrt(variances + LEAST_VARIANCE))[:, ::-1][:, : -(-filters // 2)]
    both = np.concatenate([largest, -largest], axis=1)[:, :filters]
    both = np.pad(both, ((0, 0), (0, filters - both.shape[1])))
    return both.reshape(size, size, images.shape[-1], filters).astype("float32")
