"""A run that was stopped, however it was, ends with the figures of one that was not."""

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from keras_googlenet import RunConfig, UserError, train
from keras_googlenet.files import LOCK, held
from keras_googlenet.images.spec import Preprocessing
from keras_googlenet.run import checkpoint
from keras_googlenet.run import folder as run_folder
from keras_googlenet.training.network import build

# All that has a state: averages, momentum, dropout, shuffling, and random changes to images and batches.
OPTIONS = {
    "data": "sample",
    "classes": ("Trouser", "Bag"),
    "image_size": 28,
    "augment": ("crop", "mixup"),
    "balance": True,
    "epochs": 3,
    "batch_size": 40,  # 18 steps an epoch
    "average": 0.9,
    "accumulate": 2,
    "schedule": "cosine",
    "warmup_epochs": 1.0,
    "weight_decay": 1e-4,
    "checkpoint_minutes": 0.0,  # after every step
    "precision": "float32",
}
STEPS, EPOCHS = 18, 3


@pytest.fixture(scope="module")
def options(tiny_variant):
    return OPTIONS | {"variant": str(tiny_variant)}


def command(run, options) -> list[str]:
    flags = [sys.executable, "-m", "keras_googlenet.cli", "train", "--run", str(run), "--resume"]
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        for one in value if isinstance(value, tuple) else (value,):
            flags += [flag] if one is True else [flag, str(one)]
    return flags


def steps_done(run) -> int:
    """Of the run's last checkpoint, over all epochs; -1 if there is none."""
    try:
        with np.load(run / "checkpoints/last.npz") as stored:
            cursor = json.loads(str(stored[checkpoint.PROGRESS]))["cursor"]
    except FileNotFoundError:
        return -1
    return cursor["epoch"] * STEPS + cursor["step"]


def metrics(run) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def control(tmp_path_factory, options):
    """The same run, not interrupted."""
    run = tmp_path_factory.mktemp("control") / "run"
    train(RunConfig(run=run, **options))
    return run


def stop(run, options, at: int, number: int) -> subprocess.Popen:
    """Start or resume the run in a process of its own; send it a signal once it has done `at` steps."""
    process = subprocess.Popen(
        command(run, options), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while steps_done(run) < at:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    process.send_signal(number)
    process.wait(timeout=60)
    return process


def check_killed_runs_match(control, options, run, kills: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    moments = sorted(random.choice(np.arange(1, STEPS * EPOCHS - 3), kills, replace=False))
    assert any(moment % STEPS for moment in moments)
    for moment in moments:
        stop(run, options, moment, signal.SIGKILL)
        time.sleep(random.uniform(0, 0.05))
        assert moment <= steps_done(run) < STEPS * EPOCHS
        assert not (run / "summary.json").exists()
    summary = train(RunConfig(run=run, **options), resume=True)
    assert metrics(run) == metrics(control)
    assert summary["test_accuracy"] == json.loads((control / "summary.json").read_text())["test_accuracy"]
    for saved, expected in zip(
        *(run_folder.load(folder).model.get_weights() for folder in (run, control)), strict=True
    ):
        np.testing.assert_array_equal(saved, expected)


@pytest.mark.slow
def test_killed_ten_times(control, options, tmp_path):
    check_killed_runs_match(control, options, tmp_path / "run", kills=10, seed=14)


@pytest.mark.ci
def test_sigterm_leaves_a_checkpoint_of_the_last_step_and_tells_how_to_go_on(control, options, tmp_path):
    run, options = tmp_path / "run", options | {"checkpoint_minutes": 60}
    process = stop(run, options, STEPS, signal.SIGTERM)  # an epoch's end leaves one too
    assert process.returncode == 128 + signal.SIGTERM
    assert steps_done(run) > STEPS
    assert f"keras-googlenet train --run {run} --resume" in process.stderr.read().splitlines()[-1]
    train(RunConfig(run=run, **options), resume=True)
    assert metrics(run) == metrics(control)


@pytest.mark.ci
def test_a_run_left_after_its_last_step_is_finished(control, options, tmp_path, monkeypatch):
    """Before it was tested and saved."""
    monkeypatch.setattr("keras_googlenet.training.train._test", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(RunConfig(run=tmp_path / "run", **options))
    monkeypatch.undo()
    train(RunConfig(run=tmp_path / "run", **options), resume=True)
    assert metrics(tmp_path / "run") == metrics(control)
    model, expected = (run_folder.load(folder).model for folder in (tmp_path / "run", control))
    for saved, other in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(saved, other)


def test_a_finished_run_is_left_alone(control, options, capsys):
    before = (control / "model.keras").stat().st_mtime_ns
    summary = train(RunConfig(run=control, **options), resume=True)
    assert "finished already" in capsys.readouterr().out
    assert summary == json.loads((control / "summary.json").read_text())
    assert (control / "model.keras").stat().st_mtime_ns == before


@pytest.mark.ci
@pytest.mark.parametrize("content", ["{", "null"])
def test_a_damaged_summary_is_made_again(content, control, options, tmp_path, capsys):
    """From the last checkpoint, without training again."""
    run = shutil.copytree(control, tmp_path / "run")
    (run / "summary.json").write_text(content)
    summary = train(RunConfig(run=run, **options), resume=True)
    assert "summary.json is not a run's summary" in capsys.readouterr().err
    expected = json.loads((control / "summary.json").read_text())
    assert summary["test_accuracy"] == expected["test_accuracy"]
    assert json.loads((run / "summary.json").read_text()) == summary
    assert metrics(run) == metrics(control)


def test_a_run_that_another_process_trains_is_refused(control, options, tmp_path):
    """Its files stay as they are."""
    run = shutil.copytree(control, tmp_path / "run")
    (run / "summary.json").unlink()
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name != LOCK}
    with held(run, run_folder.WORK):
        message = rf"process {os.getpid()} on \S+ trains in {run}: wait for it"
        with pytest.raises(UserError, match=message):
            train(RunConfig(run=run, **options), resume=True)
        assert {path: path.stat().st_mtime_ns for path in before} == before


def test_other_options_are_named(control, options):
    with pytest.raises(UserError, match="a different `learning_rate`, `seed`: resume it with"):
        train(RunConfig(run=control, **options | {"learning_rate": 0.5, "seed": 3}), resume=True)


@pytest.mark.ci
def test_a_full_disk_leaves_the_checkpoint_before_whole(control, options, tmp_path, monkeypatch):
    run, saves = tmp_path / "run", []

    def savez(file, **arrays):
        saves.append(1)
        if len(saves) == 4:
            file.write(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")
        return np_savez(file, **arrays)

    np_savez = np.savez
    monkeypatch.setattr(checkpoint.np, "savez", savez)
    with pytest.raises(UserError, match=r"the disk is full .*No space left"):
        train(RunConfig(run=run, **options))
    monkeypatch.undo()
    assert steps_done(run) == 3
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["last.npz", "previous.npz"]


@pytest.mark.parametrize("damage", ["truncated", "text"])
def test_a_corrupt_checkpoint_is_named(damage, control, options, tmp_path):
    whole = (control / "checkpoints/last.npz").read_bytes()
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    for name in ("config.json", "labels.txt"):
        (run / name).write_bytes((control / name).read_bytes())
    (run / "checkpoints/last.npz").write_bytes({"truncated": whole[:5000], "text": b"hello"}[damage])
    with pytest.raises(UserError, match=r"cannot read the checkpoint .*last\.npz"):
        train(RunConfig(run=run, **options), resume=True)


def test_a_checkpoint_of_another_network_is_named(control, options):
    other = RunConfig(run="other", **options | {"width": 2.0})
    model = build(other, Preprocessing(28, 28, 1), 2, "float32")
    model.optimizer.build(model.trainable_variables)
    with pytest.raises(UserError, match="is of another network or optimizer"):
        checkpoint.restore(control / "checkpoints/last.npz", model)
