"""Commands that are killed or meet a full disk at any moment: rerun, they end as if nothing had happened."""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from keras_googlenet.files import UNFINISHED
from keras_googlenet.versions import EXTRA, PROVENANCE, versions

pytestmark = pytest.mark.ci

SEED = 14
KILLS = {"train": 10, "tune": 7, "export": 6, "prepare": 7}
CHEAP = ("train", "export", "prepare")
FULL_DISKS = {"train": 4, "tune": 2, "export": 2, "prepare": 2}


def some_and_all(counts: dict[str, int], some: int) -> list:
    """By command: a few of the cheap ones for every landing, and all for `make test-all`."""
    few = [pytest.param(name, some, id=f"{name}-{some}") for name in counts if name in CHEAP]
    return few + [
        pytest.param(name, count, id=f"{name}-{count}", marks=pytest.mark.slow)
        for name, count in counts.items()
    ]


@dataclass(frozen=True)
class Work:
    """A command, what it needs on the disk, and what it leaves that does not depend on the time."""

    arguments: Callable[[Path], list[str]]
    left: Callable[[Path], object]


def run(folder: Path) -> list[str]:
    return ["train", "--data", str(folder.parent / "photos"), "--run", str(folder / "run"), "--resume"]


def options(tiny: Path) -> list[str]:
    return [
        *("--variant", str(tiny), "--image-size", "28", "--batch-size", "8", "--epochs", "3"),
        *("--augment", "crop", "--average", "0.9", "--precision", "float32", "--checkpoint-minutes", "0"),
    ]


def rows(table: Path, *without: str) -> list[dict[str, str]]:
    with table.open(newline="") as file:
        return [
            {name: value for name, value in row.items() if name not in without}
            for row in csv.DictReader(file)
        ]


def trained(folder: Path) -> object:
    summary = json.loads((folder / "run/summary.json").read_text())
    return rows(folder / "run/metrics.csv"), summary["test_accuracy"], summary["epochs"]


def searched(folder: Path) -> object:
    network = (folder / "search/best.json").read_text()
    return rows(folder / "search/trials.csv", "seconds", "latency_ms"), network


def exported(folder: Path) -> object:
    """Of the highest version, its weights; a version that half-appeared would be missing some of it."""
    found = versions(folder / "models/flowers")
    for version in found.values():
        assert {"saved_model.pb", "variables", "assets.extra"} <= {path.name for path in version.iterdir()}
    provenance = found[max(found)] / EXTRA / PROVENANCE
    return json.loads(provenance.read_text())["weights_sha256"]


def prepared(folder: Path) -> object:
    images = sorted((folder / "small").rglob("*.jpg"))
    return [(str(path.relative_to(folder)), path.read_bytes()) for path in images]


@pytest.fixture(scope="module")
def base(tmp_path_factory, tiny_variant):
    """Photos to train on and to prepare, and a finished run to export."""
    folder, random = tmp_path_factory.mktemp("base"), np.random.default_rng(1)
    for name in ("daisy", "rose"):
        for kind, count, side in (("photos", 24, 40), ("large", 40, 900)):
            (folder / kind / name).mkdir(parents=True)
            for number in range(count):
                pixels = cv2.resize(random.integers(0, 255, (9, 9, 3), dtype="uint8"), (side, side))
                cv2.imwrite(str(folder / kind / name / f"{number}.jpg"), pixels)
    (folder / "finished").mkdir()
    code, error = finish([*run(folder / "finished"), *options(tiny_variant)])
    assert code == 0, error
    return folder


@pytest.fixture(scope="module")
def works(base, tiny_variant):
    tuned = [*options(tiny_variant)[:-4], "--algorithm", "random", "--trials", "3", "--space", "stage_width"]
    return {
        "train": Work(lambda folder: [*run(folder), *options(tiny_variant)], trained),
        "tune": Work(
            lambda folder: ["tune", "--data", str(base / "photos"), "--run", str(folder / "search"), *tuned],
            searched,
        ),
        "export": Work(
            lambda folder: ["export", str(base / "finished/run"), "--to", str(folder / "models/flowers")],
            exported,
        ),
        "prepare": Work(
            lambda folder: ["prepare", str(base / "large"), str(folder / "small"), "--size", "448"],
            prepared,
        ),
    }


def start(arguments: list[str]) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "keras_googlenet.cli", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(arguments: list[str]) -> tuple[int, str]:
    process = start(arguments)
    _, error = process.communicate(timeout=600)
    return process.returncode, error


def check_left(work: Work, folder: Path, undisturbed: object) -> None:
    """Run once more and to its end; it leaves what an undisturbed one leaves, and nothing half-written."""
    code, error = finish(work.arguments(folder))
    assert code == 0, error
    assert work.left(folder) == undisturbed
    assert not list(folder.rglob(f"*{UNFINISHED}*"))
    assert not list(folder.rglob(".tmp-*"))


@pytest.fixture(scope="module")
def undisturbed(base, works):
    """A function of a command: the seconds and the bytes that it takes, and what it leaves."""

    @cache
    def measure(name: str) -> tuple[float, int, object]:
        work, folder = works[name], base / f"undisturbed-{name}"
        folder.mkdir()
        began = time.monotonic()
        code, error = finish(work.arguments(folder))
        assert code == 0, error
        taken = sum(path.stat().st_blocks * 512 for path in folder.rglob("*"))
        return time.monotonic() - began, taken, work.left(folder)

    return measure


@pytest.mark.parametrize(("name", "kills"), some_and_all(KILLS, 2))
def test_killed_at_any_moment(name, kills, base, works, undisturbed):
    """Several times in a row, each at a random moment of what it would take from there."""
    work, (seconds, _, left) = works[name], undisturbed(name)
    random = np.random.default_rng(SEED)
    folder = base / f"killed-{name}-{kills}"
    folder.mkdir()
    killed = 0
    for _ in range(kills):
        process = start(work.arguments(folder))
        try:
            process.wait(timeout=random.uniform(0.3, 1) * seconds)
            assert process.returncode == 0, process.stderr.read()  # it had little left to do
        except subprocess.TimeoutExpired:
            process.kill()
            killed += process.wait() != 0
        process.stderr.close()
    assert killed
    check_left(work, folder, left)


def mounted(folder: Path, size: int) -> bool:
    folder.mkdir(exist_ok=True)
    return (
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]).returncode == 0
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")
@pytest.mark.parametrize(("name", "disks"), some_and_all(FULL_DISKS, 1))
def test_a_full_disk_at_any_moment(name, disks, base, works, undisturbed):
    """It is told in one line; with room made, a rerun ends as if nothing had happened."""
    work, (_, taken, left) = works[name], undisturbed(name)
    random = np.random.default_rng(SEED)
    for number in range(disks):
        folder = base / f"full-{name}-{disks}-{number}"
        if not mounted(folder, int(random.uniform(0.05, 0.8) * taken)):
            pytest.skip("this container may not mount a disk")
        try:
            code, error = finish(work.arguments(folder))
            assert code == 2, error
            assert error.startswith("error: "), error
            assert error.count("\n") == 1, error
            subprocess.run(["mount", "-o", "remount,size=1g", str(folder)], check=True)
            check_left(work, folder, left)
        finally:
            subprocess.run(["umount", str(folder)], check=True)
            shutil.rmtree(folder)
