"""Addresses, their local copies, runs and versions there, against an S3 server."""

import json
import os
import re
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pytest

from keras_googlenet.cli import serving
from keras_googlenet.errors import Interrupted, UserError
from keras_googlenet.export import remote
from keras_googlenet.storage.cache import cache, copied, data_folder
from keras_googlenet.storage.place import Entry, Place, address
from keras_googlenet.storage.published import (
    FILES,
    MANIFEST,
    OBJECTS,
    ChangedError,
    check_free,
    fetched,
    read_manifest,
    run_files,
    upload_run,
    whole_versions,
)
from keras_googlenet.versions import GRAPH

pytest_plugins = ["storage_server"]


def put(place, files):
    for name, content in files.items():
        fsspec.filesystem("s3").pipe_file(f"{place}/{name}", content)


def contents(folder):
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def made(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("s3://bucket/run/", "s3://bucket/run"),
        (Path("s3://bucket/run"), "s3://bucket/run"),
        ("gs://bucket", "gs://bucket"),
        ("runs/first", None),
        ("/runs/first", None),
        ("tfds:cifar10", None),
        ("https://host/run.zip", None),
        (Path("https://host/run.zip"), None),
        ("hf://owner/run.zip", None),
        ("grpcs://host:8500", None),
        ("C:/runs", None),
    ],
)
def test_what_is_an_address(name, found):
    assert address(name) == found


TROUBLES = {
    "abfs://container/photos": r"Install adlfs to access Azure .*pip install \"keras-googlenet\[storage\]\"",
    "nowhere://bucket/photos": r"no storage is named nowhere://: expected s3://, gs:// or another",
    "s3://no-such-bucket/photos": r"nothing at s3://no-such-bucket/photos \(The specified bucket",
    "{bucket}/nothing": r"nothing at s3://bucket-\w+/nothing",
}
COMMANDS = {
    "--data": "train --data {} --run {folder}/run",
    "--run": "train --data sample --run {}",
    "--to": "export cifar10 --to {}",
    "RUN": "evaluate {}",
    "--model": "predict image.png --model {}",
    "PLACE": "sync {} {folder}/models",
}


@pytest.mark.parametrize(
    ("argument", "trouble"),
    [*(("--data", each) for each in TROUBLES), *((each, "s3://no-such-bucket/photos") for each in COMMANDS)],
)
def test_trouble_is_one_line(command, bucket, tmp_path, monkeypatch, argument, trouble):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "image.png").touch()
    line = COMMANDS[argument].format(trouble.format(bucket=bucket), folder=tmp_path)
    code, out, err = command(*line.split())
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert re.match(f"error: .*{TROUBLES[trouble]}", err), err
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["image.png"]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "Unable to locate credentials"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "Could not connect to the endpoint"),
    ],
)
def test_no_credentials_and_no_service(command, bucket, tmp_path, variables, message):
    os.environ.update(variables)
    fsspec.filesystem("s3").clear_instance_cache()
    code, out, err = command("sync", f"{bucket}/models/shoes", tmp_path / "models")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: cannot use {bucket}/models/shoes: {message}")


@pytest.mark.parametrize(
    "line",
    [
        "serve {}",
        "deploy {} --model shoes",
        "prepare {} small",
        "evaluate cifar10 --to {}",
        "predict {} --weights cifar10",
        "train --data sample --run r --architecture {}",
    ],
)
def test_an_address_where_a_local_path_is_needed(command, tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    code, _, err = command(*line.format("s3://bucket/x").split())
    assert code == 2
    assert re.fullmatch(r"error: expected a local path as \S+, got the address s3://bucket/x\n", err), err
    assert not list(tmp_path.iterdir())


PHOTOS = {"cat/1.png": b"cat", "cat/2.png": b"another", "dog/1.png": b"dog"}


def test_data_is_read_from_the_cache_and_what_changed_is_fetched(bucket, capsys):
    data = f"{bucket}/photos"
    put(data, PHOTOS)
    first = data_folder(data, again=True)
    assert (contents(first), first.name) == (PHOTOS, "photos")
    assert f"{data}: fetching 3 files" in capsys.readouterr().err
    assert data_folder(data, again=True) == first
    assert capsys.readouterr().err == ""
    put(data, {"dog/1.png": b"cow"})  # of the same size
    fsspec.filesystem("s3").rm_file(f"{data}/cat/2.png")
    second = data_folder(data, again=True)
    assert contents(second) == {"cat/1.png": b"cat", "dog/1.png": b"cow"}
    assert f"{data}: fetching 1 files" in capsys.readouterr().err
    assert contents(first) == PHOTOS  # a process that trains on it is not disturbed


def test_what_a_killed_download_left_does_not_count(bucket, capsys):
    data = f"{bucket}/photos"
    put(data, PHOTOS)
    folder = data_folder(data)
    objects = sorted((cache() / "objects").iterdir())
    shutil.rmtree(folder.parent)
    made(cache() / "objects", {".unfinished-1": b"ca"})
    objects[0].unlink()
    objects[1].write_bytes(b"x")  # cut off
    assert contents(data_folder(data, again=True)) == PHOTOS
    assert f"{data}: fetching 2 files" in capsys.readouterr().err


def test_processes_that_fetch_the_same_at_once(bucket):
    data = f"{bucket}/photos"
    put(data, {f"cat/{number}.png": bytes([number]) * 100 for number in range(30)})
    place = Place(data)
    entries = place.entries()
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: copied(place, entries), range(8)))
    assert len(folders) == 1
    assert len(contents(folders.pop())) == 30
    assert not list(cache().rglob(".unfinished-*"))


def test_a_name_that_leads_out_of_the_folder_is_refused(bucket):
    put(bucket, {"photos/cat/../../../out.png": b"x"})
    with pytest.raises(UserError, match="which is not the name of a file"):
        data_folder(f"{bucket}/photos")
    manifest = json.dumps({"files": {"../out": Entry("files/1/out", 1, "1")}}).encode()
    with pytest.raises(UserError, match="is not the list of a run's files"):
        run_files(manifest, bucket)


def test_a_run_is_read_whole_and_written_by_one(bucket, tmp_path, monkeypatch):
    place = Place(f"{bucket}/run")
    assert check_free(place, resume=False) is None
    assert place.entries() == {}
    run = made(tmp_path / "run", {"config.json": b"{}", "checkpoints/last.npz": b"1", ".lock": b""})
    first = upload_run(run, place, None)
    expected = {"config.json": b"{}", "checkpoints/last.npz": b"1"}
    assert contents(fetched(place.address)) == expected
    made(run, {"checkpoints/last.npz": b"2", "metrics.csv": b"2"})
    monkeypatch.setattr(Place, "write", lambda self, name, *_, write=Place.write, **options: (
        write(self, name, *_, **options) if name != MANIFEST else pytest.fail("killed")
    ))  # fmt: skip
    with pytest.raises(pytest.fail.Exception):
        upload_run(run, place, first)
    assert contents(fetched(place.address)) == expected
    monkeypatch.undo()
    second = upload_run(run, place, first)
    expected = {"config.json": b"{}", "checkpoints/last.npz": b"2", "metrics.csv": b"2"}
    assert contents(fetched(place.address)) == expected
    assert upload_run(run, place, second) == second  # nothing to do
    for before in (None, first):
        made(run, {"metrics.csv": b"3"})
        with pytest.raises(ChangedError, match="another process changed"):
            upload_run(run, place, before)
    made(run, {"metrics.csv": b"4"})
    third = upload_run(run, place, second)
    names = {entry.name for each in (second, third) for entry in run_files(each, "").values()}
    assert set(place.entries()) == {MANIFEST} | names  # what no reader may be at is gone


VERSION = {GRAPH: b"graph", "variables/variables.index": b"1", "assets.extra/labels.txt": b"cat\n"}


def test_versions_are_numbered_pruned_and_never_half(bucket, tmp_path):
    place, folder = Place(f"{bucket}/models/shoes"), made(tmp_path / "1", VERSION)
    assert remote.upload(folder, place) == f"{place.address}/1"
    put(place.address, {"2/variables/variables.index": b"killed"})
    assert remote.upload(folder, place) == f"{place.address}/3"
    assert list(whole_versions(place.entries())) == [1, 3]
    with pytest.raises(UserError, match=r"models/shoes/3 exists: choose another version"):
        remote.upload(folder, place, version=3)
    put(place.address, {"2/left": b"over"})
    assert remote.upload(folder, place, version=2, keep=2) == f"{place.address}/2"
    assert list(whole_versions(place.entries())) == [2, 3]
    assert {name for name in place.entries() if name[0] == "2"} == {f"2/{name}" for name in (*VERSION, FILES)}
    assert {name for name in place.entries() if name[0] == "1"} == set()
    served = tmp_path / "served"
    (served / "20").mkdir(parents=True)  # without a graph it is no version
    assert list(remote.sync(place, served, keep=1)) == [served / "3"]
    (served / "20").rmdir()
    assert list(remote.sync(place, served)) == [served / "2"]
    assert list(remote.sync(place, served)) == []
    assert {name: (served / "2" / name).read_bytes() for name in VERSION} == VERSION
    assert remote.upload(folder, place) == f"{place.address}/4"
    assert list(remote.sync(place, served, keep=2)) == [served / "4"]
    assert sorted(path.name for path in served.iterdir()) == ["3", "4"]
    shutil.copytree(served / "4", served / "5")  # higher than all there: it counts among those to keep
    assert list(remote.sync(place, served, keep=2)) == []
    assert sorted(path.name for path in served.iterdir()) == ["4", "5"]
    put(place.address, {"4/variables/variables.index": b"2"})
    with pytest.raises(UserError, match=r"models/shoes/4 is damaged"):
        fetched(place.address)
    with pytest.raises(UserError, match="no run and no exported version"):
        fetched(f"{bucket}/models")
    remote.upload(folder, place)
    remote.upload(folder, Place(f"{bucket}/models/hats"))
    synced = remote.sync(Place(f"{bucket}/models"), tmp_path / "all")
    names = [str(next(synced).relative_to(tmp_path / "all")) for _ in range(4)]
    assert names == ["hats/1", "shoes/2", "shoes/3", "shoes/5"]  # of a whole folder of models
    with pytest.raises(UserError, match=r"models/shoes/4 is damaged"):  # and what is not copied is reported
        next(synced)


def test_a_run_continues_where_its_upload_failed(bucket, monkeypatch, capsys, fresh_machine):
    """On this machine from its own folder, on another from what was uploaded; two that do both cannot mix."""
    from keras_googlenet.training.remote import working_copy

    place = Place(f"{bucket}/run")
    with working_copy(place, resume=False) as (folder, upload):
        made(folder, {"config.json": b"{}", "checkpoints/last.npz": b"1"})
        upload.on_epoch_end(0)
        assert contents(fetched(place.address))["checkpoints/last.npz"] == b"1"

    def interrupted():
        with working_copy(place, resume=True) as (folder, upload):
            monkeypatch.setattr(Place, "write", refused)
            made(folder, {"checkpoints/last.npz": b"2"})
            upload.on_epoch_end(0)
            assert "not uploaded: the service is away; training continues" in capsys.readouterr().err

    with pytest.raises(UserError, match="the service is away; not all is uploaded: rerun with `resume`"):
        interrupted()
    monkeypatch.undo()
    with working_copy(place, resume=True) as (folder, _):
        assert contents(folder)["checkpoints/last.npz"] == b"2"
        made(folder, {"checkpoints/last.npz": b"3"})

    def two_at_a_time():
        with working_copy(place, resume=True) as (folder, upload):
            fresh_machine()
            with working_copy(place, resume=True) as (other, _):
                assert contents(other) == {"config.json": b"{}", "checkpoints/last.npz": b"3"}
                made(other, {"checkpoints/last.npz": b"4"})
            made(folder, {"checkpoints/last.npz": b"5"})
            upload.on_epoch_end(0)

    with pytest.raises(ChangedError):
        two_at_a_time()
    assert contents(fetched(place.address))["checkpoints/last.npz"] == b"4"


def refused(*_, **__):
    raise UserError("the service is away")


@pytest.mark.parametrize("before", [False, True], ids=["first", "later"])
def test_an_upload_outlives_trouble_after_its_manifest(before, bucket, tmp_path, monkeypatch):
    """What is left over is not deleted, or the answer to the manifest is lost: the next upload goes on."""
    place, folder = Place(f"{bucket}/run"), made(tmp_path / "run", {"config.json": b"1"})
    there = upload_run(folder, place, None) if before else None
    write = Place.write

    def write_and_lose_the_answer(self, name, content, *, new=False):
        write(self, name, content, new=new)
        if name == MANIFEST:
            raise FileExistsError if new else UserError("the service is away")

    monkeypatch.setattr(Place, "delete", refused)
    monkeypatch.setattr(Place, "write", write_and_lose_the_answer)
    made(folder, {"config.json": b"2"})
    there = upload_run(folder, place, there)
    monkeypatch.undo()
    made(folder, {"config.json": b"3"})
    assert upload_run(folder, place, there) == read_manifest(place)
    assert contents(fetched(place.address)) == {"config.json": b"3"}
    assert len(Place(f"{place.address}/{OBJECTS}").entries()) <= 3


def test_a_signal_is_no_trouble_of_the_storage(bucket, monkeypatch):
    def stopped(*_, **__):
        raise Interrupted("stopped", signal.SIGTERM)

    place = Place(f"{bucket}/run")
    system, _ = place._system
    monkeypatch.setattr(system, "find", stopped)
    monkeypatch.setattr(system, "cat_file", stopped)
    for call in (place.entries, lambda: place.read("a")):
        with pytest.raises(Interrupted):
            call()


def test_of_two_exports_to_one_version_one_is_refused(bucket, tmp_path, monkeypatch):
    """The second takes the first's files for half a version that a killed upload left."""
    place, one = Place(f"{bucket}/models/shoes"), made(tmp_path / "one", VERSION)
    other = made(tmp_path / "other", VERSION | {GRAPH: b"another graph"})
    write = Place.write

    def write_while_another_begins(self, name, content, *, new=False):
        write(self, name, content, new=new)
        if name != f"7/{FILES}":
            monkeypatch.undo()
            remote.upload(other, place, version=7)

    monkeypatch.setattr(Place, "write", write_while_another_begins)
    with pytest.raises(UserError, match=r"another process exports .*models/shoes/7: choose another"):
        remote.upload(one, place, version=7)
    assert place.read(f"7/{GRAPH}") == b"another graph"


def test_a_version_that_another_program_uploads_is_copied_once_it_is_whole(bucket, tmp_path):
    """As `aws s3 sync` does, in any order; `export` leaves a list of files, and uploads the graph last."""
    place, served, waiting = Place(f"{bucket}/models/shoes"), tmp_path / "served", {}
    put(place.address, {f"1/{GRAPH}": b"graph"})
    assert list(remote.sync(place, served, waiting=waiting)) == []
    put(place.address, {"1/variables/variables.index": b"1"})
    assert list(remote.sync(place, served, waiting=waiting)) == []
    assert list(waiting) == [f"{place.address}/1"]
    assert list(remote.sync(place, served, waiting=waiting)) == [served / "1"]
    assert waiting == {}
    assert (served / "1/variables/variables.index").read_bytes() == b"1"
    remote.upload(made(tmp_path / "own", VERSION), place)
    assert list(remote.sync(place, served, waiting=waiting)) == [served / "2"]


def test_versions_in_a_folder_of_models_are_refused(bucket, tmp_path):
    """One upload to the wrong address must not stop all models without a word."""
    for name in ("models/shoes", "models"):
        remote.upload(made(tmp_path / name, VERSION), Place(f"{bucket}/{name}"))
    with pytest.raises(UserError, match=r"models has both versions and models \(.*models/shoes\): move its"):
        list(remote.sync(Place(f"{bucket}/models"), tmp_path / "served"))
    assert not (tmp_path / "served").exists()


@pytest.mark.parametrize("meanwhile", ["nothing", "deleted", "unreachable"])
def test_one_sync_waits_for_an_upload_and_ends(meanwhile, bucket, tmp_path, command, monkeypatch):
    """A version that was there in the first round and is gone, or cannot be reached, in the second."""
    place, served = Place(f"{bucket}/models/shoes"), tmp_path / "served"
    put(place.address, {f"1/{GRAPH}": b"graph"})
    remote.upload(made(tmp_path / "2", VERSION), place)

    def sleep(seconds):
        assert seconds == serving.SETTLED
        if meanwhile == "deleted":
            place.delete([f"1/{GRAPH}"])
        if meanwhile == "unreachable":
            monkeypatch.setattr(Place, "entries", lambda _: raise_error())

    def raise_error():
        raise UserError("no such host")

    monkeypatch.setattr(serving, "time", SimpleNamespace(sleep=sleep))
    code, out, err = command("sync", place.address, served)
    copied = [f"{served}/2\n", *([f"{served}/1\n"] if meanwhile == "nothing" else [])]
    assert out == "".join(copied)
    assert (code, err) == ((2, "error: no such host\n") if meanwhile == "unreachable" else (0, ""))
