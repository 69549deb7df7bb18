"""`serve` and `predict`: from an export to answers."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Annotated

import cyclopts

from keras_googlenet.cli.quiet import import_tensorflow, silenced_libraries
from keras_googlenet.errors import UserError


def serve(
    directory: Path,
    /,
    *,
    rest_port: int = 8501,
    grpc_port: int = 8500,
    host: str = "127.0.0.1",
    model_config_file: Path | None = None,
    monitoring_config_file: Path | None = None,
    enable_batching: bool = False,
    batching_parameters_file: Path | None = None,
    poll_seconds: float = 1.0,
    rest_timeout_ms: int = 30_000,
    max_request_bytes: int = 2**28,
    access_log: str | None = None,
) -> None:
    """Serve exports with a local preview of TensorFlow Serving (REST and gRPC).

    Parameters
    ----------
    directory
        One model's directory, as given to export, or a folder of such directories.
    rest_port
        Port of the REST interface; 0 for any free one.
    grpc_port
        Port of the gRPC interface; 0 for any free one.
    host
        Address to listen on.
    model_config_file
        Models, version policies and labels, as TensorFlow Serving's own flag takes them. Of each base_path
        the last component counts: a folder in the directory.
    monitoring_config_file
        Where to answer with Prometheus metrics, on the REST port.
    enable_batching
        Run concurrent requests as one batch.
    batching_parameters_file
        How large batches get and how long they wait.
    poll_seconds
        Seconds between two looks for new versions; 0 for none after the first.
    rest_timeout_ms
        Milliseconds that a request may compute.
    max_request_bytes
        Bytes that a request may have.
    access_log
        Write a line of JSON for each request to this file; - for standard error.
    """
    import_tensorflow()
    try:
        from keras_googlenet.serving.preview.server import Options
        from keras_googlenet.serving.preview.server import serve as serve_preview
    except ModuleNotFoundError as error:
        raise UserError(f'{error.name} is not installed: pip install "keras-googlenet[serving]"') from None

    options = Options(
        host=host,
        rest_port=rest_port,
        grpc_port=grpc_port,
        model_config_file=model_config_file,
        monitoring_config_file=monitoring_config_file,
        enable_batching=enable_batching,
        batching_parameters_file=batching_parameters_file,
        access_log=access_log,
        poll_seconds=poll_seconds,
        timeout_ms=rest_timeout_ms,
        max_request_bytes=max_request_bytes,
    )
    serve_preview(directory, options)


def predict(
    *images: Path,
    model: Path | None = None,
    url: str | None = None,
    as_json: Annotated[bool, cyclopts.Parameter(name="--json", negative="")] = False,
    as_csv: Annotated[bool, cyclopts.Parameter(name="--csv", negative="")] = False,
) -> None:
    """Classify images with an exported model.

    Parameters
    ----------
    images
        Image files, and folders of them.
    model
        An exported version's folder, or the model's directory for its highest version.
    url
        A served model's address, such as http://127.0.0.1:8501/v1/models/googlenet, or over gRPC
        grpc://127.0.0.1:8500/v1/models/googlenet.
    as_json
        Print a list of objects: image, label, probability, and the best few of both.
    as_csv
        Print the columns image, label, probability.
    """
    if as_json and as_csv:
        raise UserError("expected either --json or --csv, and not both")
    from keras_googlenet.serving.client.client import classify

    if model is not None or (url or "").startswith("grpc"):
        import_tensorflow()
    with silenced_libraries():
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
        print(json.dumps(rows, indent=2))
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["image", "label", "probability"])
        writer.writerows([p.image, p.label, f"{p.probability:.6f}"] for p in predictions)
    else:
        for p in predictions:
            print(f"{p.image}  {p.label}  {p.probability:.4f}")
