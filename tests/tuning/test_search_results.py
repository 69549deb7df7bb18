"""The table's best, the Pareto front, and which parameters mattered: by hand."""

import csv

import pytest

from keras_googlenet.network.cost import Cost
from keras_googlenet.network.variants import BN, PAPER
from keras_googlenet.tuning.plots import importance, pareto_front, plot_importance
from keras_googlenet.tuning.report import write_table
from keras_googlenet.tuning.results import Trial, best_trial


def trial(name, score, parameters=100, within=True, status="COMPLETED", **values):
    return Trial(
        name=name,
        status=status,
        values=values,
        architecture=BN,
        cost=Cost(parameters, 10 * parameters),
        score=score,
        by_epoch=() if score is None else (score,),
        seconds=1.0,
        latency_ms=2.0,
        within_budget=within,
        error="",
    )


def test_the_best_is_within_the_budget_and_the_smallest_of_equals():
    trials = [
        trial("0", 0.9, 500, within=False),
        trial("1", 0.7, 100),
        trial("2", 0.8, 200),
        trial("3", 0.8, 150),
        trial("4", None, status="FAILED"),
    ]
    assert best_trial(trials).name == "3"
    assert best_trial(trials[:1]) is None


def test_the_front_has_what_nothing_beats():
    points = [(3, 0.7), (1, 0.5), (2, 0.4), (4, 0.9), (4, 0.8), (5, 0.9)]
    assert pareto_front(points) == [(1, 0.5), (3, 0.7), (4, 0.9)]


def test_importance_is_the_rank_correlation():
    """By hand: more of `up` is always better, of `down` worse; `flat` never changed; ties share a rank."""
    trials = [
        trial(str(n), score, up=up, down=-up, flat=1, tied=tied, kind=kind)
        for n, (score, up, tied, kind) in enumerate(
            [(0.1, 1, 8, "a"), (0.2, 10, 8, "a"), (0.3, 11, 16, "b"), (0.9, 1000, 16, "b")]
        )
    ]
    found = importance(trials)
    assert found["up"] == pytest.approx(1)
    assert found["down"] == pytest.approx(-1)
    assert found["tied"] == pytest.approx(2 / 5**0.5)
    assert found["kind"] == pytest.approx(2 / 5**0.5)
    assert "flat" not in found


def test_importance_of_one_trial_is_none(tmp_path):
    assert importance([trial("0", 0.5, up=1)]) == {}
    plot_importance([trial("0", 0.5, up=1)], tmp_path / "importance.png")
    assert (tmp_path / "importance.png").is_file()


def test_a_parameter_of_a_block_with_dollar_signs_is_drawn_as_written(tmp_path):
    """A block's name comes from the architecture's file; matplotlib would take it for a formula."""
    name = r"$\frac{$ width"
    trials = [trial(str(n), n / 10, **{name: n}) for n in range(9)]
    plot_importance(trials, tmp_path / "importance.png")
    assert (tmp_path / "importance.png").is_file()


def test_a_trial_that_never_began_has_its_row(tmp_path):
    waiting = Trial("1", "RUNNING", {"up": 2}, None, None, None, (), None, None, False, "")
    write_table([trial("0", 0.5, up=1), waiting], tmp_path / "trials.csv")
    with (tmp_path / "trials.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert first["block 3a"] == " ".join(map(str, PAPER.blocks[0].channels))
    assert (second["status"], second["up"], second["parameters"], second["error"]) == ("RUNNING", "2", "", "")
