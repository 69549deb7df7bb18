"""`evaluate`: figures of trained weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import cyclopts

from keras_googlenet.cli.quiet import import_tensorflow


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
    import_tensorflow()
    from keras_googlenet.evaluation.evaluate import evaluate as evaluate_folder

    figures = evaluate_folder(weights, data, variant=variant, batch_size=batch_size)
    if as_json:
        print(json.dumps(figures, indent=2))
    else:
        for name, figure in figures.items():
            print(f"{name:15} {figure if name == 'images' else format(figure, '.4f')}")
