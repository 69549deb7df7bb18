"""Data, runs and exports in object storage, as people use them; and killed on the way."""

import json
from pathlib import Path

import fsspec
import pytest
from conformance.server import preview

pytestmark = pytest.mark.ci


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

    for version in (1, 2):
        code, out, err = command("export", run, "--to", model)
        assert (code, out.splitlines()[-1]) == (0, f"{model}/{version}"), err
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
