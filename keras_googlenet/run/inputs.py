"""A run's inputs: its images, and the preprocessing of its network."""

from __future__ import annotations

from dataclasses import replace

from keras_googlenet.data.parts import ImageData
from keras_googlenet.data.sources import check_data, load_data
from keras_googlenet.images.spec import WHITE, Preprocessing
from keras_googlenet.run import folder
from keras_googlenet.run.config import RunConfig
from keras_googlenet.weights.published import imagenet_spec
from keras_googlenet.weights.shipped import located


def open_data(config: RunConfig) -> ImageData:
    """A run's images, in its split.

    Raises:
        UserError: The options name no images, or they cannot be used.
    """
    return load_data(
        check_data(config.data),
        validation_fraction=config.validation_fraction,
        seed=config.seed,
        test_split=config.test_split,
        classes=config.classes,
        tfds_manual_dir=config.tfds_manual_dir,
        skip_corrupt=config.skip_corrupt,
        group_duplicates=config.group_duplicates,
        groups=config.groups,
    )


def run_preprocessing(config: RunConfig, data: ImageData) -> Preprocessing:
    """The preprocessing of the weights to start from, at the run's size and channels."""
    size = config.image_size or data.image_size
    channels = config.channels or data.channels
    base = Preprocessing(size, size, channels)
    if config.weights == "imagenet":
        base = imagenet_spec(config.variant, aux_heads=config.aux_heads).preprocessing
    elif config.weights is not None and located(config.weights).is_dir():
        base = folder.load_preprocessing(located(config.weights))
    return replace(base, height=size, width=size, channels=channels, orientation="exif", background=WHITE)
