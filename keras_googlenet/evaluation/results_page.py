"""A page of runs: a table, their learning curves, and for each run its command, machine and notes."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from keras_googlenet.data.sources import TFDS
from keras_googlenet.errors import UserError
from keras_googlenet.evaluation.plots import AS_WRITTEN, shortened
from keras_googlenet.evaluation.results import Evaluation
from keras_googlenet.files import replacing, write_text
from keras_googlenet.names import main_accuracy
from keras_googlenet.profile.costs import profile
from keras_googlenet.run import folder as run_folder
from keras_googlenet.run.config import RunConfig
from keras_googlenet.run.recipes import RECIPES, recipe_options
from keras_googlenet.weights.files import MODEL, load_model

NOTES = "notes.txt"
UNTOLD = {"tfds_manual_dir", "checkpoint_minutes"}  # options that no figure depends on
PLACES = {"data", "variant", "weights", "test_split"}  # options that may be a path of the machine's
FIGURES = (
    "precision", "backend", "machine", "versions", "train_images", "train_seconds", "epochs", "saved_epoch",
    "test_images", "test_accuracy",
)  # fmt: skip
PAGE, PICTURE = "results.md", "curves.png"
INTRODUCTION = """\
Made from the folders that the runs left, as `keras-googlenet results` does. The test images were used once,
at the end of each run, by the network as it is saved. A figure is of the commit that trained the run, not of
this one. Of several seeds, accuracy and time are means, with the accuracy's standard deviation. PFLOP are
10^15 operations of the whole training: 6 for each multiply-add of an image (2 forward, 4 backward), times
images, times epochs.
`keras-googlenet recipes NAME` shows a recipe in full."""
COLUMNS = 3  # of the picture, at most


@dataclass(frozen=True)
class Result:
    """A finished run's results."""

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
        read_notes(folder / NOTES),
        sum(layer.macs for layer in profile(load_model(folder / MODEL))),
        with_views(folder, config.data),
    )


def with_views(folder: Path, data: str | None) -> tuple[int, float] | None:
    """From the evaluation with the most views of the run alone on its test images: views and accuracy."""
    found = [read_evaluation(file) for file in folder.glob("evaluation*/evaluation.json")]
    own = [one for one in found if one.part == "test" and one.data == data and len(one.models) == 1]
    return max(((one.views, one.top1) for one in own if one.views > 1), default=None)


def read_evaluation(file: Path) -> Evaluation:
    """The result that `evaluate` wrote.

    Raises:
        UserError: The file is damaged.
    """
    try:
        return Evaluation.from_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{file} is not an evaluation ({error!r}): delete its folder") from None


def read_notes(file: Path) -> str:
    """Remarks on a run; none without a file.

    Raises:
        UserError: The file is not text in UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8").strip() if file.is_file() else ""
    except ValueError:
        raise UserError(f"expected {file} to be text in UTF-8") from None


def by_seed(results: Sequence[Result]) -> list[list[Result]]:
    """Groups of runs that differ only in their seed, in the order of their first runs."""
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
    metrics = run_folder.read_metrics(folder)
    if not {"main_accuracy", "accuracy"} & set(metrics):
        raise UserError(f"{folder} is not a finished run: {folder / run_folder.METRICS} has no accuracies")
    return metrics


# --- the command of a run --------------------------------------------------------------------------


def command(result: Result) -> str:
    """The command of a run: its recipe, and the options that differ from it, with shortened paths."""
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
    """An option on the command line; nothing for None, which it cannot express."""
    flag = name.replace("_", "-")
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if isinstance(value, list):
        return [word for each in value for word in (f"--{flag}", str(each))] or [f"--no-{flag}"]
    return [f"--{flag}", short(value) if name in PLACES else str(value)]


def short(place: str) -> str:
    """A path's last component, because the parent folders are machine-specific. Keeps names of data sets."""
    return place if place.startswith(TFDS) else Path(place).name


# --- the page --------------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """Seconds for people to read."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


def figure(values: Sequence[float]) -> str:
    """An accuracy, or the mean and standard deviation of several."""
    spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
    return f"**{np.mean(values):.4f}**{spread}"


def row(group: Sequence[Result], published: Mapping[str, str]) -> list[str]:
    """The table's row of a run, or of several that differ in their seed."""
    result = group[0]
    summary, validation = result.summary, result.accuracy("val_")
    images = summary["train_images"] * summary["epochs"]
    seconds = float(np.mean([one.summary["train_seconds"] for one in group]))
    views = [one.views for one in group if one.views is not None]
    comparable = len(views) == len(group) and len({count for count, _ in views}) == 1
    return [
        f"[{result.name}](#{anchor(result.name)})",
        short(result.config.data or "arrays"),
        f"{summary['train_images']:,}",
        f"{result.height} x {result.width}",
        f"{summary['epochs']}",
        summary["precision"],
        duration(seconds),
        f"{images / seconds:,.0f}",
        f"{6 * result.macs * images / 1e15:.3g}",
        f"{max(validation):.4f} (epoch {int(np.argmax(validation)) + 1})" if validation else "none kept",
        f"{figure([one.summary['test_accuracy'] for one in group])} of {summary['test_images']:,}",
        f"{figure([top1 for _, top1 in views])} ({views[0][0]})" if comparable else "",
        f"{len(group)}",
        published.get(result.recipe or "", ""),
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


def page(
    results: Sequence[Result],
    picture: str,
    published: Mapping[str, str] | None = None,
    history: str | None = None,
) -> str:
    """The page, in Markdown.

    Args:
        results: Runs, in the page's order.
        picture: The address of the picture that `draw` made.
        published: Each recipe's figure as published by its source; adds a column to the table.
        history: The address of a page of earlier figures.
    """
    groups = by_seed(results)
    columns = len(HEAD) if published else len(HEAD) - 1
    table = [list(HEAD), ["---"] * len(HEAD), *(row(group, published or {}) for group in groups)]
    return "\n\n".join(
        [
            "# Results",
            INTRODUCTION,
            "\n".join(f"| {' | '.join(cells[:columns])} |" for cells in table),
            f"![Learning curves]({picture})",
            *map(section, groups),
            *([f"Figures of earlier versions are in [{history}]({history})."] if history else []),
        ]
    )


def draw(results: Sequence[Result], path: Path) -> None:
    """The learning curves of all runs; those that differ only in their seed share a panel."""
    groups = by_seed(results)
    columns = min(COLUMNS, len(groups))
    rows = -(-len(groups) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.2 * rows), layout="constrained")
    fields = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, group in zip(fields, groups, strict=False):
        for result in group:
            epochs = range(1, len(result.accuracy()) + 1)
            axes.plot(epochs, result.accuracy(), ".-", color="C0", label="training")
            if result.accuracy("val_"):
                axes.plot(epochs, result.accuracy("val_"), ".-", color="C1", label="validation")
            tested = result.summary["test_accuracy"]
            axes.axhline(tested, color="gray", linestyle=":", label="test, at the end")
        seeds = f" ({len(group)} seeds)" if len(group) > 1 else ""
        axes.set_title(shortened(group[0].name) + seeds, fontsize=10, **AS_WRITTEN)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(alpha=0.3)
    for axes in fields[len(groups) :]:
        axes.set_axis_off()
    fields[0].set_ylabel("accuracy of the main head")
    named = dict(zip(*reversed(fields[0].get_legend_handles_labels()), strict=True))
    fields[0].legend(named.values(), named.keys(), fontsize=8)
    with replacing(path) as unfinished:
        figure.savefig(unfinished, dpi=110)


def write(runs: Sequence[Path], to: Path) -> Path:
    """Write the page of runs and the picture of their learning curves to a new folder.

    Args:
        runs: Folders of finished runs, in the page's order. A `notes.txt` in one has remarks for its section.
        to: The folder, which must not exist.

    Returns:
        The page.

    Raises:
        UserError: A run is not finished or damaged, or the folder exists.
    """
    if to.exists():
        raise UserError(f"{to} exists: choose another folder, or delete it")
    results = [read_result(run) for run in runs]
    to.mkdir(parents=True)
    draw(results, to / PICTURE)
    write_text(to / PAGE, page(results, PICTURE) + "\n")
    return to / PAGE
