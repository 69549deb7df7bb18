"""`keras-googlenet profile` as a user meets it."""

import re
from functools import partial

import pytest
from conftest import run_python


@pytest.fixture
def profile(command):
    return partial(command, "profile")


def test_table(profile, tmp_path):
    code, out, err = profile("--csv", tmp_path / "table.csv")
    assert (code, err) == (0, "")
    assert re.search(r"^inception 3a +28x28x256 +2 +163,696 +128,049,152 +159K +128M", out, re.MULTILINE)
    assert out.endswith("22 layers with parameters on the longest path, 27 with the pools.\n")
    assert (tmp_path / "table.csv").read_text().count("\n") == 19


def test_another_network(profile):
    code, out, _ = profile("--variant", "torchvision", "--classes", "10", "--input", "96")
    assert code == 0
    assert re.search(r"^linear +1x1x10 +1 +10,250 +10,240$", out, re.MULTILINE)
    assert "48x48x64" in out
    assert "paper" not in out


def test_natural_size(profile):
    _, out, _ = profile("--variant", "small_images")
    assert "32x32x192" in out


@pytest.mark.ci
def test_comparison(profile, tmp_path):
    code, out, err = profile(
        "--compare", "--csv", tmp_path / "networks.csv", "--picture", tmp_path / "costs.png"
    )
    assert (code, err) == (0, "")
    assert re.search(r"^VGG-11 +224 +11 +132,863,336 +7,609,090,048", out, re.MULTILINE)
    assert "Why are NiN and GoogLeNet small?\n" in out
    assert "8.9 times" in out
    assert (tmp_path / "networks.csv").read_text().count("\n") == 17
    assert (tmp_path / "costs.png").read_bytes().startswith(b"\x89PNG")


MISTAKES = [
    ("--variant resnet", "one of .*'paper'.*variant='resnet'"),
    ("--input 30", "at least 31 x 31 .*Received: 30 x 30"),
    ("--variant small_images --input 3", "at least 4 x 4"),
    ("--classes 0", "expected --classes .*got 0"),
    ("--classes many", "--classes.*many"),
    ("--compare --variant bn", "expected no --variant or --input"),
    ("--compare --input 224", "expected no --variant or --input"),
    ("--compare --classes -1", "expected --classes .*got -1"),
    ("--picture {new}.png", "pass --compare too"),
    ("--compare --picture {new}.jpg", "end in .png, .pdf or .svg, got .*new.jpg"),
    ("--compare --picture {old}", "old.png exists: choose another file"),
    ("--csv {old}", "old.png exists: choose another file"),
    ("--csv {new}/table.csv", "no folder .*new to write table.csv in"),
]


@pytest.mark.parametrize(("line", "message"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_is_one_line_and_exit_code_2(line, message, profile, tmp_path):
    (tmp_path / "old.png").write_bytes(b"old")
    places = {"new": tmp_path / "new", "old": tmp_path / "old.png"}
    code, out, err = profile(*line.format(**places).split())
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert re.search(message, err)
    assert [path.name for path in tmp_path.iterdir()] == ["old.png"]
    assert (tmp_path / "old.png").read_bytes() == b"old"


def test_help_imports_no_framework():
    code = """
import sys
sys.argv = ["keras-googlenet", "profile", "--help"]
from keras_googlenet.cli import main
main()
print(sorted({"keras", "tensorflow", "jax", "matplotlib", "numpy"} & set(sys.modules)))
"""
    out = run_python(code)
    for option in ("--variant", "--classes", "--input", "--compare", "--csv", "--picture"):
        assert option in out
    assert out.splitlines()[-1] == "[]"


def test_counting_loads_nothing_but_keras():
    code = """
import sys
import keras
before = set(sys.modules)
import keras_googlenet.profile.report
heavy = {"cv2", "matplotlib", "tensorflow", "tensorflow_datasets", "keras_tuner", "grpc"}
print(sorted(heavy & (set(sys.modules) - before)))
"""
    assert run_python(code).strip() == "[]"
