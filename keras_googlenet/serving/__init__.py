"""From a trained network to predictions: SavedModel export, the preview of TensorFlow Serving, clients.

The names below load their modules when first used: a client over REST needs no TensorFlow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_googlenet.serving.client.client import Client, Prediction, ServingError, VersionStatus

__all__ = ["Client", "Prediction", "ServingError", "VersionStatus"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from keras_googlenet.serving.client import client

    return getattr(client, name)
