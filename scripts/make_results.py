"""Write RESULTS.md from the folders of finished runs, and a picture of their learning curves.

    python scripts/make_results.py runs/fashion_mnist_d2l runs/flowers17
    python scripts/make_results.py runs/* --to RESULTS.md --picture docs/results_curves.png  # this page

By default it writes new files `RESULTS.md` and `results_curves.png` in the current folder.
All figures are those that the runs left. Runs that differ in their seed alone share a row. Remarks are those
of a run's `notes.txt`; figures with test-time views are of `evaluate RUN --views`.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from destination import destination
from matplotlib.figure import Figure

from keras_googlenet.errors import UserError, reported
from keras_googlenet.evaluation.plots import AS_WRITTEN, shortened
from keras_googlenet.evaluation.results import Evaluation
from keras_googlenet.names import main_accuracy
from keras_googlenet.profile.costs import profile
from keras_googlenet.run import folder as run_folder
from keras_googlenet.run.config import RunConfig
from keras_googlenet.run.folder import read_metrics
from keras_googlenet.run.recipes import RECIPES, recipe_options
from keras_googlenet.text import say
from keras_googlenet.weights.files import MODEL, load_model

NOTES = "notes.txt"
UNTOLD = {"tfds_manual_dir", "checkpoint_minutes"}  # options that no figure depends on
PLACES = {"data", "variant", "weights", "test_split"}  # options that may be a path of the machine's
FIGURES = (
    "precision", "backend", "machine", "versions", "train_images", "train_seconds", "epochs", "saved_epoch",
    "test_images", "test_accuracy",
)  # fmt: skip
INTRODUCTION = """\
Made by `scripts/make_results.py` from the folders that the runs left. The test images were used once, at
the end of each run, by the network as it is saved. A figure is of the commit that trained the run, not of
this one. Of several seeds, the figure is the mean, with the standard deviation. PFLOP are 10^15 operations of
the whole training: 6 for each multiply-add of an image (2 forward, 4 backward), times images, times epochs.
`keras-googlenet recipes NAME` shows a recipe in full."""
COLUMNS = 3  # of the picture, at most

PUBLISHED = {
    "fashion_mnist_d2l": "0.901, Dive into Deep Learning",
    "fashion_mnist_best": "0.937, GoogLeNet in the data set's own list (submitted, not checked)",
    "fashion_mnist_fast": "0.937, GoogLeNet in the data set's own list (submitted, not checked)",
    "nin_fashion_mnist": "none printed",
    "cifar10_listing": "none, for it cannot run; 0.9308, the best public GoogLeNet in Keras found",
    "cifar10_fast": "0.9408 after 24 epochs of ResNet-9 (davidcpage/cifar10-fast); no GoogLeNet",
    "cifar10_best": "0.9535 after 70 epochs, 0.9364 and 0.9308, the best public GoogLeNets found",
    "flowers17": "none from scratch; the well-known tutorial's network sticks at 0.07",
    "slides_two_class": "none printed",
    "imagenet_paper": "0.687, BVLC's weights, by the center crop",
}


@dataclass(frozen=True)
class Result:
    """What a finished run left."""

    name: str
    recipe: str | None
    config: RunConfig
    height: int
    width: int
    summary: dict[str, Any]
    metrics: dict[str, list[float]]
    notes: str
    macs: int
    views: tuple[int, float] | None = None  # how many, and the accuracy with them

    def accuracy(self, prefix: str = "") -> list[float]:
        """The main head's accuracy by epoch; of validation with `prefix` "val_", where there was any."""
        return main_accuracy(self.metrics, prefix) or []


def read_result(folder: Path) -> Result:
    """Read a run's folder.

    Raises:
        UserError: The run is not finished, or its folder is damaged.
    """
    for name in (run_folder.CONFIG, run_folder.METRICS, run_folder.SUMMARY):
        if not (folder / name).is_file():
            raise UserError(f"{folder} is not a finished run: {name} is missing")
    config, preprocessing = run_folder.load_config(folder), run_folder.load_preprocessing(folder)
    name = folder.resolve().name
    recipe = config.recipe or (name if name in RECIPES else None)  # as all recipes' commands name their runs
    notes = folder / NOTES
    summary, metrics = run_folder.summary(folder) or {}, read_curves(folder)
    missing = [figure for figure in FIGURES if figure not in summary]
    if missing:
        raise UserError(f"{folder} is of another version: its summary has no {', '.join(missing)}")
    return Result(
        name,
        recipe,
        config,
        preprocessing.height,
        preprocessing.width,
        summary,
        metrics,
        notes.read_text().strip() if notes.is_file() else "",
        sum(layer.macs for layer in profile(load_model(folder / MODEL))),
        with_views(folder),
    )


def with_views(folder: Path) -> tuple[int, float] | None:
    """Of the evaluation of the most views of the run's test images: their number, and the accuracy."""
    found = [Evaluation.from_json(file.read_text()) for file in folder.glob("evaluation*/evaluation.json")]
    pairs = [(one.views, one.top1) for one in found if one.views > 1 and one.part == "test"]
    return max(pairs, default=None)


def by_seed(results: Sequence[Result]) -> list[list[Result]]:
    """Runs that differ in their seed alone, together, in the order of the first of them."""
    groups: list[list[Result]] = []
    for result in results:
        for group in groups:
            if (
                set(result.config.differences(group[0].config)) <= {"seed"}
                and result.recipe == group[0].recipe
            ):
                group.append(result)
                break
        else:
            groups.append([result])
    return groups


def read_curves(folder: Path) -> dict[str, list[float]]:
    """The columns of `metrics.csv`, with those that are drawn among them."""
    metrics = read_metrics(folder)
    if not {"main_accuracy", "accuracy"} & set(metrics):
        raise UserError(f"{folder} is not a finished run: {folder / run_folder.METRICS} has no accuracies")
    return metrics


# --- the command -----------------------------------------------------------------------------------


def command(result: Result) -> str:
    """The command that made a run: its recipe, and the options that differ from it. Paths are cut short."""
    words = ["keras-googlenet", "train", *(["--recipe", result.recipe] if result.recipe else [])]
    for name, value in own_options(result).items():
        words += words_of(name, value)
    return shlex.join([*words, "--run", f"runs/{result.name}"])


def own_options(result: Result) -> dict[str, Any]:
    """A run's options that differ from its recipe's, or from the defaults."""
    options: dict[str, Any] = recipe_options(result.recipe) if result.recipe else {}
    told = RunConfig(**({"data": result.config.data} | options), run=result.config.run)
    differing = [name for name in result.config.differences(told) if name not in UNTOLD]
    values = result.config.to_dict()
    return {name: values[name] for name in ([] if "data" in options else ["data"]) + differing}


def words_of(name: str, value: Any) -> list[str]:
    """An option as the command line has it; none for None, which it cannot say."""
    flag = name.replace("_", "-")
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if isinstance(value, list):
        return [word for each in value for word in (f"--{flag}", str(each))] or [f"--no-{flag}"]
    return [f"--{flag}", short(value) if name in PLACES else str(value)]


def short(place: str) -> str:
    """A path's last name: the folders above are the machine's. Names of data sets stay."""
    return place if place.startswith("tfds:") else Path(place).name


# --- the page --------------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """Seconds for people to read."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


def figure(values: Sequence[float]) -> str:
    """An accuracy, or the mean and the deviation of several."""
    spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
    return f"**{np.mean(values):.4f}**{spread}"


def row(group: Sequence[Result]) -> list[str]:
    """The table's row of a run, or of several that differ in their seed."""
    result = group[0]
    summary, validation = result.summary, result.accuracy("val_")
    images = summary["train_images"] * summary["epochs"]
    views = [one.views for one in group if one.views is not None]
    return [
        f"[{result.name}](#{anchor(result.name)})",
        short(result.config.data),
        f"{summary['train_images']:,}",
        f"{result.height} x {result.width}",
        f"{summary['epochs']}",
        summary["precision"],
        duration(summary["train_seconds"]),
        f"{images / summary['train_seconds']:,.0f}",
        f"{6 * result.macs * images / 1e15:.3g}",
        f"{max(validation):.4f} (epoch {int(np.argmax(validation)) + 1})" if validation else "none kept",
        f"{figure([one.summary['test_accuracy'] for one in group])} of {summary['test_images']:,}",
        f"{figure([top1 for _, top1 in views])} ({views[0][0]})" if len(views) == len(group) else "",
        f"{len(group)}",
        PUBLISHED.get(result.recipe or "", ""),
    ]


HEAD = (
    "run", "data", "training images", "input", "epochs", "precision", "training time", "images/s", "PFLOP",
    "best validation accuracy", "test accuracy, images", "with views", "seeds", "published",
)  # fmt: skip


def anchor(heading: str) -> str:
    """What a link to a heading says after its #."""
    kept = "".join(letter for letter in heading.lower() if letter.isalnum() or letter in "-_ ")
    return kept.replace(" ", "-")


def section(group: Sequence[Result]) -> str:
    """What a run is, its command, its machine and its seeds."""
    result = group[0]
    summary = result.summary
    made_of = RECIPES[result.recipe].__doc__ if result.recipe else None
    lines = [f"## {result.name}", ""]
    if made_of:
        lines += [made_of.splitlines()[0], ""]
    versions = ", ".join(f"{name} {version}" for name, version in summary["versions"].items())
    lines += ["```sh", command(result), "```", ""]
    seeds = ", ".join(f"{one.config.seed} ({one.summary['test_accuracy']:.4f})" for one in group)
    lines += [f"{summary['machine']}; {summary['backend']}, {versions}; seed {seeds}."]
    if summary["saved_epoch"] != summary["epochs"]:
        lines += [f"The weights are those of epoch {summary['saved_epoch']}."]
    unset = [name for name, value in own_options(result).items() if value is None]
    if unset:
        lines += [f"Made in Python, for the command line cannot unset {', '.join(unset)}."]
    return "\n".join([*lines, *(["", result.notes] if result.notes else [])])


def page(results: Sequence[Result], picture: str, history: str | None = None) -> str:
    """RESULTS.md; `history` is the address of a page of earlier figures."""
    groups = by_seed(results)
    table = [list(HEAD), ["---"] * len(HEAD), *map(row, groups)]
    return "\n\n".join(
        [
            "# Results",
            INTRODUCTION,
            "\n".join(f"| {' | '.join(cells)} |" for cells in table),
            f"![Learning curves]({picture})",
            *map(section, groups),
            *([f"Figures of earlier versions are in [{history}]({history})."] if history else []),
        ]
    )


def draw(results: Sequence[Result], path: Path) -> None:
    """The learning curves of all runs, each in its panel."""
    columns = min(COLUMNS, len(results))
    rows = -(-len(results) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.2 * rows), layout="constrained")
    fields = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, result in zip(fields, results, strict=False):
        epochs = range(1, len(result.accuracy()) + 1)
        axes.plot(epochs, result.accuracy(), ".-", label="training")
        if result.accuracy("val_"):
            axes.plot(epochs, result.accuracy("val_"), ".-", label="validation")
        axes.axhline(result.summary["test_accuracy"], color="gray", linestyle=":", label="test, at the end")
        axes.set_title(shortened(result.name), fontsize=10, **AS_WRITTEN)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(alpha=0.3)
    for axes in fields[len(results) :]:
        axes.set_axis_off()
    fields[0].set_ylabel("accuracy of the main head")
    fields[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished runs, in the page's order")
    parser.add_argument("--to", type=Path, help="the page's file (RESULTS.md)")
    parser.add_argument("--picture", type=Path, help="the picture's file (results_curves.png)")
    parser.add_argument("--history", help="the page of earlier figures to link to (none)")
    options = parser.parse_args(arguments)
    to = destination(options.to, "RESULTS.md")
    picture = destination(options.picture, "results_curves.png", "--picture")
    if picture.suffix not in (".png", ".svg", ".pdf"):
        raise UserError(f"expected --picture to end in .png, .svg or .pdf, got {picture}")
    results = [read_result(folder) for folder in options.runs]
    draw(results, picture)
    address = Path(os.path.relpath(picture, to.parent)).as_posix()
    to.write_text(page(results, address, options.history) + "\n")
    say(f"wrote {to} and {picture}")


if __name__ == "__main__":
    with reported():
        main()
