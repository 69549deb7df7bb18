"""Files that appear whole or not at all, and folders that one process at a time works in."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from keras_googlenet import UserError, files
from keras_googlenet.files import held, held_new, replacing, write_json, write_text


def test_a_file_is_replaced_at_once(tmp_path):
    path = tmp_path / "summary.json"
    path.write_text("old")
    with replacing(path) as unfinished:
        unfinished.write_text("new")
        assert path.read_text() == "old"
        assert unfinished.suffix == path.suffix  # Keras and matplotlib go by it
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("fails", ["write", "fsync"])
def test_a_full_disk_leaves_the_old_file(fails, tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    write_json(path, {"epoch": 1})

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    if fails == "fsync":
        monkeypatch.setattr(files.os, "fsync", full)
    else:
        monkeypatch.setattr(files.Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        write_text(path, "{")
    monkeypatch.undo()
    assert path.read_text() == '{\n  "epoch": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


HOLD = """
import sys, time
from pathlib import Path
from keras_googlenet.files import held
with held(Path(sys.argv[1]), "trains in"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        message = rf"^process {process.pid} on \S+ trains in .*: wait for it"
        with pytest.raises(UserError, match=message), held(tmp_path, "trains in"):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        with held(tmp_path, "trains in"):
            assert str(os.getpid()) in (tmp_path / ".lock").read_text()
    finally:
        process.kill()


def test_what_is_raised_in_a_held_folder_is_not_swallowed(tmp_path):
    for context in (held(tmp_path, "trains in"), held_new(tmp_path / "run", "trains in")):
        with pytest.raises(FileNotFoundError), context:
            raise FileNotFoundError


def test_a_new_folder_is_held_under_both_names(tmp_path):
    with held_new(tmp_path / "run", "trains in") as made:
        (made / "config.json").write_text("{}")
        with pytest.raises(UserError, match="trains in"), held(made, "trains in"):
            pass
        made.rename(tmp_path / "run")
        with pytest.raises(UserError, match="trains in"), held(tmp_path / "run", "trains in"):
            pass
    assert (tmp_path / "run/config.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_folders_that_killed_processes_left_are_removed_and_no_others(tmp_path):
    with held_new(tmp_path / "run", "trains in") as other:
        leftover = tmp_path / f".run{files.UNFINISHED}0123"
        leftover.mkdir()
        (leftover / "config.json").write_text("{}")
        with held_new(tmp_path / "run", "trains in"):
            assert not leftover.exists()
            assert other.exists()


@pytest.mark.parametrize("name", ["r**", "[a]1", "r?"])
def test_a_folder_s_name_is_no_pattern(name, tmp_path):
    leftovers = [tmp_path / f".{other}{files.UNFINISHED}0123" for other in ("a1", "run", "rx", name)]
    for leftover in leftovers:
        leftover.mkdir()
    with held_new(tmp_path / name, "trains in"):
        assert [leftover.exists() for leftover in leftovers] == [True, True, True, False]
