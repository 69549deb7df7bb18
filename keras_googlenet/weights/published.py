"""The published weights, a row each. Imports no framework: the command line lists it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from keras_googlenet.errors import UserError
from keras_googlenet.images.spec import Preprocessing


@dataclass(frozen=True)
class WeightsSpec:
    """A published file of weights.

    Attributes:
        name: What `keras-googlenet weights` calls it.
        variant: The network that it fits.
        source: Its naming of tensors: a key of `convert.SOURCES`.
        file: The file's name.
        address: Where it is published.
        size: Bytes; `None` where no exact figure is published.
        sha256: SHA-256 of the file in hexadecimal, or the published beginning of it.
        license: As its publisher states it.
        top1: Published accuracy on ImageNet's validation images, percent, one crop.
        top5: The same, among the best five.
        classes: Number of classes of its classifiers.
        aux_heads: Whether it holds auxiliary heads.
        preprocessing: What its network expects.
    """

    name: str
    variant: str
    source: str
    file: str
    address: str
    size: int | None
    sha256: str
    license: str
    top1: float
    top5: float
    classes: int
    aux_heads: bool
    preprocessing: Preprocessing


# Caffe: the whole image to 256 x 256, center crop of 224, BGR less the mean.
CAFFE = Preprocessing(
    224,
    224,
    mean=(104.0, 117.0, 123.0),
    scale=1.0,
    channel_order="bgr",
    crop_fraction=0.875,
    orientation="stored",
    background=None,
)
# TF-Slim: the central 0.875 of the image to 224 x 224, -1..1.
SLIM = Preprocessing(224, 224, crop_fraction=0.875, orientation="stored", background=None)
# torchvision: shorter side to 256, center crop of 224; its transform_input ends in -1..1.
TORCHVISION = Preprocessing(
    224, 224, crop_fraction=0.875, keep_aspect=True, orientation="stored", background=None
)

WEIGHTS = {
    spec.name: spec
    for spec in (
        WeightsSpec(
            name="bvlc",
            variant="paper",
            source="onnx",
            file="googlenet-12.onnx",
            address="https://github.com/onnx/models/raw/main/validated/vision/classification/"
            "inception_and_googlenet/googlenet/model/googlenet-12.onnx",
            size=28_021_836,
            sha256="c99c507058eaf41de8723408fdda7db8325cb57f0a89f2ee07a716d6e963e14e",
            license="unrestricted (BVLC)",
            top1=67.78,
            top5=88.34,
            classes=1000,
            aux_heads=False,
            preprocessing=CAFFE,
        ),
        WeightsSpec(
            name="bvlc_caffe",
            variant="paper",
            source="caffe",
            file="bvlc_googlenet.caffemodel",
            address="http://dl.caffe.berkeleyvision.org/bvlc_googlenet.caffemodel",
            size=53_533_754,
            sha256="6f7101e3a2183738a7125a0c5021ba82a1feb4228c5ca0924d991b6daf6f6fad",
            license="unrestricted (BVLC)",
            top1=68.7,
            top5=88.9,
            classes=1000,
            aux_heads=True,
            preprocessing=CAFFE,
        ),
        WeightsSpec(
            name="torchvision",
            variant="torchvision",
            source="torchvision",
            file="googlenet-1378be20.pth",
            address="https://download.pytorch.org/models/googlenet-1378be20.pth",
            size=None,
            sha256="1378be20",
            license="BSD-3-Clause (torchvision)",
            top1=69.778,
            top5=89.530,
            classes=1000,
            aux_heads=True,  # their tensors are in the file, but were not trained
            preprocessing=TORCHVISION,
        ),
        WeightsSpec(
            name="slim",
            variant="slim",
            source="slim",
            file="inception_v1_2016_08_28.tar.gz",
            address="http://download.tensorflow.org/models/inception_v1_2016_08_28.tar.gz",
            size=24_642_554,
            sha256="7a620c430fcaba8f8f716241f5148c4c47c035cce4e49ef02cfbe6cd1adf96a6",
            license="Apache-2.0 (TensorFlow)",
            top1=69.8,
            top5=89.6,
            classes=1001,  # class 0 is the background
            aux_heads=False,
            preprocessing=SLIM,
        ),
    )
}


def imagenet_spec(variant: str, *, aux_heads: bool) -> WeightsSpec:
    """The weights that `weights="imagenet"` means for a variant.

    For the paper's network these are BVLC's: the original file if auxiliary heads are wanted, because it has
    their weights, otherwise the smaller ONNX file.

    Raises:
        UserError: None are published for the variant.
    """
    specs = [spec for spec in WEIGHTS.values() if spec.variant == variant]
    if not specs:
        known = sorted({spec.variant for spec in WEIGHTS.values()})
        raise UserError(f"no ImageNet weights are published for variant {variant!r}: there are for {known}")
    return next((spec for spec in specs if spec.aux_heads == aux_heads), specs[0])


def spec_of_file(file: Path, variant: str) -> WeightsSpec:
    """The row whose format a file of a variant's weights has, found by its suffix.

    Raises:
        UserError: There is none.
    """
    specs = [spec for spec in WEIGHTS.values() if spec.variant == variant]
    suffixes = {Path(spec.file).suffix: spec for spec in specs}
    if file.suffix in suffixes:
        return suffixes[file.suffix]
    if len(specs) == 1 and specs[0].source == "slim":  # a checkpoint is named as one likes
        return specs[0]
    known = ", ".join(f"{Path(s.file).suffix} for {s.variant}" for s in WEIGHTS.values())
    raise UserError(f"cannot convert {file} for variant {variant!r}: there are converters of {known}")
