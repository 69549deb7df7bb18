"""What the tests share: small real images on the disk, and one small finished run."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the command line has it

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pytest
from hypothesis import settings

CLASSES = ("Sneaker", "Trouser")  # of the sample: labels 7 and 1, easy to tell apart
LABELS = (7, 1)

settings.register_profile("untimed", deadline=None)  # the first example also pays for what it loads
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def environment():
    """Each test starts with the same random numbers, and what it sets in the environment ends with it."""
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(0)
    with mock.patch.dict(os.environ):
        yield


def contents(folder: Path) -> dict[str, bytes]:
    """The files in a folder, but the lock that whoever looks into a run takes."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@contextmanager
def shared(folder: Path) -> Iterator[Path]:
    """A folder that tests share: it fails at the end if one of them changed it."""
    before = contents(folder)
    yield folder
    after = contents(folder)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    assert not changed, f"a test changed what all share in {folder}: {', '.join(changed)}"


@pytest.fixture(scope="session")
def sample():
    """The bundled sample's arrays."""
    from keras_googlenet.data.bundled import sample_arrays

    return sample_arrays()


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory, sample):
    """A folder of two class folders, each with 12 PNG images of the sample."""
    folder = tmp_path_factory.mktemp("images")
    for name, label in zip(CLASSES, LABELS, strict=True):
        (folder / name).mkdir()
        images = sample["train_images"][sample["train_labels"] == label][:12]
        for index, image in enumerate(images):
            cv2.imwrite(str(folder / name / f"{index}.png"), image)
    with shared(folder) as kept:
        yield kept


@pytest.fixture(scope="session")
def tiny_variant(tmp_path_factory):
    """The file of a network of the family with one narrow block, for images of 28 pixels."""
    from keras_googlenet.network.variants import LIGHT_STEM

    stages = [
        stage for stage in LIGHT_STEM.stages if not stage.name.startswith(("pool3", "pool4", "4", "5", "3b"))
    ]
    tiny = replace(LIGHT_STEM, name="tiny", stages=tuple(stages), auxiliary_heads=()).scaled(0.125)
    path = tmp_path_factory.mktemp("variants") / "tiny.json"
    path.write_text(tiny.to_json())
    return path


@pytest.fixture(scope="session")
def small_variant(tmp_path_factory):
    """The file of a network of few and narrow blocks, with batch normalization and both auxiliary heads."""
    from keras_googlenet.network.variants import VARIANTS

    bn = VARIANTS["bn"]
    stages = [stage for stage in bn.stages if stage.name not in ("3b", "4b", "4c", "4e", "5b")]
    small = replace(bn, name="small", stages=tuple(stages)).scaled(0.25)
    path = tmp_path_factory.mktemp("variants") / "small.json"
    path.write_text(small.to_json())
    return path


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, image_folder, small_variant):
    """The folder of a run of one epoch on `image_folder`, in color."""
    from keras_googlenet import RunConfig, train

    run = tmp_path_factory.mktemp("runs") / "finished"
    train(
        RunConfig(
            data=str(image_folder),
            run=run,
            variant=str(small_variant),
            image_size=80,
            epochs=1,
            batch_size=8,
            precision="float32",
        )
    )
    with shared(run) as kept:
        yield kept


@pytest.fixture(scope="session")
def exported(tmp_path_factory, finished_run):
    """The first version folder of `finished_run`'s export, in a model directory named `shoes`."""
    from keras_googlenet import export_saved_model
    from keras_googlenet.run import folder as run_folder

    run = run_folder.load(finished_run)
    directory = tmp_path_factory.mktemp("models") / "shoes"
    version = export_saved_model(
        run.model, directory, class_names=run.class_names, preprocessing=run.preprocessing
    )
    with shared(directory):
        yield version


@pytest.fixture(scope="session")
def png_bytes(image_folder):
    """An encoded image."""
    return (image_folder / "Sneaker/0.png").read_bytes()


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture
def command(capsys, monkeypatch):
    """The function that runs a command in this process: (exit code, standard output, standard error)."""
    from keras_googlenet import cli

    def run(*arguments: object) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["keras-googlenet", *map(str, arguments)])
        code: object = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run


def run_python(code: str, *arguments: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    """Run code in a fresh interpreter; returns what it printed."""
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | (env or {}),
        cwd=cwd,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout
