import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keras_googlenet.evaluation import results


@pytest.fixture
def evaluation():
    """Seven images in four classes, of which one has no image, and is never predicted."""
    probabilities = np.array(
        [
            [0.7, 0.2, 0.1, 0.0],
            [0.6, 0.3, 0.1, 0.0],
            [0.1, 0.8, 0.1, 0.0],
            [0.9, 0.05, 0.05, 0.0],
            [0.2, 0.7, 0.1, 0.0],
            [0.3, 0.3, 0.4, 0.0],
            [0.1, 0.5, 0.4, 0.0],
        ]
    )
    return results.measure(
        np.array([0, 0, 0, 1, 1, 2, 2]),
        probabilities,
        ["ant", "bee", "cat", "dog"],
        files=[f"{i}.png" for i in range(7)],
        models=[results.ModelRow("runs/a", "bn", 80, 80, 1)],
        data="insects",
        part="test",
        crops=1,
        protocol="one crop",
        command="keras-googlenet evaluate runs/a",
        seconds=0.5,
        published_top1=None,
        published_top5=None,
    )


def test_measure(evaluation):
    assert evaluation.images == 7
    assert (evaluation.top1, evaluation.top5) == (pytest.approx(4 / 7), 1)
    assert evaluation.confusion == [[2, 1, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert evaluation.classes == [
        results.ClassRow("ant", 3, pytest.approx(2 / 3), pytest.approx(2 / 3)),
        results.ClassRow("bee", 2, pytest.approx(1 / 3), 0.5),
        results.ClassRow("cat", 2, 1.0, 0.5),
        results.ClassRow("dog", 0, None, None),
    ]


def test_what_python_and_notebooks_show(evaluation):
    assert "confusion" not in repr(evaluation)
    assert len(repr(evaluation)) < 500
    shown = replace(evaluation, part="<b>")._repr_html_()
    assert "<td>top1</td><td>0.5714</td>" in shown
    assert "<td>dog</td><td>0</td><td></td><td></td>" in shown
    assert "&lt;b&gt;" in shown
    assert "published" not in shown


def test_the_worst_mistakes_come_first(evaluation):
    assert evaluation.mistakes == [
        results.Mistake(3, "3.png", "bee", "ant", 0.9),
        results.Mistake(2, "2.png", "ant", "bee", 0.8),
        results.Mistake(6, "6.png", "cat", "bee", 0.5),
    ]


def test_json_round_trips_with_a_line_for_a_row(evaluation):
    text = evaluation.to_json()
    assert results.Evaluation.from_json(text) == evaluation
    assert json.loads(text)["confusion"][1] == [1, 1, 0, 0]
    assert "    [1, 1, 0, 0],\n" in text
    assert "NaN" not in text


def test_confusions_are_ordered_and_end_where_there_are_none(evaluation):
    assert results.confusions(evaluation, 8) == [("ant", "bee", 1), ("bee", "ant", 1), ("cat", "bee", 1)]
    assert results.confusions(evaluation, 1) == [("ant", "bee", 1)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((["runs/a"], None, None, None, 1), "keras-googlenet evaluate runs/a"),
        (
            (["runs/a", "b c"], None, "sample", "train", 10),
            "keras-googlenet evaluate runs/a --data sample --part train --crops 10 --ensemble 'b c'",
        ),
        (
            (["imagenet"], "slim", "val", None, 144),
            "keras-googlenet evaluate --weights imagenet --variant slim --data val --crops 144",
        ),
    ],
)
def test_command_line(arguments, expected):
    assert results.command_line(*arguments) == expected


def test_command_line_of_options_without_a_place():
    line = results.command_line(
        ["runs/a"], None, None, None, recorded_split=True, tfds_manual_dir=Path("files")
    )
    assert line == "keras-googlenet evaluate runs/a --tfds-manual-dir files --recorded-split"
