"""`serve`, `deploy` and `predict`: from an export to predictions."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Annotated, NoReturn

import cyclopts

from keras_googlenet.data.sources import TFDS
from keras_googlenet.errors import Interrupted, UserError
from keras_googlenet.export.formats import format_of, is_file_of_format
from keras_googlenet.names import CONFIG, TOP_K
from keras_googlenet.quiet import import_tensorflow, silenced_libraries
from keras_googlenet.serving.preview.options import Options
from keras_googlenet.storage.place import Place, address
from keras_googlenet.storage.published import local
from keras_googlenet.text import say
from keras_googlenet.versions import check_models, version_folder
from keras_googlenet.weights.shipped import check_network, is_shipped

if TYPE_CHECKING:
    from keras_googlenet.inference.predict import Each
    from keras_googlenet.inference.tables import Answer

DEFAULTS = Options()
SERVED = "cifar10"  # where no model is named
SETTLED = 5.0  # seconds between two looks at a version that another program may still upload


def serve(
    directory: str | None = None,
    /,
    *,
    options: Annotated[Options, cyclopts.Parameter(name="*")] = DEFAULTS,
) -> None:
    """Serve exports with a local preview of TensorFlow Serving (REST and gRPC), and a page to try images on.

    Parameters
    ----------
    directory
        One model's directory, as given to export, a folder of such directories, or a network of the package;
        by default the network cifar10.
    """
    if directory is None and options.model_config_file is not None:
        raise UserError("--model-config-file needs the folder that holds its models' folders")
    name = SERVED if directory is None else directory
    if not is_shipped(name):
        check_models(Path(name))
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

    if not is_shipped(name):
        serve_preview(Path(name), options)
        return
    options.check()
    os.environ["KERAS_BACKEND"] = "tensorflow"  # as for `export`
    from keras_googlenet.export.from_run import export_run

    say(f"exporting {name}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        export_run(name, Path(folder) / name, cam=True, warmup_batch_sizes=(1,))
        serve_preview(Path(folder) / name, options)


def deploy(folder: Path, /, *, model: str) -> None:
    """Write a folder for TensorFlow Serving: compose file, Kubernetes manifests, monitoring, TLS, a page.

    Parameters
    ----------
    folder
        The folder to make; it must not exist.
    model
        The model's name, or its directory of versions, such as models/googlenet.
    """
    from keras_googlenet.serving.deployment import deploy as write

    name = write(folder, model)
    say(f"{folder}: model {name!r}; next: docker compose -f {shlex.quote(str(folder / 'compose.yaml'))} up")


def sync(place: str, directory: Path, /, *, every: str | None = None, keep: int | None = None) -> None:
    """Copy exported versions from object storage into a folder that a server watches.

    A version that export uploaded appears in the folder complete or not at all. One that another program
    uploaded is copied once its files are the same in two rounds. With --every, unreachable storage is
    reported and retried; without, it is an error.

    Parameters
    ----------
    place
        The address of a model, such as s3://bucket/models/googlenet, or of a folder of models.
    directory
        The folder for it, such as models/googlenet; made if it does not exist.
    every
        Repeat after this time, such as 10s, until the process is stopped.
    keep
        Copy only this many of the highest versions, and delete lower ones from the folder.
    """
    from keras_googlenet.export.remote import Listings
    from keras_googlenet.export.remote import sync as sync_versions
    from keras_googlenet.inference.sources import seconds

    there = address(place)
    if there is None:
        raise UserError(f"expected a model's address, such as s3://bucket/models/googlenet, got {place}")
    if keep is not None and keep < 1:
        raise UserError(f"expected --keep to be at least 1, got {keep}")
    interval = None if every is None else seconds(every)
    signal.signal(signal.SIGTERM, _stop)
    waiting: Listings = {}
    while True:
        failure, before = None, dict(waiting)
        try:
            for version in sync_versions(Place(there), directory, keep, waiting):
                say(version, flush=True)
        except UserError as error:
            failure = error
        if interval is None and (not waiting or (failure is not None and waiting == before)):
            if failure is not None:
                raise failure
            return
        if failure is not None and interval is not None:
            say(f"{failure}; retrying in {every}", file=sys.stderr, flush=True)
        time.sleep(interval or SETTLED)


def _stop(number: int, _: object) -> NoReturn:
    """As the first process of a container, one that does not catch SIGTERM would not end by it."""
    raise Interrupted("stopped", number)


def predict(
    *images: str,
    model: Path | None = None,
    url: str | None = None,
    weights: str | None = None,
    to: Path | None = None,
    top: int | None = None,
    copy_to: Path | None = None,
    every: str = "1s",
    shard: str | None = None,
    tfds_manual_dir: Path | None = None,
    as_json: Annotated[bool, cyclopts.Parameter(name="--json", negative="")] = False,
    as_csv: Annotated[bool, cyclopts.Parameter(name="--csv", negative="")] = False,
) -> None:
    """Classify images with an exported model, a run, or a network of the package.

    Reports an unreadable image as an error in its row, classifies all others, and then exits with 1.

    Parameters
    ----------
    images
        Image files, folders, videos and https:// URLs; a .txt file is a list of them, one per line, and "-"
        reads a list from standard input; tfds:NAME[:CONFIG]/SPLIT is a set of TensorFlow Datasets.
    model
        An exported version's folder, the model's directory for its highest version, a run's folder, or the
        address of one of them, such as s3://bucket/models/googlenet. Or an exported file that ends in .onnx,
        .tflite or .xml.
    url
        A served model's address, such as http://127.0.0.1:8501/v1/models/googlenet, or over gRPC
        grpc://127.0.0.1:8500/v1/models/googlenet.
    weights
        A network of the package such as cifar10, "imagenet", a run's folder, or the https:// address of a
        zipped one.
    to
        Write to this .csv or .jsonl file, or .parquet folder. Rerun to finish after an interruption.
    top
        Number of best classes per image, 1 to 5; the default is 1, for JSON and Parquet 5.
    copy_to
        Copy image files to this folder, into one subfolder per class.
    every
        Time between video frames, such as 1s or 500ms.
    shard
        Classify only a share of the images, such as 3/16, the third of 16; with --to predictions.csv in
        predictions-03-of-16.csv. In an indexed Kubernetes Job, 16 alone takes the pod's share.
    tfds_manual_dir
        Folder with the original files of a TensorFlow data set, to build it offline.
    as_json
        Print a list of objects: image, label, probability, and the best few of both.
    as_csv
        Print the columns image, label, probability, error.
    """
    if [as_json, as_csv, to is not None].count(True) > 1:
        raise UserError("expected one of --json, --csv and --to FILE, and not several")
    if [model, url, weights].count(None) != 2:
        raise UserError("expected one of --model FOLDER, --url http://... and --weights NAME")
    if copy_to is not None and to is None:
        raise UserError("--copy-to needs --to FILE, which records what is already copied")
    if top is not None and not 1 <= top <= TOP_K:
        raise UserError(f"expected --top to be between 1 and {TOP_K}, got {top}")
    from keras_googlenet.inference.predict import predict_to
    from keras_googlenet.inference.sources import Sources, seconds
    from keras_googlenet.inference.sources import shard as parse_shard
    from keras_googlenet.inference.tables import of_shard, table_at

    share = (0, 1) if shard is None else parse_shard(shard)
    if shard is not None and to is not None:
        to = of_shard(to, *share)
    sources = Sources(images, seconds(every), share, tfds_manual_dir)
    if any(name.startswith(TFDS) for name in images):
        import_tensorflow()
    with silenced_libraries():
        sources.check()
    if weights is not None:
        check_network(weights)
    found = None if model is None else local(model)
    if found is not None and found.is_file():
        format_of(found)
    name = str(model or url or weights)
    if found is not None and _is_version(found):
        found = version_folder(found)  # a newer one may come before a rerun, and before it is loaded
        if Path(name).name != found.name:
            name = f"{name.rstrip('/')}/{found.name}"
    of_json = as_json or (to is not None and to.suffix != ".csv")
    classes = top or (TOP_K if of_json else 1)
    if to is not None:
        table_at(to, classes)
    if url is None or url.startswith("grpc"):
        import_tensorflow()
    with silenced_libraries(), _model(found, url, weights) as each:
        if to is not None:
            job = {
                "model": name,
                "images": list(images),
                "top": classes,
                "every": every,
                "shard": None if shard is None else list(share),
                "copy_to": None if copy_to is None else str(copy_to),
            }
            count, failed = predict_to(to, sources, each, job, top=classes, copy_to=copy_to)
        else:
            count, failed = _print(each(one.item for one in sources), as_json, as_csv, classes)
    if to is not None:
        say(f"{to}: {count:,} images")
    if failed:
        say(f"{failed:,} of {count:,} images failed: see their errors", file=sys.stderr)
        sys.exit(1)


@contextmanager
def _model(model: Path | None, url: str | None, weights: str | None) -> Iterator[Each]:
    """The model that the options name."""
    if url is not None:
        from keras_googlenet.serving.client.client import Client

        with Client(url) as client:
            yield client.each
    elif model is not None and _is_version(model):
        from keras_googlenet.serving.client import answers
        from keras_googlenet.serving.client.local import local_model

        run = local_model(model)
        yield lambda items: answers.each(run, items, answers.BATCH, source=str(model))
    else:
        from keras_googlenet.inference.classifier import load

        yield load(weights if weights is not None else Path(str(model))).each


def _is_version(model: Path) -> bool:
    """Whether this is to be an exported version or a model's directory: no exported file, and no run."""
    return not is_file_of_format(model) and not (model / CONFIG).is_file()


def _print(found: Iterator[Answer], as_json: bool, as_csv: bool, top: int) -> tuple[int, int]:
    """Print answers as they arrive; returns the number of images and of failed ones."""
    from keras_googlenet.inference.tables import csv_columns, csv_line, csv_row, in_one_line, json_row
    from keras_googlenet.serving.client.answers import Failure

    count = failed = 0
    if as_csv:
        say(csv_line(csv_columns(top)), end="")
    for answer in found:
        if as_json:
            row = indent(json.dumps(json_row(answer, top), indent=2), "  ")
            say(",\n" if count else "[\n", row, sep="", end="")
        elif as_csv:
            say(csv_line(csv_row(answer, top)), end="")
        elif isinstance(answer, Failure):
            say(f"{in_one_line(answer.image)}  error: {in_one_line(answer.error)}")
        else:
            best = "  ".join(f"{label}  {probability:.4f}" for label, probability in answer.top[:top])
            say(f"{in_one_line(answer.image)}  {best}")
        count += 1
        failed += isinstance(answer, Failure)
    if as_json:
        say("\n]" if count else "[]")
    return count, failed
