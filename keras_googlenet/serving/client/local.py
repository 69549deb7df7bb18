"""A model in this process: TensorFlow's loader over a SavedModel, without Keras."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from keras_googlenet.serving.client.retries import ServingError
from keras_googlenet.serving.session import SavedModelSession
from keras_googlenet.serving.versions import version_folder

if TYPE_CHECKING:
    from keras_googlenet.serving.client.answers import Run


def local_model(path: Path) -> Run:
    """Load a version folder, or the highest version in a model's directory, to be asked."""
    session = SavedModelSession(version_folder(path))

    def run(signature: str, encoded: Sequence[bytes]) -> dict[str, np.ndarray]:
        try:
            outputs = session.run(signature, {"images": np.array(encoded, dtype=object)})
        except tf.errors.InvalidArgumentError as error:
            raise ServingError("INVALID_ARGUMENT", error.message) from None
        return outputs | {"classes": np.char.decode(outputs["classes"].astype(bytes), errors="replace")}

    return run
