"""`export`: from a run to a model that others run."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts

from keras_googlenet.cli.quiet import import_tensorflow, silenced_libraries
from keras_googlenet.data.sources import FOLDER, source_of
from keras_googlenet.errors import UserError
from keras_googlenet.text import say
from keras_googlenet.versions import WARMUP_BATCH_SIZES

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
        Images to calibrate on and to measure another precision on, 1,000 at most: a folder with one folder
        of images for each class, "sample" or "tfds:NAME"; by default the run's validation images.
    version
        The version's number; by default one more than the highest there.
    precision
        What the exported graph computes in; int8 is for --format litert, and bfloat16 for TensorFlow
        Serving. Of another than float32, the accuracy of both is measured and printed.
    optimize
        How to prepare the graph for serving: fold for any device; cpu, a little faster on a server without
        a GPU, for more memory; none for the layers as they were trained.
    cores
        Of a server without a GPU that gives an operation one thread and runs so many at a time: a batch, and
        long convolutions, are divided among them.
    cam
        Add the signature cam, of class activation maps.
    max_pixels
        Refuse encoded images of more pixels (height x width), and decode a batch of more of them one image at
        a time; 16 million by default, 50 million at most. Each takes about 11 bytes of memory.
    warmup_batch_sizes
        A server runs each signature on each of these before it answers its first request.
    keep
        Delete all but this many of the highest versions, once the new one is there.
    """
    serving_only = {
        "--version": version is not None,
        "--precision bfloat16": precision == "bfloat16",
        "--optimize": optimize != "fold",
        "--cores": cores != 1,
        "--cam": cam,
        "--max-pixels": max_pixels is not None,
        "--warmup-batch-sizes and --no-warmup": warmup_batch_sizes != WARMUP_BATCH_SIZES,
        "--keep": keep is not None,
    }
    given = [flag for flag, is_given in serving_only.items() if is_given]
    if format != "saved_model" and given:
        raise UserError(f"{', '.join(given)} belong to a version for TensorFlow Serving, not to {format}")
    if precision == "int8" and format != "litert":
        raise UserError(f"--precision int8 belongs to --format litert, not to {format}")
    os.environ["KERAS_BACKEND"] = "tensorflow"  # a SavedModel is TensorFlow's, whoever trained it
    import_tensorflow()
    from keras_googlenet.export.provenance import run_origin
    from keras_googlenet.export.saved_model import export_saved_model
    from keras_googlenet.run import folder as run_folder

    finished = run_folder.load(run, weights=weights)
    images = _held_out(run, finished, data, calibrate=calibrate, precision=precision)
    measured = _measured(finished, images, calibrate=calibrate, precision=precision, optimize=optimize)
    temperature = measured["calibration"]["temperature"] if calibrate else 1.0
    if format != "saved_model":
        with silenced_libraries():
            say(_export_file(finished, to, format, temperature, images if precision == "int8" else None))
        return
    assert precision != "int8"
    folder = export_saved_model(
        finished.model,
        to,
        class_names=finished.class_names,
        version=version,
        precision=precision,
        optimize=optimize,
        cores=cores,
        preprocessing=finished.preprocessing,
        temperature=temperature,
        max_pixels=max_pixels,
        cam=cam,
        warmup_batch_sizes=warmup_batch_sizes,
        keep=keep,
        origin=run_origin(run) | ({"run_weights": weights} if weights else {}) | measured,
    )
    if cores > 1:
        say(
            f"for a server with --tensorflow_intra_op_parallelism=1 --tensorflow_inter_op_parallelism={cores}"
        )
    say(folder)


def _held_out(run: Path, finished: Any, data: str | None, *, calibrate: bool, precision: str) -> Any:
    """Images to calibrate and to measure on, where that is asked and can be done; tells which."""
    if not calibrate and precision == "float32":
        if data is not None:
            raise UserError(
                "--data names images for --calibrate, --precision bfloat16 and int8: give one of them"
            )
        return None
    from keras_googlenet.export import held_out

    try:
        images = held_out.held_out_images(run, finished.class_names, data)
    except UserError as error:
        if calibrate or data is not None or precision == "int8":
            raise
        say(f"accuracy in {precision} not measured: {error}")
        return None
    say(f"measured on {_name(images)}")
    return images


def _name(images: Any) -> str:
    """Without the paths of this machine."""
    name = Path(images.data).name if source_of(images.data) is FOLDER else images.data
    return f"{images.part_name} images of {name}"


def _export_file(finished: Any, to: Path, format: Any, temperature: float, images: Any) -> Path:
    """Write another runtime's file; in int8 if there are images for that, and print what it costs."""
    from keras_googlenet.export import held_out
    from keras_googlenet.export.targets import answers, export_file

    model, preprocessing = finished.model, finished.preprocessing
    pixels = None if images is None else held_out.pixels(images.part, preprocessing)
    file = export_file(
        model,
        to,
        format=format,
        class_names=finished.class_names,
        preprocessing=preprocessing,
        temperature=temperature,
        calibration_images=pixels,
    )
    if pixels is not None:
        in_float32 = held_out.logits(model, preprocessing, images.part)
        in_int8 = answers(file, pixels)
        say(held_out.compare_precisions(in_float32, in_int8, images.part.labels, "int8"))
    return file


def _measured(
    finished: Any, images: Any, *, calibrate: bool, precision: str, optimize: str
) -> dict[str, Any]:
    """Calibrate and compare precisions, as asked; print what comes of it and return it as JSON types."""
    if images is None or (precision == "int8" and not calibrate):  # a file is measured once it is there
        return {}
    from keras_googlenet.export import calibration, held_out

    part, model, preprocessing = images.part, finished.model, finished.preprocessing
    in_float32 = held_out.logits(model, preprocessing, part)
    measured: dict[str, Any] = {"measured_on": _name(images)}
    if precision == "bfloat16":
        rounded = held_out.logits(model, preprocessing, part, precision=precision, optimize=optimize)
        check = held_out.compare_precisions(in_float32, rounded, part.labels, precision)
        say(check)
        measured["accuracy"] = check.to_dict()
        in_float32 = rounded
    if calibrate:
        fitted = calibration.calibrate(in_float32, part.labels)
        say(fitted)
        measured["calibration"] = asdict(fitted)
    return measured
