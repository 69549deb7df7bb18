"""`export`: from a run to a model for other runtimes."""

from __future__ import annotations

import contextlib
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import cyclopts

from keras_googlenet.export import remote
from keras_googlenet.export.formats import SAVED_MODEL, format_help, format_named
from keras_googlenet.quiet import import_tensorflow, silenced_libraries
from keras_googlenet.storage.place import Place, address
from keras_googlenet.text import say
from keras_googlenet.versions import WARMUP_BATCH_SIZES
from keras_googlenet.weights.shipped import check_run

FLAG = cyclopts.Parameter(negative="")


def export(
    run: str,
    /,
    *,
    to: Path,
    format: Annotated[str, cyclopts.Parameter(help=f"What to write: {format_help()}.")] = SAVED_MODEL,
    weights: Literal["average", "last"] | None = None,
    calibrate: Annotated[bool, FLAG] = False,
    data: str | None = None,
    recorded_split: Annotated[bool, FLAG] = False,
    version: int | None = None,
    precision: Literal["float32", "bfloat16", "int8"] = "float32",
    optimize: Literal["none", "fold", "cpu"] = "fold",
    cores: int = 1,
    cam: Annotated[bool, FLAG] = False,
    max_pixels: int | None = None,
    warmup_batch_sizes: Annotated[
        tuple[int, ...], cyclopts.Parameter(consume_multiple=True, negative="--no-warmup")
    ] = WARMUP_BATCH_SIZES,
    keep: int | None = None,
) -> None:
    """Export a run's main head: a SavedModel for TensorFlow Serving, or a file for another runtime.

    Parameters
    ----------
    run
        The folder of a finished run or its address such as s3://bucket/run, or a network of the package
        such as cifar10.
    to
        The model's directory, such as models/googlenet: its name is the model's. For the formats onnx, litert
        and openvino, a file that ends in .onnx, .tflite or .xml. Either may be an address such as
        s3://bucket/models/googlenet.
    weights
        For a run with averaged weights: the average, as in model.keras, or the last weights.
    calibrate
        Calibrate probabilities: fit a temperature on held-out images, and divide the logits by it.
    data
        Images to calibrate on and to measure another precision on, 1,000 at most: a folder with one folder
        of images for each class, "sample" or "tfds:NAME"; by default the run's validation images.
    recorded_split
        If the run's images have changed, calibrate and measure on the recorded files that still exist.
    version
        Version number; by default the highest existing one plus 1.
    precision
        Precision of the exported graph: int8 for --format litert, bfloat16 for TensorFlow Serving. If it is
        not float32, the accuracy in both precisions is measured and printed.
    optimize
        How to prepare the graph for serving: fold for any device; cpu, a little faster on a server without
        a GPU, for more memory; none for the layers as they were trained.
    cores
        Split batches and long convolutions over this many cores, for a server without a GPU that runs each
        operation on one thread.
    cam
        Add the signature cam, of class activation maps.
    max_pixels
        Reject encoded images of more pixels (height x width), and decode a batch with more pixels one image
        at a time; 16 million by default, at most 50 million. A pixel takes about 11 bytes of memory.
    warmup_batch_sizes
        Batch sizes of the warm-up requests, which a server runs before it answers its first request.
    keep
        Keep only this many of the highest versions, the new one included.
    """
    target = format_named(format)
    there = None if (found := address(to)) is None else Place(found)
    if there is not None:  # before the work, which takes a minute
        if format == SAVED_MODEL:
            remote.check_free(there, version)
        else:
            file = Path(there.name)
            remote.check_new(there.sibling(each.name) for each in (file, *target.companions(file)))
    check_run(run)
    os.environ["KERAS_BACKEND"] = "tensorflow"  # a SavedModel is TensorFlow's, whoever trained it
    import_tensorflow()
    from keras_googlenet.export.from_run import export_run

    write = partial(
        export_run,
        run,
        format=format,
        weights=weights,
        calibrate=calibrate,
        data=data,
        recorded_split=recorded_split,
        version=version,
        precision=precision,
        optimize=optimize,
        cores=cores,
        cam=cam,
        max_pixels=max_pixels,
        warmup_batch_sizes=warmup_batch_sizes,
    )
    with contextlib.nullcontext() if format == SAVED_MODEL else silenced_libraries():
        if there is None:
            say(write(to, keep=keep))
            return
        with tempfile.TemporaryDirectory() as made:
            exported = write(Path(made) / there.name, keep=keep)
            if format == SAVED_MODEL:
                say(remote.upload(exported, there, version, keep))
            else:
                for file in sorted(exported.parent.iterdir(), key=exported.__eq__):  # itself last
                    there.sibling(file.name).write("", file.read_bytes(), new=True)
                say(there.address)
