"""The pictures of a data set, measured in their pixels and boxes."""

import cv2
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.offsetbox import AnnotationBbox

from keras_googlenet.data.parts import ImageData, array_part
from keras_googlenet.evaluation.inspection_plots import (
    COLUMNS,
    MAX_ROWS,
    POINT,
    TILE,
    plot_contact_sheet,
    plot_scatter,
    scatter_figure,
    thumbnail,
)
from keras_googlenet.evaluation.plots import shortened

AXES = ("first", "second")


def test_thumbnails_keep_the_aspect():
    red = np.full((200, 100, 3), [255, 0, 0], np.uint8)
    tile = thumbnail(red)
    assert tile.shape == (TILE, TILE, 3)
    inside = (tile == [255, 0, 0]).all(axis=2)
    assert inside.sum() == TILE * TILE // 2
    assert inside[:, TILE // 4 : -TILE // 4].all()


def test_thumbnails_of_small_gray_images_are_crisp():
    gray = np.arange(9, dtype=np.uint8).reshape(3, 3, 1)
    expected = np.repeat(np.repeat(gray, TILE // 3, axis=0), TILE // 3, axis=1)
    np.testing.assert_array_equal(thumbnail(gray), np.broadcast_to(expected, (TILE, TILE, 3)))


def painted(classes, of_each):
    """Class k has `of_each[k]` images of one color, (k + 1, 2, 250)."""
    labels = np.repeat(np.arange(classes), of_each)
    images = np.zeros((len(labels), 8, 8, 3), np.uint8)
    images[:] = np.stack([labels + 1, labels * 0 + 2, labels * 0 + 250], axis=1)[:, None, None]
    part = array_part(images, labels)
    return ImageData(tuple(f"class {label}" for label in range(classes)), part, part, part)


def test_contact_sheet_shows_images_of_each_class_in_rows(tmp_path):
    plot_contact_sheet(painted(3, [2, 30, 5]), "three", tmp_path / "sheet.png")
    picture = cv2.imread(str(tmp_path / "sheet.png"))[..., ::-1]
    rows = []
    for label, shown in enumerate((2, COLUMNS, 5)):
        found = (picture == [label + 1, 2, 250]).all(axis=2)
        assert found.sum() == shown * TILE * TILE
        rows.append(np.flatnonzero(found.any(axis=1)).mean())
    assert rows == sorted(rows)


def test_contact_sheet_of_many_classes_shows_the_first(tmp_path):
    plot_contact_sheet(painted(MAX_ROWS + 2, [1] * (MAX_ROWS + 2)), "many", tmp_path / "sheet.png")
    picture = cv2.imread(str(tmp_path / "sheet.png"))[..., ::-1]
    for label, shown in ((MAX_ROWS - 1, True), (MAX_ROWS, False)):
        assert (picture == [label + 1, 2, 250]).all(axis=2).any() == shown


def legend_of(groups, names):
    points = np.random.default_rng(0).normal(size=(len(groups), 2))
    figure = scatter_figure(points, np.array(groups), names, AXES, "title")
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    (axes,) = figure.axes
    assert sum(len(marks.get_offsets()) for marks in axes.collections) == len(groups)
    boxes = [legend.get_window_extent(), axes.get_tightbbox()]
    assert not boxes[0].overlaps(boxes[1])
    for box in boxes:
        assert figure.bbox.contains(*box.min)
        assert figure.bbox.contains(*box.max)
    return [text.get_text() for text in legend.get_texts()]


def test_legend_names_the_groups_that_are_there():
    assert legend_of([0, 2, 2], ["cat", "dog", "emu"]) == ["cat (1)", "emu (2)"]


@pytest.mark.parametrize("length", [5, 200])
def test_legend_of_many_groups_names_the_largest(length):
    groups = np.repeat(np.arange(50), np.arange(50))
    names = [f"{index:0{length}}" for index in range(50)]
    texts = legend_of(groups, names)
    assert len(texts) == 21
    assert texts[-1] == f"29 more classes ({sum(range(30))})"
    assert texts[0].endswith("30 (30)")


def test_scatter_is_written(tmp_path):
    plot_scatter(np.eye(2), np.array([0, 1]), ["a", "b"], AXES, "title", tmp_path / "scatter.png")
    assert cv2.imread(str(tmp_path / "scatter.png")).shape == (780, 1140, 3)


def test_pictures_do_not_cover_each_other():
    points = np.random.default_rng(0).normal(size=(400, 2))
    pictures = [np.zeros((POINT, POINT, 3), np.uint8)] * 400
    groups = np.zeros(400, int)
    figure = scatter_figure(points, groups, ["a"], AXES, "title", pictures)
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    shown = [each for each in figure.axes[0].artists if isinstance(each, AnnotationBbox)]
    corners = np.array([each.get_window_extent().get_points() for each in shown])
    assert len(corners) > 30
    apart = (corners[:, None, 0] > corners[None, :, 1]) | (corners[:, None, 1] < corners[None, :, 0])
    assert (apart.any(axis=-1) | np.eye(len(corners), dtype=bool)).all()


def test_shortened_names_keep_both_ends():
    assert shortened("short", 10) == "short"
    assert shortened("0123456789abc", 10) == "0123…89abc"
