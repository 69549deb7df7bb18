"""One version of a model: load it, warm it up, run it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_googlenet.errors import UserError
from keras_googlenet.serving.preview import bounds, messages
from keras_googlenet.serving.preview.batching import BatchQueue, BatchScheduler
from keras_googlenet.serving.preview.errors import LOADING_CODES, StatusError
from keras_googlenet.serving.preview.inference import Arrays
from keras_googlenet.session import SavedModelSession, warmup_records


class Servable:
    """A loaded version, warm.

    Args:
        number: The version's number.
        folder: The version's folder.
        scheduler: Batches the requests of each signature.
        timeout_ms: Milliseconds that a request may run, and wait for its batch; 0 for no bound.
        max_rows: Rows that a request may have; `None` for no bounds.

    Attributes:
        max_rows: The same, once the warm-up is over: its records come with the model and are trusted.
        signature_defs: All `SignatureDef` protos of the SavedModel by name.
        signatures: Those that can be run.
        warmup_records: How many warm-up records it has run.

    Raises:
        StatusError: It does not load, or a warm-up record fails.
    """

    def __init__(
        self,
        number: int,
        folder: Path,
        scheduler: BatchScheduler | None = None,
        timeout_ms: int = 0,
        max_rows: int | None = None,
    ) -> None:
        self._scheduler, self._timeout_ms = scheduler, timeout_ms
        self.max_rows: int | None = None
        self._queues: dict[tuple[str, tuple[str, ...]], BatchQueue] = {}
        try:
            self._session = SavedModelSession(folder, timeout_ms)
        except UserError as error:
            raise StatusError.of(error.__cause__ or error, LOADING_CODES) from None
        self.signature_defs: Mapping[str, Any] = self._session.signature_defs
        self.signatures: Mapping[str, Any] = self._session.signatures
        try:
            self.warmup_records = 0
            for log in warmup_records(folder):
                messages.answer(self, number, log)
                self.warmup_records += 1
        except Exception as error:
            self.close()
            raise StatusError.of(error, LOADING_CODES) from None
        self.max_rows = max_rows

    def run(self, signature_name: str, inputs: Arrays, outputs: Sequence[str] | None = None) -> Arrays:
        """Run a signature, as `SavedModelSession.run`, alone or in a batch.

        Raises:
            StatusError: A shape does not fit the signature: refused before it can fail a batch of others.
        """
        for name, info in self.signatures[signature_name].inputs.items():
            bounds.check_shape(name, np.shape(inputs[name]), info)
        if self._scheduler is None:
            return self._session.run(signature_name, inputs, outputs)
        names = tuple(sorted(self.signatures[signature_name].outputs) if outputs is None else outputs)
        queue = self._queues.get((signature_name, names))
        if queue is None:
            made = BatchQueue(
                self._scheduler,
                lambda merged: self._session.run(signature_name, merged, names),
                self._timeout_ms,
            )
            queue = self._queues.setdefault((signature_name, names), made)
        return queue.run(inputs)

    def close(self) -> None:
        """Free what the version holds."""
        self._session.close()
