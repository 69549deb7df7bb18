"""The one definition of how pixels become the network's input.

Training, evaluation, the exported graph and `preprocess_input` all use it. Imports no TensorFlow:
`keras_googlenet.images.tensorflow` decodes and resizes for tf.data and for the exported graph.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from keras_googlenet.errors import UserError

MAX_PIXELS = 50_000_000  # of an image in training; its header is read before it is decoded
SERVED_PIXELS = 16_000_000  # of a served image by default: four batches at a time then take less than 1 GiB
MAX_SIDE = 65_535  # pixels; JPEG's own maximum. A longer PNG would take much memory to resize.
MAX_SCANS = 50  # of a JPEG; encoders write about 10. Each one costs a pass over all coefficients,
LARGEST_SCANS = 20  # so that an image of the most pixels may have this many, and smaller ones more
JPEG_MAGIC = b"\xff\xd8\xff"
JPEG_SCAN = b"\xff\xda\0"  # how each scan starts: the marker, and the high byte of a length of 14 at most
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
PNG_HEADER = PNG_MAGIC + b"\0\0\0\x0dIHDR"  # then width and height, big-endian uint32
PNG_DEPTH, PNG_COLOR_TYPE = 24, 25  # their places in the file
BMP_MAGIC = b"BM"
GIF_MAGICS = (b"GIF87a", b"GIF89a")
RIFF, WEBP = b"RIFF", b"WEBP"  # bytes 0 to 4 and 8 to 12 of a WebP
WHITE = 255  # what transparent pixels are composed on
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in JPEG and OpenCV
Region = tuple[float, float, float, float]
"""Of an image: top, left, bottom and right as fractions of its height and width."""


@dataclass(frozen=True)
class Preprocessing:
    """From an encoded image to the network's input.

    An image file is decoded to 8-bit RGB, or to its luma if `channels` is 1. Transparent pixels are composed
    on gray of the level `background`; if that is `None`, they keep their color. The image is turned upright
    by its EXIF orientation, unless `orientation` is `"stored"`. It is resized (bilinear, antialiased where it
    shrinks) to `height` x `width` divided by `crop_fraction`, and its center of `height` x `width` is kept.
    With `keep_aspect` it keeps its aspect ratio and just covers that size. Finally its channels are put in
    `channel_order` and scaled: `(pixel - mean) * scale`, where `mean` is one number or one per channel in
    that order.
    """

    height: int
    width: int
    channels: int = 3
    mean: float | tuple[float, ...] = 127.5
    scale: float = 1 / 127.5
    channel_order: Literal["rgb", "bgr"] = "rgb"
    crop_fraction: float = 1.0
    keep_aspect: bool = False
    orientation: Literal["exif", "stored"] = "exif"
    background: int | None = WHITE

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise UserError(f"expected images of 1 or 3 channels, received {self.channels}")
        if not isinstance(self.mean, int | float):
            object.__setattr__(self, "mean", tuple(self.mean))  # JSON has lists alone
            if len(self.mean) != self.channels:
                raise UserError(f"expected a mean for each of {self.channels} channels, received {self.mean}")
        if not 0 < self.crop_fraction <= 1:
            raise UserError(f"expected a crop_fraction above 0 and up to 1, received {self.crop_fraction}")
        if self.orientation not in ("exif", "stored"):
            raise UserError(f"expected an orientation of exif or stored, received {self.orientation}")
        if self.background is not None and self.background not in range(256):
            raise UserError(f"expected a background from 0 to 255, or none, received {self.background}")

    @property
    def turns(self) -> bool:
        """Whether an image is turned upright by its EXIF orientation."""
        return self.orientation == "exif"

    @property
    def resized(self) -> tuple[int, int]:
        """Height and width that an image is resized to, before the center is cropped."""
        return round(self.height / self.crop_fraction), round(self.width / self.crop_fraction)

    def window(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """The part of an upright image of this size that is kept.

        Returns:
            The height and width that the image is resized to, and the top and left of the kept part in it.
        """
        target = self.resized
        if self.keep_aspect:
            scale = max(target[0] / height, target[1] / width)
            target = (
                max(target[0], int(np.rint(height * scale))),
                max(target[1], int(np.rint(width * scale))),
            )
        return target, ((target[0] - self.height) // 2, (target[1] - self.width) // 2)

    def region(self, height: int, width: int) -> Region:
        """The region of an upright image of this size that the network sees."""
        (rows, columns), (top, left) = self.window(height, width)
        return top / rows, left / columns, (top + self.height) / rows, (left + self.width) / columns

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Preprocessing:
        """The inverse of `to_dict`; a missing field, of an earlier version, gets that version's behavior."""
        return cls(**{"orientation": "stored", "background": None} | fields)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return asdict(self)

    def normalize(self, pixels: Any) -> Any:
        """Float RGB pixels in 0..255, of any framework's array type, to the network's range."""
        if self.channel_order == "bgr":
            pixels = pixels[..., ::-1]
        mean = self.mean if isinstance(self.mean, int | float) else np.asarray(self.mean, "float32")
        return (pixels - mean) * self.scale
