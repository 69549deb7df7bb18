"""Checks in a separate process, without Keras, that an export answers as its model does.

`python -m keras_googlenet.export.verify FOLDER REQUESTS ANSWERS` is that process: it loads the
version as TensorFlow Serving does, replays its warm-up records and answers the requests.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from keras_googlenet.errors import UserError
from keras_googlenet.text import say

# For probabilities; other outputs are compared relative to their largest value. In bfloat16, which has 8
# bits, the order of sums affects the second digit.
TOLERANCES = {"float32": 1e-5, "bfloat16": 5e-2}
Values = dict[str, dict[str, np.ndarray]]  # by signature, then by input or output


def verify(
    folder: Path, requests: Values, expected: Callable[[], Values], *, tolerance: float, records: int
) -> None:
    """Load a version in a fresh process and compare its answers.

    Args:
        folder: The version's.
        requests: For each signature, its inputs.
        expected: Returns the outputs to compare, float or string arrays; called while the process works.
        tolerance: Of a float output: absolute up to 1, relative to its largest value beyond.
        records: Expected number of warm-up records.

    Raises:
        UserError: It does not load, a warm-up record fails, or an answer differs.
    """
    with tempfile.TemporaryDirectory() as temporary:
        files = Path(temporary) / "requests.npz", Path(temporary) / "answers.npz"
        _save(files[0], requests)
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(folder), *map(str, files)],
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            wanted = expected()
            replayed, errors = process.communicate()
        finally:
            process.kill()
            process.wait()
        if process.returncode != 0:
            reason = (errors.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
            raise UserError(f"the export does not load and run, so it is not published: {reason}")
        if int(replayed) != records:
            raise UserError(f"the export has {int(replayed)} warm-up records, expected {records}")
        compare(_load(files[1]), wanted, tolerance)


def _environment() -> dict[str, str]:
    package = str(Path(__file__).parents[2])
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    # On the CPU: a GPU's memory may already be full, and it rounds differently.
    return os.environ | {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}


def compare(answers: Values, expected: Values, tolerance: float) -> None:
    """Refuse answers that differ from those expected, or classes that are not the best.

    Args:
        answers: The export's outputs.
        expected: Outputs to compare, float or string arrays, `labels` among them.
        tolerance: Of a float output: absolute up to 1, relative to its largest value beyond.

    Raises:
        UserError: An answer differs.
    """
    for signature, outputs in expected.items():
        for name, values in outputs.items():
            got = answers[signature][name]
            if values.dtype == object:
                same, difference = np.array_equal(got, values), "other names"
            else:
                scale = max(1.0, float(np.abs(values).max()))
                error = float(np.abs(got - values).max()) / scale if got.shape == values.shape else np.inf
                same, difference = error <= tolerance, f"a difference of {error:.1e}, allowed {tolerance:.0e}"
            if not same:
                raise UserError(
                    f"the export does not answer as the model does, so it is not published: {difference} in "
                    f"{name!r} of signature {signature!r}"
                )
    names = expected["labels"]["labels"]
    for signature in ("serving_default", "tensor", "tensor_uint8"):
        probabilities, classes = answers[signature]["probabilities"], answers[signature]["classes"]
        order = np.argsort(-probabilities, axis=-1, kind="stable")[:, : classes.shape[1]]
        if not np.array_equal(names[order], classes):
            raise UserError(f"signature {signature!r} of the export names other classes than are the best")


def _save(path: Path, values: Values) -> None:
    flat = {f"{signature}/{name}": array for signature, of in values.items() for name, array in of.items()}
    np.savez(path, **flat)  # type: ignore[arg-type]


def _load(path: Path) -> Values:
    values: Values = {}
    with np.load(path, allow_pickle=True) as stored:  # strings; the file is of this process or its parent
        for key in stored.files:
            signature, name = key.split("/")
            values.setdefault(signature, {})[name] = stored[key]
    return values


def main(folder: str, requests: str, answers: str) -> None:
    """Answer the requests of a file into another, and print how many warm-up records ran."""
    sys.modules["keras"] = None  # type: ignore[assignment]  # a server has none: an import now fails
    import tensorflow as tf

    from keras_googlenet.session import SavedModelSession, warmup_records

    count = 0
    try:
        session = SavedModelSession(Path(folder))
        for record in warmup_records(Path(folder)):
            session.run(*_asked(record))
            count += 1
        asked = _load(Path(requests))
        _save(Path(answers), {name: session.run(name, inputs) for name, inputs in asked.items()})
    except (UserError, tf.errors.OpError) as error:
        lines = str(error.__cause__ or error).splitlines()
        # The reason comes before the first node; a stack trace may come before the reason.
        sys.exit(next((line for line, node in pairwise(lines) if "[[{{" in node), lines[0]))
    say(count)


def _asked(record: Any) -> tuple[str, dict[str, Any]]:
    """A warm-up record's signature, and its inputs as arrays."""
    import tensorflow as tf

    request = record.predict_log.request
    if record.HasField("predict_log"):
        inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
    else:
        request = record.classify_log.request
        examples = request.input.example_list.examples
        inputs = {"inputs": np.array([example.SerializeToString() for example in examples], object)}
    return request.model_spec.signature_name, inputs


if __name__ == "__main__":
    main(*sys.argv[1:])
