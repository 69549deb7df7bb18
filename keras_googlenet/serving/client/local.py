"""A model in this process: TensorFlow's loader over a SavedModel, without Keras."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.types_pb2 import DT_STRING
from tensorflow.core.protobuf import error_codes_pb2

from keras_googlenet.errors import UserError
from keras_googlenet.serving.client.retries import ServingError
from keras_googlenet.session import SavedModelSession
from keras_googlenet.versions import version_folder

if TYPE_CHECKING:
    from keras_googlenet.serving.client.answers import Run

OUTPUTS = {"probabilities", "classes", "scores"}
EXPECTED = "expected a model that `export` wrote, which takes encoded images"


def local_model(path: Path) -> Run:
    """Load a version folder, or the highest version in a model's directory.

    Raises:
        UserError: There is no SavedModel, or it is not from this package.
    """
    session = SavedModelSession(version_folder(path))
    signature = session.signatures.get("serving_default")
    if signature is None:
        raise UserError(f"{path} has no signature `serving_default`: {EXPECTED}")
    inputs, outputs = dict(signature.inputs), dict(signature.outputs)
    encoded_images = list(inputs) == ["images"] and inputs["images"].dtype == DT_STRING
    if not encoded_images or not set(outputs) >= OUTPUTS:
        raise UserError(
            f"{path} takes {', '.join(sorted(inputs))} and gives {', '.join(sorted(outputs))}: {EXPECTED}"
        )

    def run(signature: str, encoded: Sequence[bytes]) -> dict[str, np.ndarray]:
        try:
            outputs = session.run(signature, {"images": np.array(encoded, dtype=object)})
        except tf.errors.OpError as error:
            raise ServingError(error_codes_pb2.Code.Name(error.error_code), error.message) from None
        return outputs | {"classes": np.char.decode(outputs["classes"].astype(bytes), errors="replace")}

    return run
