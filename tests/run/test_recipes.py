"""Recipes as a user meets them: valid, buildable, and what their own command line says."""

import dataclasses
import json
import shlex
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_googlenet import RunConfig, UserError, cli
from keras_googlenet.data.augmentations import AUGMENTATIONS
from keras_googlenet.images.spec import Preprocessing
from keras_googlenet.run import folder as run_folder
from keras_googlenet.run.config import SCHEDULES
from keras_googlenet.run.recipes import RECIPES, recipe_options
from keras_googlenet.training import network

#                      channels, classes, outputs, parameters
NETWORKS = {
    "fashion_mnist_d2l": (1, 10, 1, 6_998_552 - 990 * 1025 - 2 * 49 * 64),  # of 1000 classes, in color
    "fashion_mnist_best": (1, 10, 1, 4_277_842 - 2 * 4 * 32),  # of one channel, by 2 x 2 and 32 filters
    "fashion_mnist_fast": (1, 10, 1, 688_978 - 2 * 4 * 16),  # of one channel, by 2 x 2 and 16 filters
    "nin_fashion_mnist": (1, 10, 1, 149_542),  # by hand
    "cifar10_listing": (3, 10, 3, 12_997_352 - 3 * 990 * 1025),
    "cifar10_best": (3, 10, 1, 3_495_424 - 990 * 769),  # of 1000 classes
    "cifar10_fast": (3, 10, 1, 688_978),
    "flowers17": (3, 17, 3, 13_400_888 - 3 * 983 * 1025 - 2 * (2048 - 128) * 1024),  # heads see 1 x 1
    "slides_two_class": (3, 2, 3, 7_905_192 - 998 * 1025 - 2 * 998 * 257),
    "imagenet_paper": (3, 1000, 3, 13_378_280),
}


def parse(line: str) -> RunConfig:
    """The run that a command line asks for."""
    program, *arguments = shlex.split(line)
    assert program == "keras-googlenet"
    called, bound, _ = cli.app.parse_args(arguments, exit_on_error=False, print_error=False)
    assert called is cli.train.train
    return bound.arguments["config"]


def command_of(recipe: str) -> str:
    """The line of its docstring that is a command."""
    (line,) = [
        line.strip()
        for line in RECIPES[recipe].__doc__.splitlines()
        if line.strip().startswith("keras-googlenet")
    ]
    return line


def assert_one_line(error: str) -> None:
    assert error.startswith("error: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_builds_its_network(recipe):
    options = {"data": "a folder"} | recipe_options(recipe)
    config = RunConfig(**options, run="run")
    channels, classes, outputs, parameters = NETWORKS[recipe]
    model = network.build(
        config, Preprocessing(config.image_size, config.image_size, channels), classes, "float32"
    )
    assert len(model.outputs) == outputs
    assert model.count_params() == parameters


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_s_command_asks_for_its_options(recipe):
    line = command_of(recipe)
    config = parse(line)
    options = recipe_options(recipe)
    assert f"--recipe {recipe} " in line
    assert ("--data" in line) == ("data" not in options)
    expected = RunConfig(**{"data": config.data} | options, recipe=recipe, run=f"runs/{recipe}")
    assert config == expected


def test_the_recipe_for_a_gpu_parses_too():
    """`cifar10_best` says what to add there."""
    text = " ".join(RECIPES["cifar10_best"].__doc__.split())
    additions = text.split("on a GPU add `")[1].split("`")[0]
    config = parse(f"{command_of('cifar10_best')} {additions}")
    assert (config.variant, config.width, config.epochs) == ("short", 2.0, 40)
    assert config.augment == ("translate", "alternate", "cutout")
    assert config.learning_rate == recipe_options("cifar10_best")["learning_rate"]


# A value of each option that no recipe has, and how to give it. The last three depend on the recipe's.
OTHERS = {
    "data": ("sample", "--data sample"),
    "run": (Path("elsewhere"), "--run elsewhere"),
    "classes": (("frog", "ship"), "--classes frog --classes ship"),
    "test_split": ("every:7", "--test-split every:7"),
    "tfds_manual_dir": (Path("originals"), "--tfds-manual-dir originals"),
    "skip_corrupt": (True, "--skip-corrupt"),
    "validation_fraction": (0.3, "--validation-fraction 0.3"),
    "image_size": (111, "--image-size 111"),
    "channels": (1, "--channels 1"),
    "augment": (("randaugment", "mixup"), "--augment randaugment --augment mixup"),
    "min_area": (0.5, "--min-area 0.5"),
    "label_smoothing": (0.2, "--label-smoothing 0.2"),
    "class_weights": (True, "--class-weights"),
    "balance": (True, "--balance"),
    "groups": (Path("groups.csv"), "--groups groups.csv"),
    "variant": ("v2", "--variant v2"),
    "width": (2.0, "--width 2"),
    "dropout": (0.7, "--dropout 0.7"),
    "weights": ("imagenet", "--weights imagenet"),
    "freeze": ("4a", "--freeze 4a"),
    "aux_weight": (0.7, "--aux-weight 0.7"),
    "whiten": (True, "--whiten"),
    "identity_start": (True, "--identity-start"),
    "head_scale": (0.25, "--head-scale 0.25"),
    "epochs": (3, "--epochs 3"),
    "batch_size": (7, "--batch-size 7"),
    "accumulate": (5, "--accumulate 5"),
    "learning_rate": (1e-5, "--learning-rate 1e-5"),
    "decay_rate": (0.5, "--decay-rate 0.5"),
    "decay_epochs": (2, "--decay-epochs 2"),
    "decay_power": (2.0, "--decay-power 2"),
    "warmup_epochs": (0.5, "--warmup-epochs 0.5"),
    "momentum": (0.3, "--momentum 0.3"),
    "weight_decay": (0.01, "--weight-decay 0.01"),
    "bias_multiplier": (3.0, "--bias-multiplier 3"),
    "norm_multiplier": (3.0, "--norm-multiplier 3"),
    "clip_norm": (1.5, "--clip-norm 1.5"),
    "average": (0.5, "--average 0.5"),
    "early_stopping": (4, "--early-stopping 4"),
    "precision": ("bfloat16", "--precision bfloat16"),
    "checkpoint_minutes": (1.5, "--checkpoint-minutes 1.5"),
    "sync_batch_norm": (True, "--sync-batch-norm"),
    "gradient_exchange": ("bfloat16", "--gradient-exchange bfloat16"),
    "seed": (9, "--seed 9"),
    "aux_heads": ...,
    "nesterov": ...,
    "schedule": ...,
    "group_duplicates": ...,
}


def test_every_option_is_looked_at():
    assert {*OTHERS, "recipe"} == {field.name for field in dataclasses.fields(RunConfig)}


# With and without data, classes, heads, Nesterov and a schedule of their own.
@pytest.mark.parametrize("recipe", ["fashion_mnist_d2l", "imagenet_paper", "flowers17", "slides_two_class"])
def test_an_option_beside_a_recipe_wins(recipe):
    start = parse(command_of(recipe))
    schedule = next(name for name in SCHEDULES if name != start.schedule)
    cases = OTHERS | {
        "aux_heads": (not start.aux_heads, "--no-aux-heads" if start.aux_heads else "--aux-heads"),
        "nesterov": (not start.nesterov, "--no-nesterov" if start.nesterov else "--nesterov"),
        "schedule": (schedule, f"--schedule {schedule}"),
        "group_duplicates": (
            not start.group_duplicates,
            "--no-group-duplicates" if start.group_duplicates else "--group-duplicates",
        ),
    }
    for name, (value, flag) in cases.items():
        line = command_of(recipe)
        if name in ("data", "run"):  # each can be given once
            line = line.replace(f"--{name} {getattr(start, name)}", "")
        changed = {name}
        if name == "epochs":
            flag += " --warmup-epochs 0"  # of which there cannot be more than epochs
            changed.add("warmup_epochs")
        if name == "early_stopping":
            flag += " --validation-fraction 0.1"  # by which it stops
            changed.add("validation_fraction")
        config = parse(f"{line} {flag}")
        assert getattr(config, name) == value != getattr(start, name)
        assert set(config.differences(start)) <= changed


def test_a_list_of_a_recipe_can_be_emptied():
    assert parse(f"{command_of('fashion_mnist_best')} --no-augment").augment == ()


# --- what is printed -----------------------------------------------------------------------------


def test_recipes_are_listed(command):
    code, out, err = command("recipes")
    assert (code, err) == (0, "")
    for line, (name, recipe) in zip(out.splitlines(), RECIPES.items(), strict=True):
        assert line.split(maxsplit=1) == [name, recipe.__doc__.splitlines()[0]]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_tells_all_of_itself(recipe, command):
    """The options that it prints can be typed: they parse to its own."""
    code, out, err = command(*f"recipes {recipe}".split())
    assert (code, err) == (0, "")
    assert out.startswith(RECIPES[recipe].__doc__.splitlines()[0])
    assert command_of(recipe) in out
    flags = [line.strip() for line in out.splitlines() if line.strip().startswith("--")]
    flags = flags[-len(recipe_options(recipe)) :]  # the docstring may name some before
    start = parse(command_of(recipe))
    data = "" if "data" in recipe_options(recipe) else f"--data {start.data}"
    assert parse(f"keras-googlenet train --run {start.run} {data} {' '.join(flags)}").differences(start) == []


@pytest.mark.parametrize("line", ["recipes no_such", "train --recipe no_such --data sample --run {run}"])
def test_an_unknown_recipe_is_one_line(line, command, tmp_path):
    code, out, err = command(*line.format(run=tmp_path / "run").split())
    assert (code, out) == (2, "")
    assert_one_line(err)
    assert "expected a recipe of fashion_mnist_d2l, " in err
    assert "got 'no_such'" in err
    assert not (tmp_path / "run").exists()


def test_a_recipe_without_data_asks_for_it(command, tmp_path):
    code, _, err = command(*f"train --recipe flowers17 --run {tmp_path / 'run'}".split())
    assert code == 2
    assert_one_line(err)
    assert "--data" in err


# --- going on with a run -------------------------------------------------------------------------


def optional(strategy):
    return st.none() | strategy


CONFIGS = st.builds(
    RunConfig,
    data=st.sampled_from(["sample", "tfds:cifar10", "some folder/of images"]),
    run=st.just("run"),
    classes=optional(st.just(("T-shirt/top", "Bag"))),
    test_split=optional(st.just("every:4")),
    tfds_manual_dir=optional(st.just("files/of tfds")),
    skip_corrupt=st.booleans(),
    image_size=optional(st.integers(1, 300)),
    channels=optional(st.sampled_from([1, 3])),
    augment=st.lists(st.sampled_from(sorted(AUGMENTATIONS)), unique=True),
    label_smoothing=st.floats(0, 0.9),
    variant=st.sampled_from(["bn", "vgg11", "my network.json"]),
    dropout=optional(st.floats(0, 0.9)),
    weights=optional(st.just("runs/first")),
    aux_heads=st.booleans(),
    schedule=st.sampled_from(SCHEDULES),
    learning_rate=st.floats(1e-8, 10),
    nesterov=st.booleans(),
    clip_norm=optional(st.floats(1e-3, 10)),
    average=optional(st.floats(0.1, 0.9999)),
    early_stopping=optional(st.integers(1, 9)),
    seed=st.integers(0, 2**32 - 1),
)


@given(CONFIGS)
@settings(max_examples=40)
def test_resume_with_the_run_alone_takes_the_recorded_options(tmp_path_factory, config):
    run = tmp_path_factory.mktemp("recorded")
    run_folder.write_json(run / "config.json", config.to_dict() | {"preprocessing": {"of": "no option"}})
    assert parse(f"keras-googlenet train --run {run} --resume").differences(config) == []


@pytest.fixture
def recorded(tmp_path):
    """The folder of a run that is finished, as far as its files tell."""
    config = RunConfig(data="sample", run=tmp_path, variant="v2", augment=("flip",), learning_rate=0.2)
    run_folder.write_json(tmp_path / "config.json", config.to_dict())
    run_folder.write_json(tmp_path / "summary.json", {"test_accuracy": 0.5})
    (tmp_path / "model.keras").touch()
    return tmp_path


def test_resume_reaches_the_run(recorded, command):
    code, out, err = command(*f"train --run {recorded} --resume".split())
    assert (code, err) == (0, "")
    assert "finished already" in out


@pytest.mark.parametrize("flag", ["--learning-rate 0.3", "--data sample", "--recipe flowers17 --data sample"])
def test_resume_with_other_options_is_one_line(flag, recorded, command):
    """With --data (or a recipe), the options are those of the command line alone."""
    code, out, err = command(*f"train --run {recorded} --resume {flag}".split())
    assert (code, out) == (2, "")
    assert_one_line(err)
    assert "was started with a different" in err
    assert "--learning-rate" in err


def test_resuming_nothing_is_one_line(command, tmp_path):
    code, out, err = command(*f"train --run {tmp_path / 'run'} --resume".split())
    assert (code, out) == (2, "")
    assert_one_line(err)
    assert f"nothing to resume at {tmp_path / 'run'}" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", ["{", "[]", "3", '{"data": "sample", "epochs": "many"}', '{"epochs": 2}'])
def test_resuming_a_corrupt_record_is_one_line(content, command, tmp_path):
    (tmp_path / "config.json").write_text(content)
    code, out, err = command(*f"train --run {tmp_path} --resume".split())
    assert (code, out) == (2, "")
    assert_one_line(err)
    with pytest.raises(UserError, match=r"config\.json is not a run's configuration"):
        run_folder.load_config(tmp_path)


def test_a_record_of_an_older_version_is_read(tmp_path):
    """The options that there were then; what has come since takes its default, what has gone is ignored."""
    old = {
        "data": "flowers", "run": "runs/old", "variant": "paper", "image_size": 96,
        "epochs": 4, "batch_size": 16, "learning_rate": 0.02, "momentum": 0.9, "decay_rate": 0.9,
        "decay_epochs": 2, "aux_heads": True, "aux_weight": 0.3, "validation_fraction": 0.1,
        "precision": "auto", "seed": 3, "weights": None, "freeze": None, "color_jitter": True,
        "preprocessing": Preprocessing(96, 96).to_dict(), "dtype_policy": "float32",
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(old))
    config = run_folder.load_config(tmp_path)
    assert config == RunConfig(
        data="flowers", run="runs/old", variant="paper", image_size=96, epochs=4, batch_size=16,
        learning_rate=0.02, decay_rate=0.9, decay_epochs=2, seed=3,
    )  # fmt: skip
    assert parse(f"keras-googlenet train --run {tmp_path} --resume").differences(config) == []
    assert run_folder.load_preprocessing(tmp_path) == Preprocessing(96, 96)
