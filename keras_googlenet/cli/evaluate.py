"""`evaluate`, `compare` and `results`: accuracy of trained networks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import cyclopts

from keras_googlenet.data.sources import check_data
from keras_googlenet.errors import UserError
from keras_googlenet.quiet import import_tensorflow
from keras_googlenet.storage.place import address
from keras_googlenet.text import say
from keras_googlenet.weights.shipped import check_run, is_shipped


def evaluate(
    run: str | None = None,
    /,
    *,
    data: str | None = None,
    part: Literal["test", "validation", "train"] | None = None,
    crops: Literal[1, 10, 144] = 1,
    views: Literal[1, 2, 6] = 1,
    ensemble: Annotated[tuple[str, ...], cyclopts.Parameter(consume_multiple=True, negative="")] = (),
    weights: str | None = None,
    variant: str = "paper",
    batch_size: int = 64,
    recorded_split: Annotated[bool, cyclopts.Parameter(negative="")] = False,
    tfds_manual_dir: Path | None = None,
    to: Path | None = None,
    as_json: Annotated[bool, cyclopts.Parameter(name="--json", negative="")] = False,
) -> None:
    """Measure a run, or an ensemble of runs, on labeled images, and write a report.

    Parameters
    ----------
    run
        The folder of a finished run or its address such as s3://bucket/run, or a network of the package
        such as cifar10.
    data
        Images to measure on: a folder with one folder of images for each class, "sample" or
        "tfds:NAME"; by default the data of the run, in its recorded split.
    part
        Part of the data; by default test, or all images of a folder without parts.
    crops
        Average the probabilities of this many crops: 1 as in training, 10 or the paper's 144.
    views
        Average the probabilities of this many views: 1 (the image), 2 (and its mirror image), 6 (and
        one-pixel shifts). The accuracy of the image alone is reported too.
    ensemble
        Further runs, or networks of the package, to average the probabilities with.
    weights
        Instead of a run: "imagenet" for the published weights of a variant, or a network of the package.
    variant
        With --weights imagenet: the variant.
    batch_size
        Number of crops per step.
    recorded_split
        If the run's images have changed, use the recorded files that still exist.
    tfds_manual_dir
        Folder with the original files of a TensorFlow data set, to build it without a download.
    to
        Folder for the report, which must not exist; by default a new one in the run's folder. Without --to,
        published weights, networks of the package and runs at an address get no report.
    as_json
        Print only JSON.
    """
    if (run is None) == (weights is None):
        raise UserError("expected either the folder of a run or --weights, such as --weights imagenet")
    if run is not None:
        check_run(run)
    for each in ensemble:
        check_run(each)
    if data is not None:
        check_data(data)
    import_tensorflow()
    from keras_googlenet.evaluation.evaluate import evaluate as evaluate_run
    from keras_googlenet.evaluation.evaluate import free_folder
    from keras_googlenet.evaluation.results import FIGURES

    if to is None and run is not None and not is_shipped(run) and address(run) is None:
        to = free_folder(Path(run) / "evaluation")
    found = evaluate_run(
        run or str(weights),
        data,
        ensemble=ensemble,
        part=part,
        crops=crops,
        views=views,
        variant=variant,
        batch_size=batch_size,
        recorded_split=recorded_split,
        tfds_manual_dir=tfds_manual_dir,
        to=to,
    )
    if as_json:
        say(found.to_json(), end="")
        return
    say(f"{'images':15} {found.images}")
    for name in FIGURES:
        figure = getattr(found, name)
        if figure is not None:
            say(f"{name:15} {figure:.4f}")
    if to is not None:
        say(f"{'report':15} {to / 'report.html'}")


def compare(*runs: Path, to: Path | None = None) -> None:
    """Compare runs, finished or not: a table, and with --to their curves in one picture.

    Parameters
    ----------
    runs
        Folders of runs.
    to
        The PNG file to draw the curves to; it must not exist.
    """
    if not runs:
        raise UserError("expected the folders of runs")
    for run in runs:
        check_run(run)
    if to is not None and (to.suffix != ".png" or to.exists() or not to.parent.is_dir()):
        raise UserError(f"expected --to to be a new .png file in an existing folder, got {to}")
    import_tensorflow()
    from keras_googlenet.evaluation.compare import plot_runs, read_run, table

    rows = [read_run(run) for run in runs]
    say(table(rows))
    if to is not None:
        plot_runs(rows, to)
        say(to)


def results(*runs: Path, to: Path) -> None:
    """Write a page about finished runs: a table, their curves, and each run's command, machine and notes.

    Runs that differ only in their seed share a row. Notes are the text of a run's notes.txt.

    Parameters
    ----------
    runs
        Folders of finished runs, in the order of the page.
    to
        Folder for the page (results.md) and its picture (curves.png); it must not exist.
    """
    if not runs:
        raise UserError("expected the folders of runs")
    for run in runs:
        check_run(run)
    if to.exists():
        raise UserError(f"expected --to to be a new folder, got {to}, which exists")
    import_tensorflow()
    from keras_googlenet.evaluation.results_page import write

    say(write(runs, to))
