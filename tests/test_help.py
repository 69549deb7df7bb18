"""Help pages, and what an unknown option is answered with."""

import ast
import contextlib
import json
import re
import shlex
from pathlib import Path

import cyclopts
import pytest
from conftest import run_python

import keras_googlenet
from keras_googlenet import cli
from keras_googlenet.cli import help
from keras_googlenet.errors import UserError


def options(command):
    """The options of a command, by their first names."""
    arguments = cli.app[command].assemble_argument_collection()
    return {argument.name.removeprefix("--") for argument in arguments if argument.name.startswith("--")}


def test_each_option_is_in_one_group():
    grouped = [name for row in help.GROUPS.values() for name in row]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == options("train") | options("tune")


def test_the_most_used_options_come_first(command):
    code, out, _ = command("train", "--help")
    assert code == 0
    lines = [line for line in out.splitlines() if "╭" in line]
    assert [line.strip("╭╮─ ") for line in lines] == [title for title in help.GROUPS if title != "Search"]
    assert "--empty-" not in out
    assert "--no-skip-corrupt" not in out  # it is off by default
    assert "--no-augment" not in out
    assert "--no-aux-heads" in out
    assert out.index("--data") < out.index("--recipe") < out.index("--learning-rate")
    for line in help.EXAMPLES["train"]:
        assert line in out


def test_a_negation_that_help_hides_is_accepted():
    _, bound, _ = cli.app.parse_args(
        "train --data sample --run r --no-skip-corrupt", exit_on_error=False, print_error=False
    )
    assert bound.kwargs["config"].skip_corrupt is False


def test_examples_of_every_command():
    known = {name for name in cli.app if not name.startswith("-")}
    assert known - {"sample", "recipes", "weights"} <= set(help.EXAMPLES) <= known | {""}


@pytest.mark.parametrize("line", [line for lines in help.EXAMPLES.values() for line in lines])
def test_examples_have_real_options(line):
    program, *words = shlex.split(line)
    assert program == "keras-googlenet"
    needs_a_run = pytest.raises(UserError, match="nothing to resume at runs/first")
    with needs_a_run if "--resume" in words else contextlib.nullcontext():
        cli.app.parse_args(words, exit_on_error=False, print_error=False)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--lr", "--learning-rate"),
        ("--bs", "--batch-size"),
        ("--wd", "--weight-decay"),
        ("--batch", "--batch-size"),
        ("--learning_rat", "--learning-rate"),
        ("--epoch", "--epochs"),
        ("--LR", "--learning-rate"),
        ("--bogus", None),
        ("--", None),
    ],
)
def test_the_option_that_is_meant(typed, meant):
    assert help.nearest(typed, [f"--{name}" for name in sorted(options("train"))]) == meant


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train --data d --run r --lr 1", "unknown option --lr: did you mean --learning-rate?"),
        ("train --data d --run r --lr=1", "unknown option --lr: did you mean --learning-rate?"),
        ("predict a.png --weights cifar10 --output b.csv", "unknown option --output: did you mean --to?"),
        ("serve --bogus", "unknown option --bogus; --help lists the options"),
        (
            "train photos --run r",
            "unexpected 'photos': a value needs its option before it; --help lists the options",
        ),
    ],
)
def test_unknown_option(command, line, message):
    assert command(*line.split()) == (2, "", f"error: {message}\n")


@pytest.mark.parametrize("augment", ["--augment crop flip", "--augment crop --augment flip"])
def test_an_option_of_several_values(augment):
    _, bound, _ = cli.app.parse_args(f"train --data d --run r {augment}".split())
    assert bound.arguments["config"].augment == ("crop", "flip")


@pytest.mark.parametrize(
    ("line", "message", "shown"),
    [
        ("train", "expected `batch_size` to be 1", "expected --batch-size to be 1"),
        ("evaluate", "`run` and `recorded_split`", "RUN and --recorded-split"),  # the run has no option there
        ("train", "`run` and `recorded_split`", "--run and --recorded-split"),
        ("explain", "export it again with `cam`", "export it again with --cam"),  # another command's
        ("weights convert x", "`variant`, `input_shape`, `train`", "--variant, `input_shape`, `train`"),
        ("", "`epochs`", "--epochs"),
    ],
)
def test_arguments_are_shown_as_options(line, message, shown):
    assert help.as_options(message, cli.app, line.split()) == shown


def test_errors_of_the_package_name_arguments():
    """The command line shows them as its options, Python as they are."""
    package = Path(cli.__file__).parents[1]
    for file in package.rglob("*.py"):
        if file.is_relative_to(package / "cli") or file.is_relative_to(package / "serving/files"):
            continue
        text = file.read_text()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Raise) and "UserError" in (source := ast.unparse(node)):
                assert not re.search(r"(?<![\w-])--[a-z]", source), (file, source)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("RunConfig", {"data": "sample", "run": "r", "epoch": 1}, "'epoch'; did you mean 'epochs'?"),
        ("RunConfig", {"data": "sample", "run": "r", "lr": 1}, "'lr'; did you mean 'learning_rate'?"),
        ("TuneConfig", {"trial": 3}, "'trial'; did you mean 'trials'?"),
        ("load", {"name": "cifar10", "variants": "bn"}, "'variants'; did you mean 'variant'?"),
        ("evaluate", {"view": 2}, "'view'; did you mean 'views'?"),
        ("GoogLeNet", {"bogus": 2}, "GoogLeNet() has no argument 'bogus'"),
    ],
)
def test_an_unknown_argument_names_the_one_that_is_meant(name, arguments, message):
    with pytest.raises(TypeError, match=f"{re.escape(message)}$"):
        getattr(keras_googlenet, name)(**arguments)


def test_help_is_a_page_of_cyclopts():
    """What is shown of an option is cyclopts's own, so it follows that of the functions."""
    assert isinstance(cli.app.help_formatter, cyclopts.help.DefaultFormatter)


WRONG_NAMES = {
    "train --data nowhere --run r": "unknown data 'nowhere'",
    "train --data sample --run there": "there exists",
    "train --data sample --run r --recipe flower17": "did you mean flowers17?",
    "train --data sample --run r --variant smal_images": "did you mean small_images?",
    "tune --data nowhere --run r": "unknown data 'nowhere'",
    "evaluate nowhere": "no run at nowhere",
    "evaluate cifar10 --data nowhere": "unknown data 'nowhere'",
    "evaluate there --ensemble nowhere": "no run at nowhere",
    "compare there nowhere": "no run at nowhere",
    "export nowhere --to m": "no run at nowhere",
    "export cifr10 --to m": "did you mean cifar10?",
    "serve nowhere": "no model at nowhere",
    "predict nowhere.png --weights cifar10": "no image file or folder at nowhere.png",
    "predict image.png --weights cifar": "did you mean cifar10?",
    "predict image.png --model nowhere": "no model at nowhere",
    "explain image.png --weights cifar --to e": "did you mean cifar10?",
    "explain image.png --model nowhere --to e": "no network 'nowhere'",
    "inspect --data nowhere --to i": "unknown data 'nowhere'",
    "recipes flower17": "did you mean flowers17?",
}


def test_wrong_names_are_found_before_a_framework_is_imported(tmp_path):
    code = """
import contextlib, io, json, sys
sys.modules["tensorflow"] = sys.modules["keras"] = None
from keras_googlenet.cli import main
found = {}
for line in json.loads(sys.argv[1]):
    sys.argv = ["keras-googlenet", *line.split()]
    error = io.StringIO()
    with contextlib.redirect_stderr(error):
        try:
            main()
        except SystemExit as end:
            found[line] = (end.code, error.getvalue())
print(json.dumps(found))
"""
    (tmp_path / "there").mkdir()
    (tmp_path / "image.png").touch()
    found = json.loads(run_python(code, json.dumps(list(WRONG_NAMES)), cwd=tmp_path))
    for line, message in WRONG_NAMES.items():
        exit_code, error = found[line]
        assert exit_code == 2, line
        assert error.startswith("error: "), error
        assert message in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.png", "there"]
