"""Help pages: options in groups, those used most first; what to type instead of an unknown option."""

from __future__ import annotations

import re
from typing import Any

import cyclopts
from cyclopts.help import DefaultFormatter, HelpEntry, HelpPanel

from keras_googlenet import text

# Groups of `train` and `tune`. An option in no row goes to the last group.
GROUPS: dict[str, tuple[str, ...]] = {
    "Used most": ("data", "run", "recipe", "weights", "epochs"),
    "Search": (
        "space", "algorithm", "trials", "variants", "extras", "max-params", "max-macs", "max-latency-ms",
        "tuner-id", "oracle", "report",
    ),
    "Resume": ("resume", "recorded-split", "checkpoint-minutes"),
    "Images": (
        "image-size", "channels", "classes", "test-split", "validation-fraction", "skip-corrupt",
        "group-duplicates", "groups", "tfds-manual-dir",
    ),
    "Sampling and augmentation": (
        "augment", "min-area", "label-smoothing", "class-weights", "balance",
    ),
    "Network": (
        "variant", "width", "architecture", "dropout", "freeze", "aux-heads", "aux-weight", "whiten",
        "identity-start", "head-scale",
    ),
    "Optimization": (
        "batch-size", "accumulate", "learning-rate", "schedule", "decay-rate", "decay-epochs", "decay-power",
        "warmup-epochs", "momentum", "nesterov", "weight-decay", "bias-multiplier", "norm-multiplier",
        "clip-norm", "average", "early-stopping",
    ),
    "Machine": (
        "precision", "seed", "callback", "sync-batch-norm", "gradient-exchange", "distributed",
        "coordinator-address", "processes", "process-id",
    ),
}  # fmt: skip
REST = "Other"

EXAMPLES: dict[str, tuple[str, ...]] = {
    "": (
        "keras-googlenet sample image.png",
        "keras-googlenet predict image.png --weights fashion_mnist",
        "keras-googlenet serve --open",
    ),
    "train": (
        "keras-googlenet train --data sample --run runs/first --epochs 4",
        "keras-googlenet train --data photos --run runs/photos --weights cifar10",
        "keras-googlenet train --recipe cifar10_best --data cifar10 --run runs/cifar10",
        "keras-googlenet train --run runs/first --resume",
    ),
    "tune": (
        "keras-googlenet tune --data photos --run runs/search --trials 20 --max-macs 200000000",
        "keras-googlenet tune --report runs/search",
    ),
    "evaluate": (
        "keras-googlenet evaluate runs/first",
        "keras-googlenet evaluate cifar10 --data photos --views 6",
    ),
    "compare": ("keras-googlenet compare runs/first runs/second --to curves.png",),
    "results": ("keras-googlenet results runs/first runs/second --to results",),
    "export": (
        "keras-googlenet export runs/first --to models/googlenet --cam",
        "keras-googlenet export runs/first --to googlenet.onnx --format onnx",
        "keras-googlenet export runs/first --to openvino/googlenet.xml --format openvino",
    ),
    "serve": (
        "keras-googlenet serve --open",
        "keras-googlenet serve models/googlenet --rest-port 8501",
    ),
    "sync": ("keras-googlenet sync s3://bucket/models/googlenet models/googlenet --every 10s --keep 2",),
    "deploy": ("keras-googlenet deploy deployment --model models/googlenet",),
    "predict": (
        "keras-googlenet predict photo.jpg --weights cifar10",
        "keras-googlenet predict photos --model models/googlenet --to predictions.csv --top 3",
        "keras-googlenet predict photos --model models/googlenet --to predictions.csv --shard 3/16",
        "keras-googlenet predict photos --model openvino/googlenet.xml --csv",
    ),
    "explain": (
        "keras-googlenet explain photo.jpg --weights cifar10 --to explained --blocks 4a --blocks 5a",
    ),
    "prepare": (
        "keras-googlenet prepare photos prepared",
        "keras-googlenet prepare photos --tfds photos",
    ),
    "inspect": ("keras-googlenet inspect --data photos --to report",),
    "profile": ("keras-googlenet profile --variant bn", "keras-googlenet profile --compare"),
}

# Other tools' words for ours.
SYNONYMS = {"output": "to", "out": "to", "output-dir": "to", "dir": "run", "top-k": "top", "topk": "top"}


def epilogue(command: str) -> str | None:
    """Examples of a command for the end of its help page, as Markdown."""
    lines = EXAMPLES.get(command)
    return None if lines is None else "Examples:\n\n" + "  \n".join(lines)


class Formatter(DefaultFormatter):
    """Shows a help page; the many options of `train` and `tune` in groups."""

    def __call__(self, console: Any, options: Any, panel: HelpPanel) -> None:
        entries = {_name(entry): _plain(entry) for entry in panel.entries}
        if "epochs" not in entries:
            super().__call__(console, options, panel.copy(entries=list(entries.values())))
            return
        for title, row in GROUPS.items():
            group = [entries.pop(name) for name in row if name in entries]
            if group:
                super().__call__(console, options, panel.copy(title=title, entries=group))
        if entries:
            super().__call__(console, options, panel.copy(title=REST, entries=list(entries.values())))


def instead(error: cyclopts.UnknownOptionError) -> str:
    """One line about an unknown option, with the option that may be meant."""
    typed = (error.token.keyword or error.token.value).split("=")[0]
    known = [name for argument in error.argument_collection if argument.parse for name in argument.names]
    found = nearest(typed, [name for name in known if name.startswith("--")])
    return f"unknown option {typed}" + (f": did you mean {found}?" if found else "; --help lists the options")


def unused(error: cyclopts.UnusedCliTokensError) -> str:
    """One line about a value that belongs to no option."""
    value = (error.unused_tokens or [""])[0]
    return f"unexpected {value!r}: a value needs its option before it; --help lists the options"


def nearest(typed: str, known: list[str]) -> str | None:
    """The option that an unknown one may mean: by another tool's word for it, or by `text.nearest`."""
    word = typed.lstrip("-")
    names = [name.removeprefix("--") for name in known]
    synonym = SYNONYMS.get(word.replace("_", "-").lower())
    meant = synonym if synonym in names else text.nearest(word, names)
    return f"--{meant}" if meant else None


def as_options(message: str, app: cyclopts.App, words: list[str]) -> str:
    """A message of the package in the command line's words: its `backticked` arguments as options.

    Args:
        message: What a function said of its Python arguments.
        app: The command line.
        words: What was typed; an argument of that command comes before one of the same name of another.
    """
    known: dict[str, str] = {}
    commands = [app[name] for name in app if not name.startswith("-")]
    for command in (*commands, app.parse_commands(words)[1][-1]):
        if command.default_command is not None:
            for argument in command.assemble_argument_collection():
                known[argument.field_info.name] = argument.name
    return re.sub(r"`(\w+)`", lambda found: known.get(found[1], found[0]), message)


def _name(entry: HelpEntry) -> str:
    return entry.positive_names[0].removeprefix("--") if entry.positive_names else str(entry.display_labels)


def _plain(entry: HelpEntry) -> HelpEntry:
    """Without negations of options that are off or empty by default, and without empty defaults."""
    negation = f"--no-{_name(entry)}"
    kept = tuple(name for name in entry.negative_names if name != negation or entry.default == "True")
    says_nothing = entry.default in ("False", "()", "None", '""')
    return entry.copy(negative_names=kept, default=None if says_nothing else entry.default)
