"""Data, runs and exports in object storage, as people use them; and killed on the way."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import numpy as np
import pytest
from conformance.server import preview
from storage_server import slow_link

from keras_googlenet.export import remote
from keras_googlenet.run.folder import read_metrics
from keras_googlenet.storage import cache
from keras_googlenet.storage import published as storage
from keras_googlenet.storage.place import Place
from keras_googlenet.storage.published import FILES, MANIFEST, whole_versions
from keras_googlenet.versions import GRAPH, versions

pytestmark = pytest.mark.ci
pytest_plugins = ["storage_server"]


def objects(address):
    system = fsspec.filesystem("s3", skip_instance_cache=True)
    return sorted(path.partition("/")[2] for path in system.find(address.removeprefix("s3://")))


def test_from_data_in_storage_to_a_served_answer(
    command, bucket, image_folder, tiny_variant, tmp_path, fresh_machine
):
    fsspec.filesystem("s3").put(f"{image_folder}/", f"{bucket}/photos", recursive=True)
    data, run, model = f"{bucket}/photos", f"{bucket}/runs/first", f"{bucket}/models/shoes"
    network = ["--variant", tiny_variant, "--image-size", 28, "--batch-size", 8, "--epochs", 1]
    code, out, err = command("train", "--data", data, "--run", run, *network)
    assert code == 0, err
    assert f"{run}: test accuracy" in out
    assert f"next: keras-googlenet export {run} --to models/first" in out
    assert str(tmp_path / "cache") not in out + err
    assert not list(Path.cwd().glob("s3*"))
    code, _, err = command("train", "--data", data, "--run", run, *network)
    assert (code, err) == (
        2,
        f"error: {run} exists: choose another run folder, delete it, or resume its run with --resume\n",
    )

    fresh_machine()
    code, out, err = command("train", "--run", run, "--resume")
    assert (code, out) == (0, f"{run}: finished already\n"), err
    code, out, err = command("evaluate", run, "--json")
    assert code == 0, err
    assert json.loads(out)["images"] == 4

    code, out, err = command("export", run, "--to", model)
    assert (code, out.splitlines()[-1]) == (0, f"{model}/1"), err
    assert remote.upload(storage.local(model), Place(model)) == f"{model}/2"
    fresh_machine()
    image = image_folder / "Sneaker/0.png"
    code, by_address, err = command("predict", image, "--model", model)
    assert code == 0, err
    assert command("sync", model, tmp_path / "served/shoes", "--keep", 1)[:2] == (
        0,
        f"{tmp_path}/served/shoes/2\n",
    )
    assert command("sync", model, tmp_path / "served/shoes")[:2] == (0, f"{tmp_path}/served/shoes/1\n")
    with preview(tmp_path / "served/shoes") as server:
        code, served, err = command("predict", image, "--url", f"{server.rest}/v1/models/shoes")
    assert code == 0, err
    assert served == by_address


# --- killed ------------------------------------------------------------------------------------------

SLOW = 400_000.0  # bytes per second and connection
UPLOAD = """
import sys
from pathlib import Path
from keras_googlenet.export.remote import upload
from keras_googlenet.storage.place import Place
upload(Path(sys.argv[1]), Place(sys.argv[2]), version=int(sys.argv[3]))
"""
FETCH = "import sys; from keras_googlenet.storage.cache import data_folder; print(data_folder(sys.argv[1]))"


def start(*words, **environment):
    """A Python process that may be killed."""
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def killed(process):
    process.kill()
    process.communicate()


@pytest.fixture
def slow(s3):
    """The environment of a process whose link to the server is slow."""
    with slow_link(int(s3["AWS_ENDPOINT_URL"].rpartition(":")[2]), SLOW) as port:
        yield {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}


def files(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_uploads_syncs_and_downloads(bucket, slow, tmp_path, random, kills):
    """Killed at any moment, none leaves half of anything to see, and a rerun finishes."""
    version = tmp_path / "version"
    for name in (GRAPH, "variables/variables.data", "variables/variables.index", "assets.extra/labels.txt"):
        (version / name).parent.mkdir(parents=True, exist_ok=True)
        (version / name).write_bytes(random.bytes(150_000))
    whole, model, served = files(version), f"{bucket}/models/shoes", tmp_path / "served"
    works = {
        "upload": ["-c", UPLOAD, version, model, 7],
        "sync": ["-m", "keras_googlenet", "sync", model, served],
        "fetch": ["-c", FETCH, f"{model}/7"],
    }
    began = time.monotonic()
    finished(start("-c", "import keras_googlenet.cli, s3fs"))
    idle = time.monotonic() - began
    for name, words in works.items():
        for _ in range(kills):
            process = start(*words, **slow)
            time.sleep(idle + random.uniform(0, 2))
            killed(process)
            seen = whole_versions(Place(model).entries())
            assert name == "upload" or set(seen) == {7}
            for each in seen.values():
                assert set(each) == {*whole, FILES}
            found = versions(served) if served.is_dir() else {}
            for folder in found.values():
                assert files(folder).items() >= whole.items()
            for folder in (cache.cache() / "copies").glob("[!.]*/*"):
                assert files(folder).items() >= whole.items()
        if not (name == "upload" and 7 in whole_versions(Place(model).entries())):
            finished(start(*words))
    assert files(storage.fetched(model)).items() >= whole.items()
    assert [path.name for path in served.iterdir()] == ["7"]
    assert files(cache.data_folder(f"{model}/7")).items() >= whole.items()


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_a_killed_training_leaves_a_whole_run(
    command, bucket, slow, image_folder, tiny_variant, random, fresh_machine, kills
):
    """Each time a reader finds a checkpoint and the records of the same moment; a rerun finishes."""
    run, epochs = f"{bucket}/runs/first", 2 + kills
    network = ["--variant", tiny_variant, "--image-size", 28, "--batch-size", 8, "--epochs", epochs]
    line = ["train", "--data", image_folder, "--run", run, "--resume", "--checkpoint-minutes", 0, *network]
    progress = []
    for _ in range(kills):
        before = objects(run)
        process = start("-m", "keras_googlenet", *line, **slow)
        while (now := objects(run)) == before or f"runs/first/{MANIFEST}" not in now:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        time.sleep(random.uniform(0, 2))
        killed(process)
        fresh_machine()
        folder = storage.fetched(run)
        with np.load(folder / "checkpoints/last.npz") as checkpoint:
            found = json.loads(str(checkpoint["progress"]))
        rows = read_metrics(folder)["epoch"] if found["cursor"]["epoch"] else []
        assert len(rows) == found["cursor"]["epoch"] == len(found["rows"])
        progress.append((found["cursor"]["epoch"], found["cursor"]["step"]))
    assert progress == sorted(progress)
    code, out, err = command(*line)
    assert code == 0, err
    assert "test accuracy" in out
    folder = storage.fetched(run)
    assert read_metrics(folder)["epoch"] == list(range(1, epochs + 1))
    assert (folder / "model.keras").is_file()


def test_sync_runs_until_it_is_stopped(bucket, s3, tmp_path):
    """It waits for the first version, outlives trouble with the storage, and ends by SIGTERM."""
    port = int(s3["AWS_ENDPOINT_URL"].rpartition(":")[2])
    model, served = f"{bucket}/models/shoes", tmp_path / "served"
    version = tmp_path / "version"
    version.mkdir()
    (version / GRAPH).write_bytes(b"graph")
    line = ["sync", model, served, "--every", "200ms"]
    with slow_link(port, 1e9) as link:
        process = start("-m", "keras_googlenet", *line, AWS_ENDPOINT_URL=f"http://127.0.0.1:{link}")
        error = process.stderr.readline()
        assert re.search("no exported version at .*; retrying in 200ms$", error), error
        remote.upload(version, Place(model))
        assert process.stdout.readline() == f"{served}/1\n"
    while "no exported version" in (error := process.stderr.readline()):
        pass
    assert re.search("cannot use .*; retrying in 200ms$", error), error
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert err.endswith("stopped\n")
    assert "Traceback" not in err
