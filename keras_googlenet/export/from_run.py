"""`export_run`: from a run's folder to a model for other runtimes, calibrated and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from keras_googlenet.data.sources import without_folders
from keras_googlenet.errors import UserError, checked_names
from keras_googlenet.evaluation.images import Images
from keras_googlenet.export import calibration, held_out
from keras_googlenet.export.formats import FORMATS, SAVED_MODEL, format_named
from keras_googlenet.export.progress import stage
from keras_googlenet.export.provenance import run_origin
from keras_googlenet.export.saved_model import export_saved_model
from keras_googlenet.export.targets import answers, export_file
from keras_googlenet.run import folder as run_folder
from keras_googlenet.run.folder import Run
from keras_googlenet.text import say
from keras_googlenet.versions import WARMUP_BATCH_SIZES
from keras_googlenet.weights.shipped import located

Precision = Literal["float32", "bfloat16", "int8"]
Optimize = Literal["none", "fold", "cpu"]


@checked_names
def export_run(
    run: str | Path,
    to: Path,
    *,
    format: str = SAVED_MODEL,
    weights: Literal["average", "last"] | None = None,
    calibrate: bool = False,
    data: str | None = None,
    recorded_split: bool = False,
    version: int | None = None,
    precision: Precision = "float32",
    optimize: Optimize = "fold",
    cores: int = 1,
    cam: bool = False,
    max_pixels: int | None = None,
    warmup_batch_sizes: Sequence[int] = WARMUP_BATCH_SIZES,
    keep: int | None = None,
) -> Path:
    """Export a run's main head, and print what was measured.

    Args:
        run: The folder of a finished run, or the name of a network of the package.
        to: The model's directory for TensorFlow Serving, or the file for another runtime.
        format: What to write: a name of `formats.FORMATS`.
        weights: For a run with averaged weights: the average or the last weights; by default those of
            `model.keras`.
        calibrate: Fit a temperature on held-out images, and divide the logits by it.
        data: Images to calibrate and to measure another precision on; by default the run's validation images.
        recorded_split: If the run's images have changed, use the recorded files that still exist.
        version: See `export_saved_model`, as for `optimize`, `cores`, `cam`, `max_pixels`,
            `warmup_batch_sizes` and `keep`.
        precision: Precision of the exported graph: int8 for LiteRT, bfloat16 for TensorFlow Serving.
        optimize: How to prepare the graph for serving.
        cores: Number of parts to split batches and long convolutions into.
        cam: Add the signature of class activation maps.
        max_pixels: Refuse larger images.
        warmup_batch_sizes: Batch sizes of the warm-up requests.
        keep: Number of versions to keep.

    Returns:
        The version's folder, or the file.

    Raises:
        UserError: An option does not fit the format, there is no such run, or the export does not answer as
            its model does.
    """
    serving_only = {
        "`version`": version is not None,
        "`precision` bfloat16": precision == "bfloat16",
        "`optimize`": optimize != "fold",
        "`cores`": cores != 1,
        "`cam`": cam,
        "`max_pixels`": max_pixels is not None,
        "`warmup_batch_sizes`": tuple(warmup_batch_sizes) != WARMUP_BATCH_SIZES,
        "`keep`": keep is not None,
    }
    given = [option for option, is_given in serving_only.items() if is_given]
    if format_named(format).write is not None and given:
        raise UserError(f"{', '.join(given)} belong to a version for TensorFlow Serving, not to {format}")
    if precision == "int8" and not FORMATS[format].int8:
        possible = ", ".join(each.name for each in FORMATS.values() if each.int8)
        raise UserError(f"`precision` int8 belongs to `format` {possible}, not to {format}")
    run = located(run)
    with stage("reading the run"):
        finished = run_folder.load(run, weights=weights)
    images = _held_out(
        run, finished, data, calibrate=calibrate, precision=precision, recorded_split=recorded_split
    )
    measured = _measured(finished, images, calibrate=calibrate, precision=precision, optimize=optimize)
    temperature = measured["calibration"]["temperature"] if calibrate else 1.0
    if format != SAVED_MODEL:
        return _export_file(finished, to, format, temperature, images if precision == "int8" else None)
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
    return folder


def _held_out(
    run: Path,
    finished: Run,
    data: str | None,
    *,
    calibrate: bool,
    precision: str,
    recorded_split: bool,
) -> Images | None:
    """Images to calibrate and measure on, if needed and available; prints which."""
    if not calibrate and precision == "float32":
        if data is not None:
            raise UserError(
                "`data` names images for `calibrate`, and for `precision` bfloat16 and int8: give one of them"
            )
        return None
    try:
        images = held_out.held_out_images(run, finished.class_names, data, recorded_split=recorded_split)
    except UserError as error:
        if calibrate or data is not None or precision == "int8":
            raise
        say(f"accuracy in {precision} not measured: {error}")
        return None
    say(f"measured on {_name(images)}")
    return images


def _name(images: Images) -> str:
    return f"{images.part_name} images of {without_folders(images.data)}"


def _export_file(finished: Run, to: Path, format: str, temperature: float, images: Images | None) -> Path:
    """Write another runtime's file, in int8 if there are images for it, and print the cost in accuracy."""
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
    if images is not None and pixels is not None:
        with stage("measuring in float32 and int8"):
            in_float32 = held_out.logits(model, preprocessing, images.part)
            in_int8 = answers(file, pixels)
        say(held_out.compare_precisions(in_float32, in_int8, images.part.labels, "int8"))
    return file


def _measured(
    finished: Run, images: Images | None, *, calibrate: bool, precision: str, optimize: str
) -> dict[str, Any]:
    """Calibrate and compare precisions, as asked; print the results and return them as JSON types."""
    if images is None or (precision == "int8" and not calibrate):  # a file is measured once it is there
        return {}
    part, model, preprocessing = images.part, finished.model, finished.preprocessing
    with stage("measuring on held-out images"):
        in_float32 = held_out.logits(model, preprocessing, part)
    measured: dict[str, Any] = {"measured_on": _name(images)}
    if precision == "bfloat16":
        with stage(f"measuring in {precision}"):
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
