"""`profile`: the cost of networks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import cyclopts

from keras_googlenet.errors import UserError
from keras_googlenet.quiet import import_tensorflow
from keras_googlenet.text import say

MOST_CLASSES = 100_000  # with --compare the classics are built to be counted: more do not fit in memory


def profile(
    *,
    variant: str | None = None,
    classes: int = 1000,
    input_size: Annotated[int | None, cyclopts.Parameter(name="--input")] = None,
    compare: Annotated[bool, cyclopts.Parameter(negative="")] = False,
    csv_file: Annotated[Path | None, cyclopts.Parameter(name="--csv")] = None,
    picture: Path | None = None,
    drawing: Path | None = None,
) -> None:
    """Count parameters and multiply-adds, as in the paper's Table 1, or compare networks.

    Parameters
    ----------
    variant
        The network's name, such as "bn"; by default "paper".
    classes
        Number of classes.
    input_size
        Height and width of the input in pixels; by default 224, or 32 for networks made for small images.
    compare
        Compare AlexNet, VGG-11, NiN and all variants, and answer textbook questions about them.
    csv_file
        Also write the table to this file, which must not exist.
    picture
        With --compare: draw parameters against multiply-adds to this .png, .pdf or .svg file.
    drawing
        Draw the network's layers and blocks to this .png, .pdf or .svg file.
    """
    if compare and (variant is not None or input_size is not None):
        raise UserError("--compare takes every variant at its own size: expected no --variant or --input")
    if picture is not None and not compare:
        raise UserError("--picture draws the comparison: pass --compare too")
    if drawing is not None and compare:
        raise UserError("--drawing shows one network: expected no --compare")
    for flag, file in (("--picture", picture), ("--drawing", drawing)):
        if file is not None and file.suffix not in (".png", ".pdf", ".svg"):
            raise UserError(f"expected {flag} to end in .png, .pdf or .svg, got {file}")
    if not 1 <= classes <= MOST_CLASSES:
        raise UserError(f"expected --classes to be between 1 and {MOST_CLASSES:,}, got {classes}")
    if input_size is not None and input_size < 1:
        raise UserError(f"expected --input to be at least 1, got {input_size}")
    for file in (csv_file, picture, drawing):
        if file is not None and file.exists():
            raise UserError(f"{file} exists: choose another file, or delete it")
        if file is not None and not file.parent.is_dir():
            raise UserError(f"no folder {file.parent} to write {file.name} in")
    from keras_googlenet.profile import report, table

    if compare:
        if os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow":
            import_tensorflow()
        from keras_googlenet.profile import costs

        networks = costs.compare(classes)
        say(report.comparison_text(networks))
        say(report.answers_text(report.answers(networks, classes)), end="")
    else:
        stages = table.table_1(variant or "paper", classes, input_size)
        say(report.table_1_text(stages), end="")
    if csv_file is not None:
        report.write_csv(networks if compare else stages, csv_file)
    if picture is not None:
        from keras_googlenet.profile.plots import plot_costs

        plot_costs(networks, picture)
    if drawing is not None:
        from keras_googlenet.network.variants import VARIANTS
        from keras_googlenet.profile.drawing import draw_architecture

        draw_architecture(VARIANTS[variant or "paper"], drawing, classes=classes, size=input_size)
