"""Searches in processes of their own: killed, interrupted, in several, failing; and what they leave."""

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from keras_googlenet import (
    Architecture,
    ImageData,
    Interrupted,
    RunConfig,
    TuneConfig,
    UserError,
    train,
    tune,
)
from keras_googlenet.tuning import results
from keras_googlenet.tuning.report import report

CLASSES = ("Sneaker", "Trouser")


@pytest.fixture(scope="module")
def data(sample):
    """A few images of two classes."""
    chosen = [index for index, label in enumerate(sample["train_labels"]) if label in (7, 1)][:120]
    images, labels = sample["train_images"][chosen], (sample["train_labels"][chosen] == 1).astype(int)
    return ImageData.from_arrays(
        (images[:100], labels[:100]), (images[100:], labels[100:]), class_names=CLASSES
    )


@pytest.fixture(scope="module")
def folder_of_images(data, tmp_path_factory):
    """The same as files, for other processes."""
    import cv2

    folder = tmp_path_factory.mktemp("few")
    for name in CLASSES:
        (folder / name).mkdir()
    for index, (image, label) in enumerate(zip(data.train.images, data.train.labels, strict=True)):
        cv2.imwrite(str(folder / CLASSES[label] / f"{index}.png"), image)
    return folder


@pytest.fixture
def options(tiny_variant, tmp_path):
    """Of a search of a second or two."""
    return {
        "run": tmp_path / "search",
        "variant": str(tiny_variant),
        "image_size": 28,
        "epochs": 2,
        "batch_size": 20,
        "precision": "float32",
    }


def table(folder):
    with (folder / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def states(folder):
    """By trial: its state, as the search's files tell at this moment."""
    files = sorted(Path(folder).glob("trial_*/trial.json"))
    return {file.parent.name: json.loads(file.read_text())["status"] for file in files}


def command(folder, images, tiny_variant, *more):
    flags = [sys.executable, "-m", "keras_googlenet.cli", "tune", "--data", str(images), "--run", str(folder)]
    flags += ["--variant", str(tiny_variant), "--image-size", "28", "--batch-size", "20", "--space", "block"]
    return [*flags, "--precision", "float32", *more]


def wait_for(what, seconds=120):
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.fixture(scope="module")
def searched(tiny_variant, data, tmp_path_factory):
    """The folder of a finished search, its trials, and what it printed."""
    folder = tmp_path_factory.mktemp("searches") / "search"
    training = RunConfig(
        run=folder,
        variant=str(tiny_variant),
        image_size=28,
        epochs=2,
        batch_size=20,
        precision="float32",
    )
    config = TuneConfig(
        training=training, space="block", trials=3, max_params=6500, extras=("learning_rate",)
    )
    return config, tune(config, data=data)


# --- what it leaves --------------------------------------------------------------------------------


def test_a_search_leaves_its_results(searched):
    config, trials = searched
    folder = config.training.run
    rows = table(folder)
    assert [row["status"] for row in rows] == ["COMPLETED"] * 3
    assert rows[0]["block 3a"] == "8 16 16 8 8 8"  # the unchanged network, beyond the budget
    assert [row["within_budget"] for row in rows] == ["False", "True", "True"]
    assert all(int(row["parameters"]) <= 6500 for row in rows[1:])
    assert all(float(row["latency_ms"]) > 0 and float(row["seconds"]) > 0 for row in rows)
    for row in rows:
        scores = [float(score) for score in row["val_main_accuracy_by_epoch"].split()]
        assert len(scores) == 2
        assert max(scores) == pytest.approx(float(row["val_main_accuracy"]), abs=1e-4)
    best = max(trials[1:], key=lambda trial: trial.score)
    assert results.best_trial(trials).score == best.score
    assert Architecture.from_json((folder / "best.json").read_text()).blocks != trials[0].architecture.blocks
    for picture in ("pareto.png", "importance.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")


def test_tensorboard_has_the_hyperparameters(searched):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(searched[0].training.run / "tensorboard/1"))
    events.Reload()
    assert "_hparams_/session_start_info" in events.summary_metadata
    assert "_hparams_/session_end_info" in events.summary_metadata


def test_a_finished_search_is_left_alone(searched, data, capsys):
    config, trials = searched
    before = (config.training.run / "oracle.json").read_bytes()
    assert tune(config, data=data) == trials
    assert (config.training.run / "oracle.json").read_bytes() == before
    assert "trial" in capsys.readouterr().out


def test_the_report_is_made_anew_from_the_folder(searched):
    folder = searched[0].training.run
    made = ("trials.csv", "best.json", "pareto.png", "importance.png")
    before = {name: (folder / name).read_bytes() for name in made}
    for name in made:
        (folder / name).unlink()
    code = "import sys; from keras_googlenet.cli import main; main(); assert 'keras' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, "tune", "--report", str(folder)], check=True)
    assert {name: (folder / name).read_bytes() for name in made} == before


@pytest.mark.ci
def test_the_winner_trains_in_full(searched, folder_of_images, tmp_path):
    """With the command line's `--architecture`, its channels as they are beside a recipe's width."""
    best, run = searched[0].training.run / "best.json", tmp_path / "run"
    flags = [sys.executable, "-m", "keras_googlenet.cli", "train", "--architecture", str(best)]
    flags += ["--data", str(folder_of_images), "--run", str(run), "--image-size", "28", "--epochs", "1"]
    subprocess.run([*flags, "--width", "2"], check=True, capture_output=True)
    config = json.loads((run / "config.json").read_text())
    assert (config["variant"], config["width"]) == (str(best), 1.0)


def test_another_search_in_the_folder_is_refused(searched, data, options):
    config = searched[0]
    other = TuneConfig(training=config.training, space="block", trials=3, max_params=6000)
    with pytest.raises(UserError, match="was started with a different `extras`, `max_params`: resume"):
        tune(other, data=data)
    (options["run"]).mkdir()
    (options["run"] / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="exists and does not hold a search"):
        tune(TuneConfig(training=RunConfig(**options), space="block"), data=data)


def test_a_process_that_was_killed_as_it_began_is_no_obstacle(searched, options):
    search = replace(results.load(searched[0].training.run), config=TuneConfig(training=RunConfig(**options)))
    (options["run"]).mkdir()
    (options["run"] / ".search.json.123").write_text("{")
    results.record(search)
    assert results.load(options["run"]) == search


# --- mistakes and failures -------------------------------------------------------------------------


def test_a_server_s_environment_is_refused_before_it_begins(data, options, monkeypatch):
    monkeypatch.setenv("TF_ONEDNN_ASSUME_FROZEN_WEIGHTS", "1")
    with pytest.raises(UserError, match="is for a server"):
        tune(TuneConfig(training=RunConfig(**options)), data=data)
    assert not options["run"].exists()


@pytest.mark.parametrize(
    ("search", "training", "message"),
    [
        ({"max_params": 100}, {}, "too few of 2000 samples"),
        ({"max_latency_ms": 1e-6}, {}, "the narrowest network takes longer"),
        ({}, {"sync_batch_norm": True}, "expected no `sync_batch_norm` or `gradient_exchange` in a search"),
        ({}, {"image_size": 1, "variant": "bn"}, "bn needs images of 79 pixels at least, got 1"),
    ],
)
def test_a_search_that_cannot_be_is_refused_before_it_begins(search, training, message, data, options):
    config = TuneConfig(training=RunConfig(**options | training), space="block", **search)
    with pytest.raises(UserError, match=message):
        tune(config, data=data)
    assert not options["run"].exists()


def test_a_search_without_validation_images_is_refused(data, options):
    undivided = replace(data, validation=data.validation.take([]))
    with pytest.raises(UserError, match=r"expected validation images.*set `validation_fraction`"):
        tune(TuneConfig(training=RunConfig(**options)), data=undivided)
    assert not options["run"].exists()


def test_networks_of_one_name_are_refused(data, options, tiny_variant, tmp_path):
    other = tmp_path / "other.json"
    other.write_text(Architecture.from_json(Path(tiny_variant).read_text()).scaled(2).to_json())
    name = Architecture.from_json(other.read_text()).name
    other.write_text(other.read_text().replace(name, "tiny"))
    with pytest.raises(UserError, match=r"expected `variants` of different names, got 'tiny'.* twice"):
        tune(TuneConfig(training=RunConfig(**options), variants=(str(other),)), data=data)


@pytest.mark.parametrize(
    ("search", "training", "message"),
    [
        ({"trials": 1}, {}, "expected `trials` to be between 2"),
        ({"space": "depth"}, {}, "expected `space` to be one of stage_width, branch_ratio, block"),
        ({"extras": ("seed",)}, {}, "expected `extras` to be of dropout"),
        ({}, {"variant": "nin"}, "expected a GoogLeNet"),
        ({}, {"weights": "imagenet"}, "expected no `weights` or `freeze`"),
        ({}, {"batch_size": "auto"}, "expected a number as `batch_size`"),
        ({}, {"whiten": True, "recipe": "r"}, r"`whiten` .* to be false .*\(the recipe r sets them\)"),
    ],
)
def test_options_that_make_no_search(search, training, message, options):
    with pytest.raises(UserError, match=message):
        TuneConfig(training=RunConfig(**options | training), **search)


@pytest.mark.ci
def test_a_search_whose_trials_all_fail_is_an_error(data, options, capsys):
    training = RunConfig(**options | {"learning_rate": 1e30})
    with pytest.raises(UserError, match=r"the first 3 trials all failed, the last with .*no longer finite"):
        tune(TuneConfig(training=training, space="block", trials=5), data=data)
    assert capsys.readouterr().err.count("FAILED") >= 3
    with pytest.raises(UserError, match=r"all 3 failed, the last was trial 2: .*no longer finite"):
        report(options["run"])


@pytest.mark.ci
def test_a_failed_trial_is_told_and_counts(data, options, capsys, monkeypatch):
    from keras_googlenet.tuning import trials

    def build(self, hp):
        if len(builds := states(options["run"])) == 2:
            raise MemoryError(f"no room for {len(builds)}")
        return original(self, hp)

    original = trials.HyperGoogLeNet.build
    monkeypatch.setattr(trials.HyperGoogLeNet, "build", build)
    found = tune(TuneConfig(training=RunConfig(**options), space="block", trials=3), data=data)
    assert [trial.status for trial in found] == ["COMPLETED", "FAILED", "COMPLETED"]
    out, error = capsys.readouterr()
    assert "trial 1 FAILED: MemoryError: no room for 2" in error
    lines = [line.split(": ", 1)[1] for line in out.splitlines() if " of 3 done" in line]
    assert re.fullmatch(
        r"trial 0 0\.\d{4}; 1 of 3 done, best 0\.\d{4} \(trial 0\), about \d:\d\d:\d\d left", lines[0]
    )
    assert lines[1].startswith("trial 1 FAILED; 2 of 3 done, best ")
    assert lines[2].startswith("trial 2 ")
    assert not lines[2].endswith("left")
    assert table(options["run"])[1]["error"] == "MemoryError: no room for 2"


# --- ends and beginnings ---------------------------------------------------------------------------


@pytest.mark.slow
def test_ctrl_c_leaves_a_search_to_go_on_with(data, options, monkeypatch):
    from keras_googlenet.tuning.trials import FollowTrial

    def interrupt(self, epoch, logs=None):
        original(self, epoch, logs)
        if len(states(options["run"])) == 2:
            monkeypatch.undo()
            os.kill(os.getpid(), signal.SIGINT)

    original = FollowTrial.on_epoch_end
    monkeypatch.setattr(FollowTrial, "on_epoch_end", interrupt)
    config = TuneConfig(training=RunConfig(**options), space="block", trials=3)
    with pytest.raises(Interrupted, match="rerun to resume") as stopped:
        tune(config, data=data)
    assert stopped.value.signal == signal.SIGINT
    assert list(states(options["run"]).values()) == ["COMPLETED", "RUNNING"]
    assert [trial.status for trial in tune(config, data=data)] == ["COMPLETED"] * 3


@pytest.mark.slow
def test_a_search_goes_on_after_sigkill(folder_of_images, tiny_variant, tmp_path):
    """Killed in the middle of its second trial, it ends with as many trials as one that was not."""
    folder = tmp_path / "search"
    line = command(folder, folder_of_images, tiny_variant, "--trials", "3")
    first = subprocess.Popen([*line, "--epochs", "3"], stdout=subprocess.PIPE)
    try:
        wait_for(lambda: len(list(folder.glob("trial_1/epochs.csv"))) == 1)
    finally:
        first.kill()
        first.communicate()
    assert list(states(folder).values()) == ["COMPLETED", "RUNNING"]
    second = subprocess.run([*line, "--epochs", "3"], capture_output=True, text=True)
    assert second.returncode == 0, second.stderr
    assert "1 done already" in second.stdout
    assert "trial 0 " not in second.stdout
    assert list(states(folder).values()) == ["COMPLETED"] * 3
    assert [len(row["val_main_accuracy_by_epoch"].split()) for row in table(folder)] == [3, 3, 3]


@pytest.mark.slow
def test_two_workers_share_one_oracle(folder_of_images, tiny_variant, tmp_path):
    """With rates and dropouts among the values, which the wire rounds."""
    folder = tmp_path / "search"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    line = command(
        folder, folder_of_images, tiny_variant, "--trials", "7", "--epochs", "1", "--oracle", address
    )
    line += ["--extras", "learning_rate", "--extras", "dropout", "--tuner-id"]
    names = ("chief", "worker0", "worker1")
    processes = {name: subprocess.Popen([*line, name], stdout=-1, stderr=-1, text=True) for name in names}
    try:
        said = {name: process.communicate(timeout=300) for name, process in processes.items()}
    finally:
        for process in processes.values():
            process.kill()
    assert {name: process.returncode for name, process in processes.items()} == dict.fromkeys(names, 0), said
    assert list(states(folder).values()) == ["COMPLETED"] * 7
    lines = [line for line in said["chief"][0].splitlines() if " of 7 done" in line]
    assert sorted(line.split(": trial ")[1][0] for line in lines) == list("0123456")
    rows = table(folder)
    assert len({(row["block 3a"], row["learning_rate"], row["dropout"]) for row in rows}) == 7
    began = [events.parent.name for events in folder.glob("tensorboard/*/events*")]
    assert sorted(began) == list("0123456")  # one file each: none ran twice
    writers = {events.name.split(".")[-3] for events in folder.glob("tensorboard/*/events*")}
    assert len(writers) == 2


@pytest.mark.slow
def test_hyperband_goes_on_from_its_weights(data, options):
    training = RunConfig(**options | {"epochs": 4})
    trials = tune(TuneConfig(training=training, space="block", algorithm="hyperband", trials=7), data=data)
    continued = [trial for trial in trials if "tuner/trial_id" in trial.values]
    assert [trial.status for trial in trials] == ["COMPLETED"] * 7
    assert len(trials[0].by_epoch) == 4
    for trial in continued:
        assert len(trial.by_epoch) == trial.values["tuner/epochs"] - trial.values["tuner/initial_epoch"]
    assert continued


def test_a_trial_is_trained_as_a_run_is(searched, data, tmp_path):
    """The unchanged network's figures are those of `train` with the same options."""
    config, trials = searched
    run = tmp_path / "run"
    train(RunConfig(**config.training.to_dict() | {"run": run}), data=data)
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val_accuracy"]) for row in rows] == pytest.approx(trials[0].by_epoch)
