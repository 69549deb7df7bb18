"""The named networks, each with its source. All have the channels of Table 1.

Facts that no published text states (padding, rounding) were read from the named implementation.
"""

from __future__ import annotations

from dataclasses import replace

from keras_googlenet.network.architecture import (
    TABLE_1,
    Architecture,
    AuxiliaryHead,
    Conv,
    Inception,
    LocalResponseNorm,
    MaxPool,
    Padding,
    Stage,
)

AUXILIARY_HEADS = (AuxiliaryHead("aux1", "4a"), AuxiliaryHead("aux2", "4d"))


def stem(conv1: Padding = 3, pools: Padding = "ceil", *, lrn: bool = False) -> tuple[Stage, ...]:
    """The paper's stem: 224 x 224 x 3 to 28 x 28 x 192."""
    stages: tuple[Stage, ...] = (
        Conv("conv1_7x7_s2", 64, kernel=7, stride=2, padding=conv1),  # 112 x 112 x 64
        MaxPool("pool1_3x3_s2", padding=pools),  # 56 x 56 x 64
        LocalResponseNorm("pool1_norm1"),
        Conv("conv2_3x3_reduce", 64, kernel=1),
        Conv("conv2_3x3", 192, kernel=3, padding=1),  # 56 x 56 x 192
        LocalResponseNorm("conv2_norm2"),
        MaxPool("pool2_3x3_s2", padding=pools),  # 28 x 28 x 192
    )
    return tuple(stage for stage in stages if lrn or not isinstance(stage, LocalResponseNorm))


def body(pool3: MaxPool | None = None, pool4: MaxPool | None = None) -> tuple[Stage, ...]:
    """Table 1's blocks: 28 x 28 x 192 to 7 x 7 x 1024."""
    pool3 = pool3 or MaxPool("pool3_3x3_s2")
    pool4 = pool4 or MaxPool("pool4_3x3_s2")
    return (*TABLE_1[:2], pool3, *TABLE_1[2:7], pool4, *TABLE_1[7:])


def pools(padding: Padding) -> tuple[MaxPool, MaxPool]:
    """3x3/2 pools before 4a and 5a."""
    return MaxPool("pool3_3x3_s2", padding=padding), MaxPool("pool4_3x3_s2", padding=padding)


PAPER = Architecture(
    "paper",
    "the paper's, in the geometry of the BVLC reference: local response normalization, biases, real 5x5",
    stages=stem(lrn=True) + body(),
    auxiliary_heads=AUXILIARY_HEADS,
)

BN = replace(
    PAPER,
    name="bn",
    description="the paper's, with batch normalization instead of biases and local response normalization",
    stages=stem() + body(),
    batch_norm=True,
)

# torchvision/models/googlenet.py
TORCHVISION = replace(
    BN,
    name="torchvision",
    description="torchvision's: 3x3 in place of 5x5, pool 4 of 2x2, adaptive pools in the auxiliary heads",
    stages=stem() + body(pool4=MaxPool("pool4_2x2_s2", size=2)),
    auxiliary_heads=tuple(replace(head, adaptive=4) for head in AUXILIARY_HEADS),
    branch_5x5="3x3",
    dropout=0.2,
)

# tensorflow/models research/slim/nets/inception_v1.py
SLIM = replace(
    BN,
    name="slim",
    description="TF-Slim's: 'same' padding, 3x3 in place of 5x5, pool 5a of 2x2, no scale, no heads",
    stages=stem("same", "same")
    + body(MaxPool("pool3_3x3_s2", padding="same"), MaxPool("pool4_2x2_s2", size=2, padding="same")),
    auxiliary_heads=(),
    batch_norm_scale=False,
    branch_5x5="3x3",
    dropout=0.2,
)

# Zhang et al., Dive into Deep Learning, "Multi-Branch Networks (GoogLeNet)"
D2L = Architecture(
    "d2l",
    "Dive into Deep Learning's: every pool padded by 1, no normalization, no dropout, no auxiliary heads",
    stages=stem(pools=1) + body(*pools(1)),
    dropout=0.0,
    kernel_initializer="glorot_uniform",
    bias_initializer=0.0,
)

# The Keras listing that many blogs copy (CIFAR-10 enlarged to 224)
LISTING = Architecture(
    "listing",
    "the Keras listing's: 'same' padding, 3x3 in place of 5x5, no normalization, dropout 0.4 in every head",
    stages=stem("same", "same") + body(*pools("same")),
    auxiliary_heads=AUXILIARY_HEADS,
    branch_5x5="3x3",
    aux_dropout=0.4,
    kernel_initializer="glorot_uniform",
)

# A lecture's slides (PyTorch, two classes, inputs of about 32 pixels)
SLIDES = Architecture(
    "slides",
    "a slide deck's, for images of 32 pixels: stride 1, no reduction in the stem, small auxiliary heads",
    stages=(
        Conv("conv1_7x7", 64, kernel=7, padding=1),  # 28 x 28 x 64 from 32 x 32
        MaxPool("pool1_3x3_s2", padding=1),  # 14 x 14 x 64
        Conv("conv2_3x3", 192, kernel=3, padding=1),  # 14 x 14 x 192
        MaxPool("pool2_3x3_s2", padding=1),  # 7 x 7 x 192
        *body(*pools(1)),
    ),
    auxiliary_heads=tuple(
        replace(head, pool=2, stride=2, units=256, batch_norm=True, drop_features=True)
        for head in AUXILIARY_HEADS
    ),
    aux_dropout=0.5,
    kernel_initializer="glorot_uniform",
    bias_initializer=0.0,
    input_size=32,
)

NAIVE = replace(
    BN,
    name="naive",
    description="the paper's Figure 2(a) with batch normalization: no reductions",
    reductions=False,
)

# Szegedy et al., "Rethinking the Inception Architecture", section 3.1
V2 = replace(
    BN,
    name="v2",
    description="bn with the 5x5 convolutions factorised into two 3x3",
    branch_5x5="two_3x3",
)

RESIDUAL = replace(
    BN,
    name="residual",
    description="bn with a projected shortcut round each block",
    residual=True,
)

SMALL_IMAGES = replace(
    BN,
    name="small_images",
    description="bn for images of 32 pixels: one 3x3 convolution as the stem, which keeps the resolution",
    stages=(Conv("conv1_3x3", 192, kernel=3, padding=1), *body()),  # 32 x 32 x 192
    input_size=32,
)

LIGHT_STEM = replace(
    BN,
    name="light_stem",
    description="bn for images of 28 to 64 pixels: a stem of two 3x3 convolutions and one pool",
    stages=(
        Conv("conv1_3x3", 64, kernel=3, padding=1),  # 28 x 28 x 64 from 28 x 28
        MaxPool("pool1_3x3_s2"),  # 14 x 14 x 64
        Conv("conv2_3x3", 192, kernel=3, padding=1),  # 14 x 14 x 192
        *body(),
    ),
    input_size=32,
)

# Small images, little time: blocks at the higher layers only, as the paper has them (section 4); the
# rest of Jordan, arXiv 2404.00498. The 3x3 branches are wide: they learn most.
SHORT = Architecture(
    name="short",
    description="bn in three wide blocks for images of 28 to 40 pixels, with a max pool at the end",
    stages=(
        Conv("conv1_2x2", 24, kernel=2),  # 31 x 31 x 24 from 32 x 32; as many as whitening can use
        Conv("conv2_3x3", 64, kernel=3, padding=1),
        MaxPool("pool2_2x2_s2", size=2, padding=0),  # 15 x 15 x 64
        Conv("conv3a_3x3", 64, kernel=3, padding=1),
        Conv("conv3b_3x3", 320, kernel=3, padding=1),
        MaxPool("pool3_2x2_s2", size=2, padding=0),  # 7 x 7 x 320
        Inception("4a", 80, 160, 320, 48, 80, 48),
        Inception("4b", 80, 160, 320, 48, 80, 48),
        MaxPool("pool4_2x2_s2", size=2, padding=0),  # 3 x 3 x 528
        Inception("5a", 128, 224, 448, 48, 96, 96),
    ),
    batch_norm=True,
    batch_norm_scale=False,
    branch_5x5="3x3",
    head_pool="max",
    dropout=0.0,
    input_size=32,
)

VARIANTS = {
    architecture.name: architecture
    for architecture in (
        PAPER,
        BN,
        TORCHVISION,
        SLIM,
        D2L,
        LISTING,
        SLIDES,
        NAIVE,
        V2,
        RESIDUAL,
        SMALL_IMAGES,
        LIGHT_STEM,
        SHORT,
    )
}


def architecture_of(variant: str | Architecture) -> Architecture:
    """The architecture that a variant's name stands for; an architecture is returned unchanged.

    Raises:
        ValueError: There is no variant of that name.
    """
    if isinstance(variant, Architecture):
        return variant
    if variant not in VARIANTS:
        raise ValueError(
            f"The `variant` argument should be an Architecture or one of {sorted(VARIANTS)}. "
            f"Received: variant={variant!r}"
        )
    return VARIANTS[variant]
