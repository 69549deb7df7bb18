"""The networks that GoogLeNet is compared with: `NiN()`, `AlexNet()` and `VGG11()`.

Each is rows of data like those of `architecture.py`, so its convolutions, paddings and errors are those of
`GoogLeNet()`. Initialization is Xavier with biases of 0 and dropout 0.5, as in Zhang et al., "Dive into Deep
Learning", which compares the three with GoogLeNet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from keras_googlenet.names import MAIN
from keras_googlenet.network.architecture import Architecture, Conv, MaxPool, Stage
from keras_googlenet.network.googlenet import GoogLeNet
from keras_googlenet.network.layers import apply_stage, channel_axis, classifier

Tensor = Any  # a KerasTensor; Keras has no type stubs

DROPOUT = 0.5


def nin_block(number: int, filters: int, kernel: int, stride: int = 1, padding: int = 0) -> tuple[Conv, ...]:
    """A convolution and two 1x1 convolutions of as many channels: a small network at every pixel."""
    return (
        Conv(f"nin{number}_{kernel}x{kernel}", filters, kernel, stride, padding),
        Conv(f"nin{number}_1x1_a", filters, kernel=1),
        Conv(f"nin{number}_1x1_b", filters, kernel=1),
    )


def pool(number: int, size: int = 3) -> MaxPool:
    """A max pool of stride 2 without padding, rounded down."""
    return MaxPool(f"pool{number}", size, padding=0)


@dataclass(frozen=True)
class NiNVariant:
    """A Network in Network up to its last block, whose channels are the classes."""

    side: int  # of its images, in pixels
    channels: int
    stages: tuple[Stage, ...]


# Lin et al., "Network in Network" (arXiv 1312.4400); the sizes for ImageNet are Dive into Deep Learning's
NIN_IMAGENET = NiNVariant(
    224,
    3,
    (
        *nin_block(1, 96, kernel=11, stride=4),  # 54 x 54 x 96
        pool(1),  # 26 x 26 x 96
        *nin_block(2, 256, kernel=5, padding=2),  # 26 x 26 x 256
        pool(2),  # 12 x 12 x 256
        *nin_block(3, 384, kernel=3, padding=1),  # 12 x 12 x 384
        pool(3),  # 5 x 5 x 384
    ),
)

# Dive into Deep Learning, older edition, for Fashion-MNIST; after block 3 no pixels are left to pool
NIN_D2L = NiNVariant(
    28,
    1,
    (
        *nin_block(1, 24, kernel=3),  # 26 x 26 x 24
        pool(1),  # 12 x 12 x 24
        *nin_block(2, 64, kernel=3, stride=2, padding=2),  # 7 x 7 x 64
        pool(2),  # 3 x 3 x 64
        *nin_block(3, 96, kernel=4, stride=2, padding=1),  # 1 x 1 x 96
    ),
)

NIN_VARIANTS = {"imagenet": NIN_IMAGENET, "d2l": NIN_D2L}

# Krizhevsky et al. (2012), in one column and without local response normalization. At 224 pixels the first
# convolution is padded by 2, as in torchvision: 55 x 55, what 227 pixels give without padding.
ALEXNET = (
    Conv("conv1_11x11_s4", 96, kernel=11, stride=4, padding=2),  # 55 x 55 x 96
    pool(1),  # 27 x 27 x 96
    Conv("conv2_5x5", 256, kernel=5, padding=2),  # 27 x 27 x 256
    pool(2),  # 13 x 13 x 256
    Conv("conv3_3x3", 384, kernel=3, padding=1),  # 13 x 13 x 384
    Conv("conv4_3x3", 384, kernel=3, padding=1),
    Conv("conv5_3x3", 256, kernel=3, padding=1),  # 13 x 13 x 256
    pool(5),  # 6 x 6 x 256
)

# Simonyan and Zisserman, arXiv 1409.1556, configuration A
VGG_11 = (
    Conv("conv1_1", 64, kernel=3, padding=1),  # 224 x 224 x 64
    pool(1, size=2),
    Conv("conv2_1", 128, kernel=3, padding=1),  # 112 x 112 x 128
    pool(2, size=2),
    Conv("conv3_1", 256, kernel=3, padding=1),  # 56 x 56 x 256
    Conv("conv3_2", 256, kernel=3, padding=1),
    pool(3, size=2),
    Conv("conv4_1", 512, kernel=3, padding=1),  # 28 x 28 x 512
    Conv("conv4_2", 512, kernel=3, padding=1),
    pool(4, size=2),
    Conv("conv5_1", 512, kernel=3, padding=1),  # 14 x 14 x 512
    Conv("conv5_2", 512, kernel=3, padding=1),
    pool(5, size=2),  # 7 x 7 x 512
)

UNITS = 4096  # of the two hidden fully connected layers, of AlexNet and VGG alike


def NiN(  # noqa: N802 (Keras names its applications like classes)
    classes: int = 1000,
    input_shape: tuple[int | None, ...] | None = None,
    *,
    variant: str = "imagenet",
    classifier_activation: str | None = "softmax",
    dropout: float = DROPOUT,
    name: str = "nin",
) -> keras.Model:
    """Network in Network: only convolutions, and a global average of the last one per class.

    Source: Lin et al., "Network in Network" (arXiv 1312.4400), as Dive into Deep Learning has it.

    Args:
        classes: Number of classes, and of the last block's channels.
        input_shape: `(height, width, channels)` (channels first under that data format); height and
            width may be `None`. Defaults to the variant's: 224 x 224 x 3, or 28 x 28 x 1 for `"d2l"`.
        variant: `"imagenet"`, or `"d2l"`, the small one for Fashion-MNIST.
        classifier_activation: Activation of the output; `None` for logits, which a ReLU keeps at 0 or more.
        dropout: Rate before the last block.
        name: The model's name.

    Returns:
        A model from `(batch, height, width, channels)` to `(batch, classes)`.

    Raises:
        ValueError: An argument is not as above, or the input is too small for the geometry.
    """
    if variant not in NIN_VARIANTS:
        raise ValueError(
            f"The `variant` argument should be one of {sorted(NIN_VARIANTS)}. Received: variant={variant!r}"
        )
    spec = NIN_VARIANTS[variant]
    architecture = _architecture(name, spec.stages)
    features = _features(architecture, input_shape or image_shape(spec.side, spec.channels), classes, dropout)
    x = layers.Dropout(dropout, name=f"{MAIN}_dropout")(features.output)
    for stage in nin_block(4, classes, kernel=3, padding=1):
        x = apply_stage(x, stage, architecture)
    x = layers.GlobalAveragePooling2D(dtype="float32", name="avg_pool")(x)
    # Like GoogLeNet's classifier: in half precision a softmax loses the small probabilities.
    x = layers.Activation(classifier_activation or "linear", dtype="float32", name=MAIN)(x)
    return keras.Model(features.input, x, name=name)


def AlexNet(  # noqa: N802
    classes: int = 1000,
    input_shape: tuple[int, ...] | None = None,
    *,
    classifier_activation: str | None = "softmax",
    dropout: float = DROPOUT,
    name: str = "alexnet",
) -> keras.Model:
    """AlexNet in one column: five convolutions and three fully connected layers.

    Source: Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks" (2012),
    without the two columns and local response normalization; the first convolution is padded by 2.

    Args:
        classes: Number of classes.
        input_shape: `(height, width, channels)` (channels first under that data format), known. Defaults
            to 224 x 224 x 3.
        classifier_activation: Activation of the output; `None` for logits.
        dropout: Rate after each of the two hidden fully connected layers.
        name: The model's name.

    Returns:
        A model from `(batch, height, width, channels)` to `(batch, classes)`.

    Raises:
        ValueError: An argument is not as above, or the input is too small for the geometry.
    """
    return _with_dense_layers(name, ALEXNET, classes, input_shape, classifier_activation, dropout)


def VGG11(  # noqa: N802
    classes: int = 1000,
    input_shape: tuple[int, ...] | None = None,
    *,
    classifier_activation: str | None = "softmax",
    dropout: float = DROPOUT,
    name: str = "vgg11",
) -> keras.Model:
    """VGG-11: eight convolutions of 3x3 and three fully connected layers.

    Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition"
    (arXiv 1409.1556), Table 1, configuration A.

    Args, result and errors are those of `AlexNet`.
    """
    return _with_dense_layers(name, VGG_11, classes, input_shape, classifier_activation, dropout)


def image_shape(side: int, channels: int) -> tuple[int, int, int]:
    """The shape of a square image under Keras's current data format."""
    return (side, side, channels) if channel_axis() == -1 else (channels, side, side)


def _architecture(name: str, stages: tuple[Stage, ...]) -> Architecture:
    return Architecture(
        name,
        "for comparison",
        stages,
        kernel_initializer="glorot_uniform",
        bias_initializer=0.0,
    )


def _features(
    architecture: Architecture, shape: tuple[int | None, ...], classes: int, dropout: float
) -> keras.Model:
    """The architecture's rows as a model; `GoogLeNet()` checks all the arguments."""
    return GoogLeNet(
        include_top=False, input_shape=shape, classes=classes, variant=architecture, dropout=dropout
    )


def _with_dense_layers(
    name: str,
    stages: tuple[Stage, ...],
    classes: int,
    input_shape: tuple[int, ...] | None,
    activation: str | None,
    dropout: float,
) -> keras.Model:
    if input_shape is not None and None in input_shape:
        raise ValueError(
            "The `input_shape` argument should be known in full, for fully connected layers follow the "
            f"convolutions. Received: input_shape={input_shape}"
        )
    architecture = _architecture(name, stages)
    features = _features(architecture, input_shape or image_shape(224, 3), classes, dropout)
    x = layers.Flatten(name="flatten")(features.output)
    x = layers.Dense(UNITS, "relu", kernel_initializer=architecture.kernel_initializer, name="fc6")(x)
    x = layers.Dropout(dropout, name="fc6_dropout")(x)
    x = layers.Dense(UNITS, "relu", kernel_initializer=architecture.kernel_initializer, name="fc7")(x)
    x = classifier(x, MAIN, classes, dropout, activation, architecture)
    return keras.Model(features.input, x, name=name)
