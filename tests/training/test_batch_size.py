"""The largest batch that fits: foretold on paper, and found by real steps of a small network."""

import json
import subprocess
from dataclasses import asdict, replace

import pytest

from keras_googlenet import RunConfig, UserError, train
from keras_googlenet.cli import app
from keras_googlenet.images.spec import Preprocessing
from keras_googlenet.run.inputs import open_data
from keras_googlenet.training import batch_size, memory
from keras_googlenet.training.batch_size import Found, Tried, find, foretold
from keras_googlenet.training.inputs import epoch_order
from keras_googlenet.training.memory import available_bytes

OPTIONS = {
    "data": "sample",
    "classes": ("Trouser", "Bag"),
    "image_size": 28,
    "epochs": 1,
    "precision": "float32",
}


@pytest.fixture
def options(tiny_variant):
    return OPTIONS | {"variant": str(tiny_variant), "batch_size": "auto"}


def test_the_next_peak_is_on_the_line_of_the_last_two():
    assert foretold(Tried(8, 1080), Tried(16, 1160)) == 1320  # 1000, and 10 for each image
    assert foretold(Tried(0, 1000), Tried(8, 1080)) == 1160


def test_available_memory_is_the_container_s_where_that_is_less(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    5000 kB\n")
    monkeypatch.setattr(memory, "MEMORY_INFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert available_bytes() == 5000 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert available_bytes() == 5000 * 1024
    (tmp_path / "memory.max").write_text("90000\n")
    assert available_bytes() == 89000
    # What was read from the disk counts as used until the memory is needed.
    (tmp_path / "memory.current").write_text("90000\n")
    (tmp_path / "memory.stat").write_text("anon 20000\nactive_file 30000\ninactive_file 40000\n")
    assert available_bytes() == 70000


@pytest.mark.ci
def test_a_run_records_the_number_and_is_resumed_with_it(options, tmp_path, capsys):
    config = RunConfig(run=tmp_path / "run", **options)
    summary = train(config)
    recorded = json.loads((tmp_path / "run/config.json").read_text())
    # 720 images: 90 of them an eighth.
    assert recorded["batch_size"] == summary["batch_size"] == 64
    assert "batches of 64, the largest of 8, 16 and so on to 90 that fit" in (out := capsys.readouterr().out)
    assert "the learning rate stays 0.01" in out
    assert summary["bytes_per_image"] == recorded["bytes_per_image"]
    assert summary["peak_resident_bytes"] > 1e8
    assert train(config, resume=True) == summary


@pytest.mark.parametrize(("devices", "expected"), [(1, 8), (3, 9), (7, 14), (8, 8), (16, 16)])
def test_the_first_batch_is_equal_for_all_devices(monkeypatch, devices, expected):
    monkeypatch.setattr(batch_size.distribution, "devices", lambda: devices)
    assert batch_size.first() == expected


@pytest.mark.slow
def test_too_little_memory_for_any_batch(options):
    config = RunConfig(run="run", **options)
    with pytest.raises(UserError, match="expected memory for a batch of 8 images at least"):
        find(config, Preprocessing(28, 28, 1), 2, 64, 10**6)


def answer(monkeypatch, code: int, sizes: list[Tried], error: str = "") -> None:
    """Let the process that tries sizes have told so much when it ended."""
    told = "a library's note\n" + "".join(f"{json.dumps(asdict(tried))}\n" for tried in sizes)
    ended = subprocess.CompletedProcess([], code, told, error)
    monkeypatch.setattr(batch_size.subprocess, "run", lambda *_, **__: ended)


def test_what_was_told_before_memory_ran_out_holds(options, monkeypatch):
    config, preprocessing = RunConfig(run="run", **options), Preprocessing(28, 28, 1)
    answer(monkeypatch, -9, [Tried(0, 1000), Tried(8, 1080), Tried(16, 1240)])
    assert find(config, preprocessing, 2, 64, 10**6) == Found(16, 1240, 20)
    answer(monkeypatch, 1, [], "Traceback\nValueError: too small\n")
    with pytest.raises(UserError, match="cannot try batch sizes: ValueError: too small"):
        find(config, preprocessing, 2, 64, 10**6)


def test_where_a_number_is_needed(options, tmp_path, monkeypatch):
    config = RunConfig(run=tmp_path / "run", **options)
    with pytest.raises(UserError, match="expected `batch_size` to be a number here"):
        epoch_order(config, open_data(config))
    monkeypatch.setattr(batch_size.distribution, "devices", lambda: 99)
    few = replace(config, batch_size=128, validation_fraction=0.05)
    with pytest.raises(
        UserError, match="at least 99 validation images, one for each device, or none; got 40"
    ):
        epoch_order(few, open_data(few))
    command = ["train", "--data", "sample", "--run", str(tmp_path / "run"), "--batch-size", "auto"]
    with pytest.raises(UserError, match="expected a number as --batch-size with --distributed"):
        app([*command, "--distributed"], exit_on_error=False)
