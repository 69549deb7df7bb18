"""`serve` and `predict`: from an export to answers."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Annotated

import cyclopts

from keras_googlenet.cli.quiet import import_tensorflow, silenced_libraries
from keras_googlenet.errors import UserError
from keras_googlenet.serving.preview.options import Options
from keras_googlenet.text import say

DEFAULTS = Options()


def serve(
    directory: Path, /, *, options: Annotated[Options, cyclopts.Parameter(name="*")] = DEFAULTS
) -> None:
    """Serve exports with a local preview of TensorFlow Serving (REST and gRPC).

    Parameters
    ----------
    directory
        One model's directory, as given to export, or a folder of such directories.
    """
    # As the deployments in serving/ do: oneDNN then reorders a convolution's weights once.
    os.environ.setdefault("TF_ONEDNN_ASSUME_FROZEN_WEIGHTS", "1")
    if options.tensorflow_intra_op_parallelism > 0:
        os.environ["TF_NUM_INTRAOP_THREADS"] = str(options.tensorflow_intra_op_parallelism)
    if options.tensorflow_inter_op_parallelism > 0:
        os.environ["TF_NUM_INTEROP_THREADS"] = str(options.tensorflow_inter_op_parallelism)
    import_tensorflow()
    try:
        from keras_googlenet.serving.preview.server import serve as serve_preview
    except ModuleNotFoundError as error:
        raise UserError(f'{error.name} is not installed: pip install "keras-googlenet[serving]"') from None

    serve_preview(directory, options)


def predict(
    *images: Path,
    model: Path | None = None,
    url: str | None = None,
    weights: str | None = None,
    as_json: Annotated[bool, cyclopts.Parameter(name="--json", negative="")] = False,
    as_csv: Annotated[bool, cyclopts.Parameter(name="--csv", negative="")] = False,
) -> None:
    """Classify images with an exported model, a run, or a network of the package.

    Parameters
    ----------
    images
        Image files, and folders of them.
    model
        An exported version's folder, or the model's directory for its highest version.
    url
        A served model's address, such as http://127.0.0.1:8501/v1/models/googlenet, or over gRPC
        grpc://127.0.0.1:8500/v1/models/googlenet.
    weights
        A network of the package such as cifar10, "imagenet", a run's folder, or the https:// address of a
        zipped one.
    as_json
        Print a list of objects: image, label, probability, and the best few of both.
    as_csv
        Print the columns image, label, probability.
    """
    if as_json and as_csv:
        raise UserError("expected either --json or --csv, and not both")
    if [model, url, weights].count(None) != 2:
        raise UserError("expected one of --model FOLDER, --url http://... and --weights NAME")
    from keras_googlenet.serving.client.client import classify, find_files

    if url is None or url.startswith("grpc"):
        import_tensorflow()
    with silenced_libraries():
        if weights is not None:
            from keras_googlenet.inference.classifier import load

            files = find_files(images)
            predictions = load(weights).predict(files)
        else:
            predictions = classify(images, model=model, url=url)
    if as_json:
        rows = [
            {
                "image": p.image,
                "label": p.label,
                "probability": p.probability,
                "top": [{"label": name, "probability": score} for name, score in p.top],
            }
            for p in predictions
        ]
        say(json.dumps(rows, indent=2))
    elif as_csv:
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["image", "label", "probability"])
        writer.writerows([p.image, p.label, f"{p.probability:.6f}"] for p in predictions)
        say(table.getvalue(), end="")
    else:
        for p in predictions:
            say(f"{p.image}  {p.label}  {p.probability:.4f}")
