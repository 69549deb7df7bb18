"""The one definition of how pixels become the network's input.

Training, evaluation, the exported graph and `preprocess_input` all use it. Nothing here imports
TensorFlow; `keras_googlenet.data.images` holds its decoding and resizing for tf.data and for the
exported graph.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from keras_googlenet.errors import UserError


@dataclass(frozen=True)
class Preprocessing:
    """From an encoded image to the network's input.

    JPEG or PNG is decoded to 8-bit RGB (to its luma where `channels` is 1), resized as a whole to
    `height` x `width` pixels (bilinear, antialiased where it shrinks) and scaled:
    `(pixel - mean) * scale`.
    """

    height: int
    width: int
    channels: int = 3
    mean: float = 127.5
    scale: float = 1 / 127.5

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise UserError(f"expected images of 1 or 3 channels, received {self.channels}")

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Preprocessing:
        """The inverse of `to_dict`."""
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return asdict(self)

    def normalize(self, pixels: Any) -> Any:
        """Float pixels in 0..255, of any framework's array type, to the network's range."""
        return (pixels - self.mean) * self.scale


def preprocess_input(images: Any) -> Any:
    """Scale pixels in 0..255 to -1..1, the range that training and export use.

    Args:
        images: Array or tensor of any shape. NumPy integers become float32. Never changed in place.

    Returns:
        The scaled images, of the same shape.
    """
    if isinstance(images, np.ndarray) and not np.issubdtype(images.dtype, np.floating):
        images = images.astype("float32")
    return Preprocessing(height=1, width=1).normalize(images)
