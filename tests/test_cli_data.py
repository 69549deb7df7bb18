"""`keras-googlenet prepare` and `inspect` as a user meets them."""

import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
from conftest import run_python

from keras_googlenet.data import near_duplicates


@pytest.fixture
def photos(tmp_path, random):
    """Two class folders: a large image in each, and a broken one that libpng complains about."""
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        pixels = random.integers(0, 256, (60, 90, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / "photos" / name / "1.png"), pixels)
    broken = bytearray((tmp_path / "photos/dog/1.png").read_bytes())
    broken[500] ^= 255
    (tmp_path / "photos/dog/2.png").write_bytes(broken)
    return tmp_path / "photos"


def test_prepare(command, photos, tmp_path):
    (photos / "dog/2.png").unlink()
    assert command("prepare", photos, tmp_path / "small", "--size", 40) == (
        0, f"{tmp_path / 'small'}: 2 resized, 0 copied, 0 already there, 0 skipped\n", "",
    )  # fmt: skip
    assert cv2.imread(str(tmp_path / "small/dog/1.png")).shape == (40, 60, 3)


def test_prepare_ends_with_an_error_once_all_else_is_done(photos, tmp_path):
    """In a real process: libpng's own complaint stays away."""
    line = ["prepare", str(photos), str(tmp_path / "small")]
    result = subprocess.run(
        [sys.executable, "-m", "keras_googlenet.cli", *line], capture_output=True, text=True
    )
    assert result.returncode == 2
    assert result.stdout == f"{tmp_path / 'small'}: 0 resized, 2 copied, 0 already there, 1 skipped\n"
    assert result.stderr == (
        f"error: cannot read {photos / 'dog/2.png'} (corrupt): expected JPEG, PNG, BMP, WebP or GIF images; "
        "replace or remove them, or skip them with --skip-corrupt\n"
    )


def test_prepare_skips_corrupt_files_when_told(command, photos, tmp_path):
    code, out, err = command("prepare", photos, tmp_path / "small", "--skip-corrupt", "--enlarge")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"skipped {photos / 'dog/2.png'} (corrupt)",
        f"{tmp_path / 'small'}: 2 resized, 0 copied, 0 already there, 1 skipped",
    ]


def test_prepare_names_so_many_files(command, photos, tmp_path):
    for index in range(30):
        (photos / f"{index}.txt").touch()
    code, _, err = command("prepare", photos, tmp_path / "small")
    assert code == 2
    assert err.count(".txt (not named") == 19
    assert "and 11 more: expected" in err


MISTAKES = [
    ("prepare {photos}", "TARGET"),
    ("prepare {new} {out}", "no folder at .*new"),
    ("prepare {photos} {photos}/small", "two separate folders"),
    ("prepare {photos} {photos}", "two separate folders"),
    ("prepare {photos} {out} --size 0", "expected --size to be between 1 and 65,500, got 0"),
    ("prepare {photos} {out} --size big", "--size.*big"),
    ("prepare {photos} {out} --quality 0", "expected --quality to be between 1 and 100, got 0"),
    ("inspect --to {out}", "--data"),
    ("inspect --data sample", "--to"),
    ("inspect --data sample --to {photos}", "photos exists: choose another folder"),
    ("inspect --data sample --to {out} --projection umap", "umap.*--projection"),
    ("inspect --data sample --to {out} --class Hat", "expected a class of sample"),
    ("inspect --data {new} --to {out}", "unknown data"),
]


@pytest.fixture
def labeled(photos):
    """`photos` with enough images to divide."""
    for name in ("cat", "dog"):
        for index in range(3, 8):
            (photos / name / f"{index}.png").write_bytes((photos / name / "1.png").read_bytes())
    return photos


@pytest.mark.ci
def test_inspect(command, labeled, tmp_path, monkeypatch):
    monkeypatch.setattr(near_duplicates, "MAX_ALIGNED", 100)  # half a minute
    code, out, _ = command("inspect", "--data", "sample", "--data", labeled, "--to", tmp_path / "seen",
                           "--images", 3, "--seed", 1)  # fmt: skip
    assert code == 0
    assert re.search(r"^sample: 5,000 images in 10 classes$", out, re.MULTILINE)
    assert re.search(rf"^{labeled}: 12 images in 2 classes$", out, re.MULTILINE)
    assert re.search(rf"^corrupt files +1\n  {labeled / 'dog/2.png'}$", out, re.MULTILINE)
    assert out.endswith(f"\n{tmp_path / 'seen/report.html'}\n")
    assert {path.name for path in (tmp_path / "seen").iterdir()} == {
        "inspection.json", "contact_sheet_1.png", "contact_sheet_2.png", "features.png", "report.html",
        "near_duplicates_1.csv", "near_duplicates_2.csv",
    }  # fmt: skip


def test_inspect_help_imports_no_framework():
    code = """
import sys
sys.argv = ["keras-googlenet", "inspect", "--help"]
from keras_googlenet.cli import main
main()
print(sorted({"keras", "tensorflow", "jax", "matplotlib", "numpy", "cv2"} & set(sys.modules)))
"""
    out = run_python(code)
    for option in ("--data", "--to", "--class", "--weights", "--projection", "--images"):
        assert option in out
    assert out.splitlines()[-1] == "[]"


@pytest.mark.parametrize(("line", "message"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_is_one_line_and_exit_code_2(line, message, command, photos, tmp_path):
    places = {"photos": photos, "new": tmp_path / "new", "out": tmp_path / "out"}
    code, out, err = command(*line.format(**places).split())
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert re.search(message, err)
    assert not places["out"].exists()
