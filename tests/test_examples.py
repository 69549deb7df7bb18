"""The examples that are quick enough for every day; `test_package.py` has the slow ones."""

import csv
import json
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_googlenet import RunConfig
from keras_googlenet.run.recipes import recipe_options
from keras_googlenet.training.optimizer import rate_schedule

ROOT = Path(__file__).parents[1]


@pytest.fixture
def listing(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    import cifar10_listing

    return cifar10_listing


def drops(rates):
    return [epoch for epoch in range(1, len(rates)) if rates[epoch] < rates[epoch - 1]]


def test_the_listing_s_rate_and_ours(listing, tmp_path):
    """Each drops when the example says; ours is what its run trains with."""
    steps = 3
    schedule = rate_schedule(RunConfig(**recipe_options(listing.RECIPE), run=tmp_path), steps)
    trained = [float(schedule(epoch * steps)) for epoch in range(25)]
    assert drops(trained) == [8, 16, 24]
    np.testing.assert_allclose(trained, [listing.paper_rate(epoch) for epoch in range(25)], rtol=1e-6)
    assert drops([listing.listing_rate(epoch) for epoch in range(25)]) == [7, 15, 23]


def test_the_listing_s_rate_is_one_for_keras(listing):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")
    callback = keras.callbacks.LearningRateScheduler(listing.listing_rate)
    history = model.fit(np.ones((1, 1)), np.ones(1), epochs=9, verbose=0, callbacks=[callback])
    np.testing.assert_allclose(history.history["learning_rate"], [0.01] * 7 + [0.0096] * 2, rtol=1e-5)


@pytest.mark.ci
def test_the_listing_trains(listing, image_folder, tmp_path):
    run = tmp_path / "run"
    listing.main(["--data", str(image_folder), "--image-size", "65", "--epochs", "1", "--run", str(run)])
    config = json.loads((run / "config.json").read_text())
    expected = (listing.RECIPE, "listing", 256, 65, 1)
    names = ("recipe", "variant", "batch_size", "image_size", "epochs")
    assert tuple(config[name] for name in names) == expected
    assert (run / "summary.json").is_file()
    for head in ("main", "aux1", "aux2"):
        assert f"{head}_accuracy" in (run / "metrics.csv").read_text()


@pytest.mark.slow
def test_a_channel_search_is_judged_by_training_again(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "examples/channel_search")
    import channel_search

    data = ["--data", "sample", "--images", "64", "--image-size", "28", "--variant", "light_stem"]
    search = ["--algorithm", "random", "--trials", "2", "--epochs", "1", "--run", str(tmp_path / "run")]
    channel_search.main([*data, *search])
    with (tmp_path / "run/comparison.csv").open(newline="") as file:
        rows = {row.pop("network"): row for row in csv.DictReader(file)}
    assert set(rows) == {"unchanged", "winner"}
    for name, row in rows.items():
        scores = [float(row[f"test_accuracy_seed_{seed}"]) for seed in channel_search.SEEDS]
        assert float(row["mean"]) == pytest.approx(np.mean(scores), abs=1e-4)
        folder = tmp_path / f"run/again/{'best' if name == 'winner' else 'light_stem'}-0"
        assert json.loads((folder / "summary.json").read_text())["test_accuracy"] == pytest.approx(
            scores[0], abs=1e-4
        )
    assert (tmp_path / "run/search/pareto.png").is_file()
