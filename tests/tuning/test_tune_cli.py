"""The command line of a search: what it asks for, and mistakes in one line."""

import shlex

import pytest
from test_search_results import trial

from keras_googlenet import RunConfig, TuneConfig, cli
from keras_googlenet.cli.tune import command as training_command
from keras_googlenet.run.recipes import recipe_options


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "expected --data and --run, or --report"),
        ("--data sample", "--run"),
        ("--data sample --run {run} --space depth", "depth"),
        ("--data sample --run {run} --trials 1", "expected --trials to be between 2"),
        ("--data sample --run {run} --tuner-id worker0", "expected --oracle HOST:PORT with --tuner-id"),
        (
            "--data sample --run {run} --tuner-id chief --oracle here",
            "expected --oracle to be HOST:PORT, got 'here'",
        ),
        (
            "--data sample --run {run} --oracle 127.0.0.1:9",
            "expected KERASTUNER_TUNER_ID with KERASTUNER_ORACLE_IP",
        ),
        ("--data sample --run {run} --variant nin", "expected a GoogLeNet to search the channels of"),
        ("--data sample --run {run} --max-params 9", "too few of 2000 samples of the space stage_width"),
        ("--data sample --run {run} --image-size 20", "bn needs images of 79 pixels at least, got 20"),
        ("--data sample --run {run} --variant missing.json", "cannot read the architecture missing.json"),
        ("--report {run}", "no search at"),
    ],
)
def test_a_mistake_is_one_line(line, message, command, tmp_path):
    code, out, err = command("tune", *line.format(run=tmp_path / "run").split())
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "run").exists()


def parse(line):
    """What a command line asks for."""
    program, *arguments = shlex.split(line)
    assert program == "keras-googlenet"
    called, bound, _ = cli.app.parse_args(arguments, exit_on_error=False, print_error=False)
    return called, bound.arguments


def test_a_search_takes_a_recipe_and_the_options_of_train():
    called, arguments = parse(
        "keras-googlenet tune --recipe flowers17 --data photos --run runs/search --epochs 3 --space block "
        "--algorithm hyperband --trials 20 --max-params 900000 --extras dropout --extras learning_rate"
    )
    assert called is cli.tune.tune
    expected = recipe_options("flowers17", epochs=3) | {"data": "photos"}
    assert arguments["training"] == RunConfig(**expected, recipe="flowers17", run="runs/search")
    assert (arguments["space"], arguments["algorithm"], arguments["trials"]) == ("block", "hyperband", 20)
    assert arguments["max_params"] == 900_000
    assert arguments["extras"] == ("dropout", "learning_rate")


def test_the_command_for_the_winner_trains_as_the_search_did(tmp_path):
    options = recipe_options("flowers17") | {"data": "my images", "classes": ("T-shirt/top", "a b")}
    training = RunConfig(**options, recipe="flowers17", run=tmp_path / "my search")
    config = TuneConfig(training=training, extras=("dropout", "learning_rate"))
    best = trial("3", 0.9, dropout=0.2, learning_rate=0.03)
    called, arguments = parse(training_command(config, best))
    assert called is cli.train.train
    assert arguments["architecture"] == tmp_path / "my search/best.json"
    expected = RunConfig(**options | {"learning_rate": 0.03, "variant": "bn", "width": 1.0}, run="RUN")
    assert arguments["config"].differences(expected) == []


def test_a_search_s_options_are_read_back():
    training = RunConfig(data="sample", run="runs/search", augment=("flip",))
    config = TuneConfig(training=training, variants=("v2",), extras=("dropout",), max_latency_ms=3.5)
    assert TuneConfig.from_dict(config.to_dict()) == config
    longer = TuneConfig.from_dict(config.to_dict() | {"trials": 99, "max_macs": 5})
    assert longer.differences(config) == ["max_macs"]
