"""Names of classes, files and folders that mean something to matplotlib, terminals, pages or encodings."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import run_python
from matplotlib.figure import Figure

from keras_googlenet import UserError
from keras_googlenet.data import parts
from keras_googlenet.data.folders import in_test_split
from keras_googlenet.data.parts import ImageData, array_part
from keras_googlenet.data.sources import load_data
from keras_googlenet.evaluation import plots
from keras_googlenet.evaluation.inspection_plots import plot_contact_sheet, plot_scatter
from keras_googlenet.evaluation.report import write_report
from keras_googlenet.evaluation.results import ModelRow, measure

FORMULA = r"$\frac{$"  # no formula, but matplotlib takes it for one and fails
ESCAPE = "\x1b[31mred\x9b2J"
REVERSED = "photo\u202egpj.exe"
LATIN1 = os.fsdecode(b"caf\xe9")
NAMES = (FORMULA, ESCAPE, REVERSED, "=1+1", "a\tb", "two  spaces ", "T-shirt/top", "$x$ & <b>", "猫")

pytestmark = pytest.mark.filterwarnings("ignore:Glyph")  # the pictures' font lacks some


@pytest.fixture
def named(image_folder, tmp_path):
    """The function that makes a folder of class folders of such names, with such names for its images."""

    def make(*names, image="{}.png"):
        for name in names:
            folder = tmp_path / "data" / name
            shutil.copytree(image_folder / "Sneaker", folder)
            for path in folder.iterdir():
                path.rename(path.with_name(image.replace("{}", path.stem)))
        return tmp_path / "data"

    return make


@pytest.mark.ci
def test_inspect_draws_names_as_they_are_written(command, named, tmp_path):
    data = named(FORMULA, ESCAPE, REVERSED, "=1+1", image=f"{LATIN1}{ESCAPE}{FORMULA}{{}}.png")
    code, out, err = command("inspect", "--data", data, "--to", tmp_path / "seen", "--images", 4)
    assert (code, err) == (0, "")
    assert FORMULA in out
    assert not {"\x1b", "\x9b", "\u202e"} & set(out)
    assert r"caf\udce9\x1b" in out  # the duplicates
    assert set(json.loads((tmp_path / "seen/inspection.json").read_text())["sets"][str(data)]["classes"]) == {
        FORMULA, ESCAPE, REVERSED, "=1+1",
    }  # fmt: skip
    assert (tmp_path / "seen/features.png").is_file()


def test_every_picture_takes_every_name(tmp_path):
    part = array_part(np.zeros((len(NAMES), 8, 8, 3), "uint8"), np.arange(len(NAMES)))
    plot_contact_sheet(ImageData(NAMES, part, part, part), FORMULA, tmp_path / "sheet.png")
    points = np.random.default_rng(0).normal(size=(len(NAMES), 2))
    plot_scatter(points, part.labels, NAMES, ("first", "second"), FORMULA, tmp_path / "scatter.png")
    plots.plot_confusion(np.eye(len(NAMES), dtype=int), NAMES, tmp_path / "confusion.png")
    evaluation = measured(NAMES, [f"{LATIN1}{name}" for name in NAMES])
    (tmp_path / "report").mkdir()
    write_report(evaluation, [np.zeros((8, 8, 3), "uint8")] * len(NAMES), tmp_path / "report")
    page = (tmp_path / "report/report.html").read_text("utf-8")
    assert not {"\x1b", "\x9b", "\u202e"} & set(page)
    assert r"caf\udce9$\frac{$" in page


def measured(names, files):
    """An evaluation in which every image is given to the next class."""
    count = len(names)
    probabilities = np.full((count, count), 0.01)
    probabilities[range(count), np.roll(range(count), -1)] = 0.9
    return measure(
        np.arange(count), probabilities, names, files=files, models=[ModelRow(LATIN1, FORMULA, 8, 8, 3)],
        data=ESCAPE, part="test", crops=1, protocol="", command=LATIN1, seconds=1.0, published_top1=None,
        published_top5=None,
    )  # fmt: skip


@pytest.mark.ci
def test_pictures_of_scripts_take_such_names(monkeypatch, tmp_path):
    """In a process of its own: the load test replaces the standard library's sockets."""
    root = plots.__file__.split("keras_googlenet/evaluation")[0]
    code = r"""
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[1] + "serving", sys.argv[1] + "scripts"]
import load_test
figures = load_test.summary([], 1)
load_test.draw([], figures, "http://h/v1/models/$\\frac{$\x1b", Path(sys.argv[2]) / "load.png")
from keras_googlenet.evaluation.results_page import draw
from types import SimpleNamespace
summary = {"test_accuracy": 0.5}
result = SimpleNamespace(name="$\\frac{$\x1b", accuracy=lambda prefix="": [0.5], summary=summary)
draw([result], Path(sys.argv[2]) / "curves.png")
"""
    run_python(code, root, str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"load.png", "curves.png"}


@pytest.mark.parametrize("drawn", ["set_title", "set_yticks", "set_xticks", "suptitle", "legend"])
def test_matplotlib_fails_on_the_name_that_is_tried_here(drawn, tmp_path):
    """Else the tests above would show nothing."""
    figure = Figure()
    axes = figure.subplots()
    if drawn == "suptitle":
        figure.suptitle(FORMULA)
    elif drawn == "legend":
        axes.plot([0], [0], label=FORMULA)
        axes.legend()
    elif drawn == "set_title":
        axes.set_title(FORMULA)
    else:
        getattr(axes, drawn)([0], [FORMULA])
    with pytest.raises(ValueError, match="Parse"):
        figure.savefig(tmp_path / "picture.png")


@pytest.mark.parametrize("line", ["inspect --data {data} --to {new}", "train --data {data} --run {new}"])
@pytest.mark.parametrize(
    ("name", "message"), [(LATIN1, r"in UTF-8, found 'caf\udce9'"), ("a\nb", "of one line, found 'a")]
)
def test_class_names_that_labels_txt_cannot_hold_are_refused(command, named, tmp_path, line, name, message):
    places = {"data": named("dog", name), "new": tmp_path / "new"}
    code, out, err = command(*(word.format(**places) for word in line.split()))
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert [path.name for path in tmp_path.iterdir()] == ["data"]  # no .new.unfinished


@pytest.mark.parametrize("name", [LATIN1, "a\nb", ""])
def test_so_they_are_of_arrays(name):
    images = (np.zeros((4, 8, 8), "uint8"), np.array([0, 0, 1, 1]))
    with pytest.raises(UserError, match="expected class names"):
        ImageData.from_arrays(images, images, class_names=["dog", name])


@pytest.mark.parametrize("line", ["train --data {odd} --run new", "train --data {data} --run {odd}",
                                  "inspect --data {odd} --to new", "evaluate {odd}", "serve {odd}",
                                  "tune --report {odd}", "export {odd} --to new"])  # fmt: skip
def test_paths_that_are_not_utf8_are_refused(command, image_folder, tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    odd = shutil.copytree(image_folder, tmp_path / LATIN1)
    code, out, err = command(*(word.format(data=image_folder, odd=odd) for word in line.split()))
    assert (code, out) == (2, "")
    assert err.startswith("error: expected names in UTF-8, got ")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [odd]


def test_prepare_takes_names_of_any_encoding(command, image_folder, tmp_path):
    source = shutil.copytree(image_folder, tmp_path / LATIN1)
    (source / "Sneaker/0.png").rename(source / "Sneaker" / f"{LATIN1}.png")
    code, _, err = command("prepare", source, tmp_path / "small")
    assert (code, err) == (0, "")
    assert (tmp_path / "small/Sneaker" / f"{LATIN1}.png").is_file()


@pytest.mark.parametrize("memory", [None, 0])
def test_images_whose_names_are_not_utf8_are_read(named, monkeypatch, memory):
    """From memory, and from the disk by TensorFlow."""
    from keras_googlenet.data.feed import evaluation_batches
    from keras_googlenet.images.spec import Preprocessing

    if memory is not None:
        monkeypatch.setattr(parts, "MEMORY_BYTES", memory)
    data = load_data(str(named("cat", "dog", image=f"{LATIN1}{{}}.png")))
    batches = evaluation_batches(data.train, Preprocessing(height=28, width=28, channels=3), batch_size=4)
    assert sum(len(images) for images, *_ in batches) == data.train.count


def test_a_list_of_test_images_may_name_files_of_any_encoding(tmp_path):
    (tmp_path / "list").write_bytes(b"cat/caf\xe9.png\n")
    paths = [tmp_path / "cat" / f"{LATIN1}.png", tmp_path / "cat/1.png"]
    assert in_test_split(paths, tmp_path, str(tmp_path / "list")) == [True, False]


def test_a_traceback_cannot_control_the_terminal():
    code = f"""
import sys
from keras_googlenet.quiet import set_up
set_up()
sys.excepthook(*(lambda error: (type(error), error, None))(RuntimeError({ESCAPE!r})))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stderr == "RuntimeError: \\x1b[31mred\\x9b2J\n"
