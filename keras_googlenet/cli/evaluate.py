"""`evaluate` and `compare`: figures of trained weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import cyclopts

from keras_googlenet.data.sources import check_data
from keras_googlenet.errors import UserError
from keras_googlenet.quiet import import_tensorflow
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
    ensemble: Annotated[tuple[Path, ...], cyclopts.Parameter(consume_multiple=True, negative="")] = (),
    weights: str | None = None,
    variant: str = "paper",
    batch_size: int = 64,
    recorded_split: Annotated[bool, cyclopts.Parameter(negative="")] = False,
    to: Path | None = None,
    as_json: Annotated[bool, cyclopts.Parameter(name="--json", negative="")] = False,
) -> None:
    """Measure a run, or several together, on labeled images, and leave a report to look at.

    Parameters
    ----------
    run
        The folder of a finished run, or a network of the package such as cifar10.
    data
        Images to measure on: a folder with one folder of images for each class, "sample" or
        "tfds:NAME"; by default what the run was trained on, divided as it was then.
    part
        Which part of the data; by default test, but all images of a folder that is not divided.
    crops
        Crops of each image, whose probabilities are averaged: 1 as in training, 10 or the paper's 144.
    views
        Average the probabilities of this many views: 1 (the image), 2 (and its mirror image), 6 (and
        one-pixel shifts). The accuracy of the image alone is reported too.
    ensemble
        Folders of further runs, whose probabilities are averaged with the first's.
    weights
        In place of a run: "imagenet" for the published weights of a variant, or a network of the package.
    variant
        The network whose published weights are meant.
    batch_size
        Crops in a step.
    recorded_split
        If the run's images have changed, use the recorded files that still exist.
    to
        The report's folder, which must not exist; by default a new one in the run's, and none for
        published weights and networks of the package.
    as_json
        Print the result as JSON, and nothing else.
    """
    if (run is None) == (weights is None):
        raise UserError("expected either the folder of a run or --weights, such as --weights imagenet")
    if run is not None:
        check_run(run)
    for each in ensemble:
        check_run(each)
    if data is not None and weights is None:
        check_data(data)
    import_tensorflow()
    from keras_googlenet.evaluation.evaluate import evaluate as evaluate_run
    from keras_googlenet.evaluation.evaluate import free_folder
    from keras_googlenet.evaluation.results import FIGURES

    if to is None and run is not None and not is_shipped(run):
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
