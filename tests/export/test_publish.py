"""How versions appear in a model's directory and go, among several processes and kills."""

import contextlib
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from keras_googlenet import UserError
from keras_googlenet.export.publish import PREFIX, prune, publish, staging
from keras_googlenet.versions import MAX_VERSION, versions


def write_versions(directory, *numbers):
    for number in numbers:
        (directory / str(number)).mkdir(parents=True)
        (directory / str(number) / "saved_model.pb").write_text(str(number))


def publish_one(directory, version=None, content="new"):
    with staging(directory) as folder:
        (folder / "saved_model.pb").write_text(content)
        return publish(folder, directory, version)


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_versions_count_up_from_the_highest(tmp_path):
    assert [publish_one(tmp_path / "m", version).name for version in (None, 7, None, 3, 0)] == [
        "1", "7", "8", "3", "0",
    ]  # fmt: skip
    assert names(tmp_path / "m") == ["0", "1", "3", "7", "8"]


@pytest.mark.parametrize("taken", ["whole", "empty", "file"])
def test_nothing_is_overwritten(tmp_path, taken):
    write_versions(tmp_path, 1)
    if taken == "empty":
        (tmp_path / "9").mkdir()
    elif taken == "file":
        (tmp_path / "9").write_text("mine")
    else:
        write_versions(tmp_path, 9)
    with pytest.raises(UserError, match="9 exists: choose another version"):
        publish_one(tmp_path, 9)
    assert names(tmp_path) == ["1", "9"]
    assert taken != "file" or (tmp_path / "9").read_text() == "mine"


@pytest.mark.parametrize("taken", ["file", "link to nothing"])
def test_the_next_number_that_is_free(tmp_path, taken):
    """Also where something that is no version has the number."""
    write_versions(tmp_path, 1)
    if taken == "file":
        (tmp_path / "2").write_text("mine")
    else:
        (tmp_path / "2").symlink_to("nowhere")
    assert publish_one(tmp_path).name == "3"
    with pytest.raises(UserError, match="2 exists: choose another version"):
        publish_one(tmp_path, 2)


def test_no_version_follows_the_last(tmp_path):
    write_versions(tmp_path, MAX_VERSION)
    with pytest.raises(UserError, match="no version is higher"):
        publish_one(tmp_path)
    assert names(tmp_path) == [str(MAX_VERSION)]


def test_a_failure_leaves_nothing(tmp_path):
    def fill(folder):
        (folder / "file").touch()
        raise RuntimeError("full")

    with pytest.raises(RuntimeError, match="full"), staging(tmp_path) as folder:
        fill(folder)
    assert names(tmp_path) == []


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    for directory in (tmp_path / "file", tmp_path / "file/m"):
        with (
            pytest.raises(UserError, match=f"cannot write in the folder {directory}"),
            staging(directory),
        ):
            pass


PUBLISHER = """
import sys
from pathlib import Path
from keras_googlenet.export.publish import publish, staging
print("ready", flush=True)
sys.stdin.readline()
for _ in range(20):
    with staging(Path(sys.argv[1])) as folder:
        (folder / "saved_model.pb").write_text(sys.argv[2])
        print(publish(folder, Path(sys.argv[1])).name)
"""


def test_concurrent_exports_get_versions_of_their_own(tmp_path):
    """Three processes publish at once: every version is of one of them, none is lost, none is replaced."""
    processes = {
        name: subprocess.Popen(
            [sys.executable, "-c", PUBLISHER, str(tmp_path), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in "abc"
    }
    for process in processes.values():
        assert process.stdout.readline() == "ready\n"
    for process in processes.values():
        process.stdin.write("\n")
        process.stdin.flush()
    published = {name: process.communicate()[0].split() for name, process in processes.items()}
    assert all(process.returncode == 0 for process in processes.values())
    numbers = [int(number) for own in published.values() for number in own]
    assert sorted(numbers) == list(range(1, 61))
    assert names(tmp_path) == sorted(map(str, numbers))
    for name, own in published.items():
        assert {(tmp_path / number / "saved_model.pb").read_text() for number in own} == {name}


# --- what killed processes left ------------------------------------------------------------------

LEFT = PREFIX + "0f" * 16


def test_leftovers_of_the_dead_are_removed_and_all_else_stays(tmp_path):
    (tmp_path / LEFT / "variables").mkdir(parents=True)
    (tmp_path / LEFT / "variables/half").touch()
    others = [".tmp-mine", PREFIX + "1" * 31, ".tmp-" + "1" * 32, "notes.txt", "7"]
    for name in others:
        (tmp_path / name).mkdir()
    (tmp_path / (PREFIX + "2" * 32)).write_text("a file")
    (tmp_path / (PREFIX + "3" * 32)).symlink_to(tmp_path / ".tmp-mine")
    assert publish_one(tmp_path).name == "8"
    assert names(tmp_path) == sorted([*others, PREFIX + "2" * 32, PREFIX + "3" * 32, "8"])


def test_the_work_of_the_living_is_left_alone(tmp_path):
    with staging(tmp_path) as folder:
        (folder / "saved_model.pb").touch()
        assert publish_one(tmp_path).name == "1"
        assert (folder / "saved_model.pb").exists()
        assert publish(folder, tmp_path).name == "2"


def test_a_killed_process_frees_its_folder(tmp_path):
    code = """
import os, signal, sys
from pathlib import Path
from keras_googlenet.export.publish import staging
with staging(Path(sys.argv[1])) as folder:
    (folder / "half").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == -9
    assert len(names(tmp_path)) == 1
    publish_one(tmp_path)
    assert names(tmp_path) == ["1"]


def test_a_file_system_without_locks_keeps_leftovers(tmp_path, monkeypatch):
    (tmp_path / LEFT).mkdir()

    def refuse(descriptor, operation):
        raise OSError("no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert publish_one(tmp_path).name == "1"
    assert names(tmp_path) == [LEFT, "1"]


# --- pruning -------------------------------------------------------------------------------------


def test_the_highest_versions_are_kept(tmp_path):
    write_versions(tmp_path, 1, 2, 9, 10)
    assert prune(tmp_path, 2, tmp_path / "10") == [tmp_path / "1", tmp_path / "2"]
    assert names(tmp_path) == ["10", "9"]
    assert prune(tmp_path, 5, tmp_path / "10") == []


def test_what_cannot_be_deleted_is_passed_over(tmp_path, monkeypatch):
    write_versions(tmp_path, 1, 2, 3)
    rename = Path.rename

    def refuse(path, target):
        if path.name == "1":
            raise PermissionError("not yours")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    assert prune(tmp_path, 1, tmp_path / "3") == [tmp_path / "2"]
    assert names(tmp_path) == ["1", "3"]


def test_the_version_just_made_is_kept_however_low(tmp_path):
    write_versions(tmp_path, 1, 2, 8, 9)
    prune(tmp_path, 1, tmp_path / "2")
    assert names(tmp_path) == ["2", "9"]


def test_what_is_no_version_is_neither_counted_nor_deleted(tmp_path):
    write_versions(tmp_path, 1, 2, 3)
    write_versions(tmp_path / "elsewhere", 1)
    (tmp_path / "0").symlink_to(tmp_path / "elsewhere/1")
    for name in ("20", "notes", ".tmp-mine"):
        (tmp_path / name).mkdir()
    (tmp_path / "21").touch()
    prune(tmp_path, 2, tmp_path / "3")
    assert names(tmp_path) == sorted(["0", "2", "20", "21", "3", "notes", ".tmp-mine", "elsewhere"])
    assert (tmp_path / "elsewhere/1/saved_model.pb").exists()


def test_a_server_never_sees_half_a_version(tmp_path):
    """While versions are published and pruned, every one that is listed is whole when it is first seen."""
    files = [f"file{index}" for index in range(30)] + ["saved_model.pb"]
    stop = threading.Event()
    halves, seen = [], []

    def watch():
        while not stop.is_set():
            for folder in versions(tmp_path).values():
                with contextlib.suppress(FileNotFoundError):  # pruned since it was listed
                    descriptor = os.open(folder, os.O_RDONLY)
                    seen.append(folder.name)
                    present = os.listdir(descriptor)
                    # It still has its name, so that a server could have begun to load it here.
                    if os.path.samestat(os.fstat(descriptor), folder.stat()) and len(present) < len(files):
                        halves.append((folder.name, len(present)))
                    os.close(descriptor)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(60):
        with staging(tmp_path) as folder:
            for name in files:
                (folder / name).touch()
            prune(tmp_path, 2, publish(folder, tmp_path))
    stop.set()
    watcher.join()
    assert halves == []
    assert len(set(seen)) > 10
    assert names(tmp_path) == ["59", "60"]
