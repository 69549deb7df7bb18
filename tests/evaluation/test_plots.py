import matplotlib.image
import numpy as np
import pytest

from keras_googlenet.evaluation import plots
from keras_googlenet.evaluation.metrics import calibration, expected_calibration_error
from keras_googlenet.evaluation.results import ClassRow, Mistake

HOSTILE = ["<b>bold</b>", "$\\frac{", "a" * 200, "100%", "naïve 猫"]  # names that break careless pictures


def colors(path):
    """How many colors a picture has; a blank one has a single one."""
    pixels = matplotlib.image.imread(path)
    assert min(pixels.shape[:2]) > 200
    return len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0))


@pytest.mark.filterwarnings("ignore:Glyph")
def test_names_are_drawn_as_they_are_written(tmp_path):
    plots.plot_confusion(np.eye(5, dtype=int), HOSTILE, tmp_path / "confusion.png")
    plots.plot_classes([ClassRow(name, 3, 0.5, 0.5) for name in HOSTILE], tmp_path / "classes.png")
    mistakes = [Mistake(0, None, name, name, 0.9) for name in HOSTILE]
    pictures = [np.zeros((8, 8, 3), "uint8")] * 5
    plots.plot_mistakes(mistakes, pictures, tmp_path / "mistakes.png")
    assert all(colors(tmp_path / f"{name}.png") > 10 for name in ("confusion", "classes", "mistakes"))


def test_mistakes_show_their_pictures(tmp_path, random):
    mistakes = [Mistake(i, None, "true", "wrong", 0.9) for i in range(8)]
    plots.plot_mistakes(mistakes, [np.zeros((9, 30, 1), "uint8")] * 8, tmp_path / "gray.png")
    red = np.zeros((40, 8, 3), "uint8") + np.array([255, 0, 0], "uint8")
    plots.plot_mistakes(mistakes, [red] * 8, tmp_path / "red.png")
    assert (matplotlib.image.imread(tmp_path / "gray.png")[..., :3].max(axis=-1) == 0).mean() > 0.1
    shown = matplotlib.image.imread(tmp_path / "red.png")
    assert (shown == [1, 0, 0, 1]).all(axis=-1).mean() > 0.05


def test_no_mistakes_are_said_so(tmp_path):
    plots.plot_mistakes([], [], tmp_path / "none.png")
    assert colors(tmp_path / "none.png") > 10


def test_calibration_without_images_in_most_bins(tmp_path):
    bins = calibration(np.array([0, 1]), np.array([[0.99, 0.01], [0.8, 0.2]]))
    plots.plot_calibration(bins, expected_calibration_error(bins), tmp_path / "calibration.png")
    assert colors(tmp_path / "calibration.png") > 10


def test_classes_are_ordered_by_recall_and_those_without_images_are_last():
    rows = [ClassRow("a", 1, 0.1, 0.9), ClassRow("b", 0, None, None), ClassRow("c", 1, None, 0.0)]
    assert [row.name for row in plots.by_recall(rows)] == ["c", "a", "b"]


def test_a_thousand_classes_fit_one_picture(tmp_path):
    plots.plot_classes([ClassRow(f"n{i}", 1, None, 0.0) for i in range(1000)], tmp_path / "classes.png")
    plots.plot_confusion(np.eye(1000, dtype=int), ["n"] * 1000, tmp_path / "confusion.png")
    for name in ("classes", "confusion"):
        assert max(matplotlib.image.imread(tmp_path / f"{name}.png").shape) < 5000
