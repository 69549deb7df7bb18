"""`export`: from a run to a model that others run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import cyclopts

from keras_googlenet.cli.quiet import import_tensorflow
from keras_googlenet.serving.versions import WARMUP_BATCH_SIZES


def export(
    run: Path,
    /,
    *,
    to: Path,
    version: int | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
    cam: Annotated[bool, cyclopts.Parameter(negative="")] = False,
    warmup_batch_sizes: Annotated[
        tuple[int, ...], cyclopts.Parameter(consume_multiple=True, negative="--no-warmup")
    ] = WARMUP_BATCH_SIZES,
    keep: int | None = None,
) -> None:
    """Export a run's main head as a SavedModel for TensorFlow Serving.

    Parameters
    ----------
    run
        The folder of a finished run.
    to
        The model's directory, such as models/googlenet: its name is the model's.
    version
        The version's number; by default one more than the highest there.
    precision
        What the exported graph computes in.
    cam
        Add the signature cam, of class activation maps.
    warmup_batch_sizes
        A server runs each signature on each of these before it answers its first request.
    keep
        Delete all but this many of the highest versions, once the new one is there.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"  # a SavedModel is TensorFlow's, whoever trained it
    import_tensorflow()
    from keras_googlenet.serving.export import export_saved_model
    from keras_googlenet.serving.provenance import run_origin
    from keras_googlenet.training import run_folder

    finished = run_folder.load(run)
    folder = export_saved_model(
        finished.model,
        to,
        class_names=finished.class_names,
        version=version,
        precision=precision,
        preprocessing=finished.preprocessing,
        cam=cam,
        warmup_batch_sizes=warmup_batch_sizes,
        keep=keep,
        origin=run_origin(run),
    )
    print(folder)
