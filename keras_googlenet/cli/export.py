"""`export`: from a run to a model that others run."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts

from keras_googlenet.cli.quiet import import_tensorflow
from keras_googlenet.errors import UserError
from keras_googlenet.serving.versions import WARMUP_BATCH_SIZES

FLAG = cyclopts.Parameter(negative="")


def export(
    run: Path,
    /,
    *,
    to: Path,
    format: Literal["saved_model", "onnx", "litert"] = "saved_model",
    weights: Literal["average", "last"] | None = None,
    calibrate: Annotated[bool, FLAG] = False,
    data: str | None = None,
    version: int | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
    optimize: Literal["none", "fold", "cpu"] = "fold",
    cam: Annotated[bool, FLAG] = False,
    warmup_batch_sizes: Annotated[
        tuple[int, ...], cyclopts.Parameter(consume_multiple=True, negative="--no-warmup")
    ] = WARMUP_BATCH_SIZES,
    keep: int | None = None,
) -> None:
    """Export a run's main head: a SavedModel for TensorFlow Serving, or a file for another runtime.

    Parameters
    ----------
    run
        The folder of a finished run.
    to
        The model's directory, such as models/googlenet: its name is the model's. For the formats onnx and
        litert, a file that ends in .onnx or .tflite.
    format
        What to write.
    weights
        Of a run that averaged its weights, the average or the last ones; by default those of model.keras,
        the average.
    calibrate
        Fit a temperature on held-out images, and divide the logits by it.
    data
        Images to calibrate on and to measure bfloat16 on, 1,000 at most: a folder with one folder of images
        for each class, "sample" or "tfds:NAME"; by default the run's validation images.
    version
        The version's number; by default one more than the highest there.
    precision
        What the exported graph computes in. For bfloat16 the accuracy of both is measured and printed.
    optimize
        How to prepare the graph for serving: fold for any device; cpu, faster still on a server without a
        GPU, for more memory; none for the layers as they were trained.
    cam
        Add the signature cam, of class activation maps.
    warmup_batch_sizes
        A server runs each signature on each of these before it answers its first request.
    keep
        Delete all but this many of the highest versions, once the new one is there.
    """
    serving_only = {
        "--version": version is not None,
        "--precision": precision != "float32",
        "--optimize": optimize != "fold",
        "--cam": cam,
        "--warmup-batch-sizes and --no-warmup": warmup_batch_sizes != WARMUP_BATCH_SIZES,
        "--keep": keep is not None,
    }
    given = [flag for flag, is_given in serving_only.items() if is_given]
    if format != "saved_model" and given:
        raise UserError(f"{', '.join(given)} belong to a version for TensorFlow Serving, not to {format}")
    os.environ["KERAS_BACKEND"] = "tensorflow"  # a SavedModel is TensorFlow's, whoever trained it
    import_tensorflow()
    from keras_googlenet.serving.export.provenance import run_origin
    from keras_googlenet.serving.export.saved_model import export_saved_model
    from keras_googlenet.serving.export.targets import export_file
    from keras_googlenet.training import run_folder

    finished = run_folder.load(run, weights=weights)
    measured = _measured(run, finished, data, calibrate=calibrate, precision=precision, optimize=optimize)
    temperature = measured["calibration"]["temperature"] if calibrate else 1.0
    if format != "saved_model":
        file = export_file(
            finished.model,
            to,
            format=format,
            class_names=finished.class_names,
            preprocessing=finished.preprocessing,
            temperature=temperature,
        )
        print(file)
        return
    folder = export_saved_model(
        finished.model,
        to,
        class_names=finished.class_names,
        version=version,
        precision=precision,
        optimize=optimize,
        preprocessing=finished.preprocessing,
        temperature=temperature,
        cam=cam,
        warmup_batch_sizes=warmup_batch_sizes,
        keep=keep,
        origin=run_origin(run) | ({"run_weights": weights} if weights else {}) | measured,
    )
    print(folder)


def _measured(
    run: Path, finished: Any, data: str | None, *, calibrate: bool, precision: str, optimize: str
) -> dict[str, Any]:
    """Calibrate and compare precisions, as asked; print what comes of it and return it as JSON types."""
    if not calibrate and precision == "float32":
        if data is not None:
            raise UserError("--data names images for --calibrate and --precision bfloat16: give one of them")
        return {}
    from keras_googlenet.serving.export import calibration, held_out

    try:
        images = held_out.held_out_images(run, finished.class_names, data)
    except UserError as error:
        if calibrate or data is not None:
            raise
        print(f"accuracy in bfloat16 not measured: {error}")
        return {}
    part, model, preprocessing = images.part, finished.model, finished.preprocessing
    name = Path(images.data).name if not images.data.startswith("tfds:") else images.data
    found = {"measured_on": f"{images.part_name} images of {name}"}
    print(f"measured on {found['measured_on']}")
    in_float32 = held_out.logits(model, preprocessing, part)
    measured: dict[str, Any] = dict(found)
    if precision == "bfloat16":
        rounded = held_out.logits(model, preprocessing, part, precision=precision, optimize=optimize)
        check = held_out.compare_precisions(in_float32, rounded, part.labels)
        print(check)
        measured["accuracy"] = asdict(check)
        in_float32 = rounded
    if calibrate:
        fitted = calibration.calibrate(in_float32, part.labels)
        print(fitted)
        measured["calibration"] = asdict(fitted)
    return measured
