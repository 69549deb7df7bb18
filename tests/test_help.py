"""Help pages, and what an unknown option is answered with."""

import contextlib
import shlex

import cyclopts
import pytest

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
    assert known - {"sample", "recipes", "weights", "compare"} <= set(help.EXAMPLES) <= known | {""}


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
    ],
)
def test_unknown_option(command, line, message):
    assert command(*line.split()) == (2, "", f"error: {message}\n")


def test_help_is_a_page_of_cyclopts():
    """What is shown of an option is cyclopts's own, so it follows that of the functions."""
    assert isinstance(cli.app.help_formatter, cyclopts.help.DefaultFormatter)
