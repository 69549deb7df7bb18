"""What starts from a run has the run's network unless it is told otherwise."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from keras_googlenet import RunConfig, UserError, train
from keras_googlenet.network.architecture import Conv
from keras_googlenet.network.variants import VARIANTS
from keras_googlenet.run import folder as run_folder
from keras_googlenet.run.config import network_of
from keras_googlenet.run.recipes import recipe_options
from keras_googlenet.training import network

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A run's folder as far as its options go."""
    folder = tmp_path_factory.mktemp("recorded") / "run"
    config = {
        "variant": "light_stem",
        "width": 0.5,
        "preprocessing": {"height": 32, "width": 32, "channels": 1},
    }
    with run_folder.created(folder, config, ["a", "b"]):
        pass
    return folder


def test_its_network_is_the_run_s(recorded):
    config = RunConfig(data="sample", run="new", weights=str(recorded))
    assert (config.variant, config.width, config.image_size, config.channels) == ("light_stem", 0.5, 32, 1)


def test_options_win(recorded):
    config = RunConfig(data="sample", run="new", weights=str(recorded), width=1, image_size=64, channels=3)
    assert (config.variant, config.width, config.image_size, config.channels) == ("light_stem", 1, 64, 3)


def test_without_a_run_the_defaults_hold(tmp_path):
    for weights in (None, "imagenet", str(tmp_path / "missing")):
        config = RunConfig(data="sample", run="new", weights=weights)
        assert (config.variant, config.width, config.image_size, config.channels) == ("bn", 1.0, None, None)


def test_a_name_may_stand_for_another_network_by_now(recorded, tmp_path):
    """Another version's `short` is another network; a run keeps its own, resumed or started from."""
    named = VARIANTS["light_stem"].scaled(0.5)
    then = replace(named, description="as it was", dropout=0.25)
    run = shutil.copytree(recorded, tmp_path / "run")
    file = run / "architecture.json"
    file.write_text(then.to_json())
    config = RunConfig(data="sample", run="new", weights=str(run))
    assert (config.variant, config.width) == (str(file), 1.0)
    assert network.architecture(config) == then
    resumed = RunConfig(data="sample", run=run, variant="light_stem", width=0.5)
    assert network.architecture(resumed) == then
    file.write_text(replace(named, description="in other words").to_json())
    assert RunConfig(data="sample", run="new", weights=str(run)).variant == "light_stem"
    file.write_text("{")
    with pytest.raises(UserError, match=r"cannot read the architecture .*architecture\.json"):
        RunConfig(data="sample", run="new", weights=str(run))


@pytest.mark.ci
def test_a_network_of_a_file_comes_from_the_run_s_own_copy(command, tmp_path, image_folder, tiny_variant):
    """The file that it was read from may be gone; so may the run whose weights another started from."""
    moved = tmp_path / "mine.json"
    moved.write_text(tiny_variant.read_text())
    options = {"data": str(image_folder), "image_size": 28, "epochs": 1, "batch_size": 8}
    train(RunConfig(run=tmp_path / "first", variant=str(moved), width=2.0, **options))
    moved.unlink()
    found = network_of(tmp_path / "first")
    assert found["variant"] == str(tmp_path / "first/architecture.json")
    train(RunConfig(run=tmp_path / "second", weights=str(tmp_path / "first"), **options))
    first, second = (run_folder.load(tmp_path / name).model for name in ("first", "second"))
    assert [v.shape for v in first.variables] == [v.shape for v in second.variables]
    shutil.rmtree(tmp_path / "first")
    (tmp_path / "second/summary.json").unlink()
    (tmp_path / "second/model.keras").unlink()
    code, _, error = command("train", "--run", tmp_path / "second", "--resume")
    assert code == 0, error
    for one, other in zip(
        second.get_weights(), run_folder.load(tmp_path / "second").model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("content", ["", "[]", '{"variant": "bn"}', "\x00"])
def test_a_damaged_configuration_is_named(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json is not a run's configuration"):
        RunConfig(data="sample", run="new", weights=str(tmp_path))


@pytest.mark.ci
def test_the_example_fine_tunes_from_a_run(tmp_path):
    """As its usage line says, from a run of another architecture than its default."""
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(12):
            pixels = random.integers(0, 255, (40, 40, 3), dtype="uint8")
            cv2.imwrite(str(tmp_path / "photos" / name / f"{number}.png"), pixels)
    options = {"variant": "light_stem", "width": 0.25, "image_size": 32, "epochs": 1, "batch_size": 8}
    train(RunConfig(data=str(tmp_path / "photos"), run=tmp_path / "first", **options))
    command = [sys.executable, str(ROOT / "examples/fine_tune.py"), "photos", "--epochs", "1"]
    command += ["--weights", "first"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    config = json.loads((tmp_path / "runs/fine_tune/all/config.json").read_text())
    assert (config["variant"], config["width"], config["image_size"]) == ("light_stem", 0.25, 32)
    missing = [*command[:-1], "second", "--runs", "runs/other"]
    done = subprocess.run(missing, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: no weights at second")
    assert "Traceback" not in done.stderr


def test_a_recipe_s_warm_up_is_no_longer_than_the_run():
    assert recipe_options("flowers17", epochs=1)["warmup_epochs"] == 1.0
    assert recipe_options("flowers17", epochs=50)["warmup_epochs"] == 5.0
    assert recipe_options("fashion_mnist_d2l", epochs=1).get("warmup_epochs") is None


def test_a_command_s_epochs_shorten_a_recipe_s_warm_up(command, tmp_path):
    """It goes on to look for the data, which is not there."""
    code, _, error = command(
        *("train", "--recipe", "flowers17", "--epochs", "1"),
        *("--data", tmp_path / "none", "--run", tmp_path / "run"),
    )
    assert code == 2
    assert "unknown data" in error


def test_a_warm_up_of_the_user_s_own_is_not_changed(command, tmp_path):
    code, _, error = command(
        *("train", "--recipe", "flowers17", "--epochs", "1", "--warmup-epochs", "2"),
        *("--data", tmp_path / "none", "--run", tmp_path / "run"),
    )
    assert code == 2
    assert "expected --warmup-epochs to be between 0 and the epochs" in error


@pytest.mark.parametrize("filters", [10**9, 10**7])
def test_a_network_beyond_the_memory_is_refused_before_it_is_built(filters, command, image_folder, tmp_path):
    text = VARIANTS["bn"].to_json()
    first = next(stage for stage in VARIANTS["bn"].stages if isinstance(stage, Conv))
    text = text.replace(f'"filters": {first.filters},', f'"filters": {filters},', 1)
    (tmp_path / "large.json").write_text(text)
    code, _, error = command(
        *(
            "train",
            "--architecture",
            tmp_path / "large.json",
            "--data",
            image_folder,
            "--run",
            tmp_path / "run",
        ),
        *("--image-size", "96"),
    )
    assert code == 2
    assert "expected a network that fits in memory" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"filters": 64', '"filters": "64"'),
        ('"filters": 64', '"filters": 1.5'),
        ('"filters": 64', '"filters": -8'),
        ('"filters": 64', '"filters": null'),
        ('"stride": 2', '"stride": 0'),
        ('"kernel": 7', '"kernel": 0'),
        ('"padding": 3', '"padding": "valid"'),
        ('"conv_3x3": 128', '"conv_3x3": true'),
        ('"dropout": 0.4', '"dropout": 7'),
        ('"branch_5x5": "5x5"', '"branch_5x5": "7x7"'),
        ('"name": "3b"', '"name": "3a"'),
        ('"name": "3b"', '"name": 3'),
        ('"batch_norm": true', '"batch_norm": "yes"'),
    ],
)
def test_an_architecture_that_cannot_be_is_refused(old, new, command, image_folder, tmp_path):
    text = VARIANTS["bn"].to_json()
    assert old in text
    (tmp_path / "odd.json").write_text(text.replace(old, new, 1))
    code, _, error = command(
        *(
            "train",
            "--architecture",
            tmp_path / "odd.json",
            "--data",
            image_folder,
            "--run",
            tmp_path / "run",
        ),
        *("--image-size", "96"),
    )
    assert code == 2
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()
