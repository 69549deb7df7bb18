"""A SavedModel loaded the way TensorFlow Serving loads it. Needs TensorFlow alone, no Keras."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_googlenet.errors import UserError


class SavedModelSession:
    """A version folder in a session: its signatures by name, and a way to run them.

    Args:
        folder: The version folder.

    Attributes:
        signatures: `SignatureDef` protos by signature name.

    Raises:
        UserError: The folder holds no SavedModel, or a broken one.
    """

    def __init__(self, folder: Path) -> None:
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        loader = tf.compat.v1.saved_model.loader
        try:
            meta_graph = loader.load(self._session, ["serve"], str(folder))
        except (OSError, RuntimeError, ValueError, tf.errors.OpError) as error:
            self._session.close()
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"cannot load {folder}: {reason}; export the model again") from None
        self.signatures: dict[str, Any] = {
            name: signature
            for name, signature in meta_graph.signature_def.items()
            if name != "__saved_model_init_op"
        }

    def run(self, signature_name: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Run a signature.

        Args:
            signature_name: One of `signatures`.
            inputs: A value for each of the signature's inputs, of the dtype that it declares: the
                session would cast any other in silence.

        Returns:
            Arrays by output name.

        Raises:
            tf.errors.OpError: The graph refuses the values.
        """
        signature = self.signatures[signature_name]
        fetches = {name: info.name for name, info in signature.outputs.items()}
        feeds = {signature.inputs[name].name: value for name, value in inputs.items()}
        try:
            return self._session.run(fetches, feeds)
        except ValueError as error:  # Python's session compares shapes before the graph does
            raise tf.errors.InvalidArgumentError(None, None, str(error)) from None

    def close(self) -> None:
        """Free the session's resources."""
        self._session.close()
