"""The command line: parses, calls, prints. It imports no framework before a command needs it."""

from __future__ import annotations

import csv
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Literal

import cyclopts

from keras_googlenet import __version__
from keras_googlenet.errors import UserError
from keras_googlenet.training.config import RunConfig

app = cyclopts.App(
    name="keras-googlenet",
    help="GoogLeNet (Inception v1) for Keras 3: from images to a served model.",
    version=__version__,
)


@app.command
def train(*, config: Annotated[RunConfig, cyclopts.Parameter(name="*")]) -> None:
    """Train a network and leave a run folder."""
    _import_tensorflow()
    from keras_googlenet.training.run import train as train_run

    train_run(config)


@app.command
def export(
    run: Path,
    /,
    *,
    to: Path,
    version: int | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
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
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"  # a SavedModel is TensorFlow's, whoever trained it
    _import_tensorflow()
    from keras_googlenet.serving.export import export_saved_model
    from keras_googlenet.training import run_folder

    finished = run_folder.load(run)
    folder = export_saved_model(
        finished.model,
        to,
        class_names=finished.class_names,
        version=version,
        precision=precision,
        preprocessing=finished.preprocessing,
    )
    print(folder)


@app.command
def serve(directory: Path, /, *, rest_port: int = 8501, host: str = "127.0.0.1") -> None:
    """Serve an export with a local preview of TensorFlow Serving (REST).

    Parameters
    ----------
    directory
        The model's directory, as given to export: its highest version is served.
    rest_port
        Port of the REST interface; 0 for any free one.
    host
        Address to listen on.
    """
    _import_tensorflow()
    try:
        from keras_googlenet.serving.preview import serve as serve_preview
    except ModuleNotFoundError as error:
        raise UserError(f'{error.name} is not installed: pip install "keras-googlenet[serving]"') from None

    serve_preview(directory, host=host, rest_port=rest_port)


@app.command
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
        A served model's address, such as http://127.0.0.1:8501/v1/models/googlenet.
    as_json
        Print a list of objects: image, label, probability, and the best few of both.
    as_csv
        Print the columns image, label, probability.
    """
    if as_json and as_csv:
        raise UserError("expected either --json or --csv, and not both")
    from keras_googlenet.serving.client import classify

    if model is not None:
        _import_tensorflow()
    predictions = classify(images, model=model, url=url)
    if as_json:
        rows = [vars(p) | {"top": [{"label": n, "probability": s} for n, s in p.top]} for p in predictions]
        print(json.dumps(rows, indent=2))
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["image", "label", "probability"])
        writer.writerows([p.image, p.label, f"{p.probability:.6f}"] for p in predictions)
    else:
        for p in predictions:
            print(f"{p.image}  {p.label}  {p.probability:.4f}")


@app.command
def evaluate(
    *,
    weights: str,
    data: Path,
    variant: str = "paper",
    batch_size: int = 64,
    as_json: Annotated[bool, cyclopts.Parameter(name="--json", negative="")] = False,
) -> None:
    """Measure trained weights on a folder of labelled images.

    Parameters
    ----------
    weights
        "imagenet" for the published weights of a variant, or the folder of a finished run.
    data
        A folder with one folder of images for each class.
    variant
        The network whose published weights are meant.
    batch_size
        Images in a step.
    as_json
        Print the figures as JSON.
    """
    _import_tensorflow()
    from keras_googlenet.evaluation.evaluate import evaluate as evaluate_folder

    figures = evaluate_folder(weights, data, variant=variant, batch_size=batch_size)
    if as_json:
        print(json.dumps(figures, indent=2))
    else:
        for name, figure in figures.items():
            print(f"{name:15} {figure if name == 'images' else format(figure, '.4f')}")


weights_app = cyclopts.App(name="weights", help="List, fetch and convert published weights.")
app.command(weights_app)


@weights_app.command(name="list")
def weights_list() -> None:
    """List the published weights."""
    from keras_googlenet.weights.specs import WEIGHTS

    print(f"{'name':12} {'variant':12} {'top-1':>6} {'top-5':>6} {'heads':5} {'licence':28} address")
    for spec in WEIGHTS.values():
        heads = "yes" if spec.aux_heads else "no"
        print(
            f"{spec.name:12} {spec.variant:12} {spec.top1:6.2f} {spec.top5:6.2f} {heads:5} "
            f"{spec.licence:28} {spec.address}"
        )


@weights_app.command(name="fetch")
def weights_fetch(name: str, /) -> None:
    """Download published weights, check them and convert them.

    Parameters
    ----------
    name
        A name that `weights list` prints.
    """
    from keras_googlenet.weights.specs import WEIGHTS

    if name not in WEIGHTS:
        raise UserError(f"expected one of {', '.join(WEIGHTS)}, got {name!r}")
    _import_tensorflow()
    from keras_googlenet.weights.store import converted_file

    print(converted_file(WEIGHTS[name]))


@weights_app.command(name="convert")
def weights_convert(file: Path, /, *, variant: str, to: Path) -> None:
    """Convert a file in a published format, of the same network, to a Keras weights file.

    Parameters
    ----------
    file
        An .onnx, .caffemodel or .pth file, or a TensorFlow checkpoint.
    variant
        The network that it holds: paper, torchvision or slim.
    to
        The .weights.h5 file to write; it must not exist.
    """
    from keras_googlenet.weights.specs import spec_of_file

    spec = spec_of_file(file, variant)
    if not to.name.endswith(".weights.h5"):
        raise UserError(f"expected --to to end in .weights.h5, got {to}")
    if to.exists():
        raise UserError(f"{to} exists: choose another file, or delete it")
    _import_tensorflow()
    from keras_googlenet.weights.store import convert_file

    convert_file(file, spec, to)
    print(to)


@app.command
def profile(
    *,
    variant: str | None = None,
    classes: int = 1000,
    input_size: Annotated[int | None, cyclopts.Parameter(name="--input")] = None,
    compare: Annotated[bool, cyclopts.Parameter(negative="")] = False,
    csv_file: Annotated[Path | None, cyclopts.Parameter(name="--csv")] = None,
    picture: Path | None = None,
) -> None:
    """Count what a network costs, as in the paper's Table 1, or compare the networks.

    Parameters
    ----------
    variant
        The network's name, such as "bn"; by default "paper".
    classes
        Number of classes.
    input_size
        Side of the input in pixels; by default 224, or 32 for the networks made for that.
    compare
        Set AlexNet, VGG-11, NiN and every variant side by side, and answer the textbooks' questions.
    csv_file
        Write the table to this file as well; it must not exist.
    picture
        With --compare: draw parameters against multiply-adds to this .png, .pdf or .svg file.
    """
    if compare and (variant is not None or input_size is not None):
        raise UserError("--compare takes every variant at its own size: expected no --variant or --input")
    if picture is not None and not compare:
        raise UserError("--picture draws the comparison: expected --compare beside it")
    if picture is not None and picture.suffix not in (".png", ".pdf", ".svg"):
        raise UserError(f"expected --picture to end in .png, .pdf or .svg, got {picture}")
    for file in (csv_file, picture):
        if file is not None and file.exists():
            raise UserError(f"{file} exists: choose another file, or delete it")
        if file is not None and not file.parent.is_dir():
            raise UserError(f"no folder {file.parent} to write {file.name} in")
    if os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow":
        _import_tensorflow()
    from keras_googlenet import profile as counts
    from keras_googlenet import profile_report as report

    if compare:
        networks = counts.compare(classes)
        print(report.comparison_text(networks))
        print(report.answers_text(report.answers(networks, classes)), end="")
    else:
        stages = counts.table_1(variant or "paper", classes, input_size)
        print(report.table_1_text(stages), end="")
    if csv_file is not None:
        report.write_csv(networks if compare else stages, csv_file)
    if picture is not None:
        from keras_googlenet.evaluation.profile_plots import plot_costs

        plot_costs(networks, picture)


def main() -> None:
    """Run the command line; a user's mistake is one line on standard error and exit code 2."""
    _quieten()
    try:
        app(exit_on_error=False, print_error=False, result_action="return_value")
    except (UserError, cyclopts.CycloptsError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _quieten() -> None:
    """Keep notes for developers off the terminal, unless the user asked for them."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def _import_tensorflow() -> None:
    """Import TensorFlow without the notes that it prints before its log level holds."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        import tensorflow as tf
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
    tf.get_logger().setLevel("ERROR")


if __name__ == "__main__":
    main()
