"""The oracles without any training: what they propose, and what is left after a crash."""

import keras
import keras_tuner as kt
import pytest

from keras_googlenet import RunConfig
from keras_googlenet.network.cost import InputSize, cost
from keras_googlenet.network.variants import BN
from keras_googlenet.tuning.budgets import Budget
from keras_googlenet.tuning.config import TuneConfig
from keras_googlenet.tuning.oracles import make_oracle
from keras_googlenet.tuning.spaces import SPACES, SearchSpace

SIZE = InputSize(96, 96, 1, 10)
WHOLE = cost(BN, SIZE)
HALF = Budget(parameters=WHOLE.parameters // 2, macs=WHOLE.macs * 3 // 4)
ALGORITHMS = ("random", "bayesian", "hyperband")


def oracle_of(folder, algorithm="random", trials=1000, space="stage_width", budget=HALF, epochs=9, **changes):
    training = RunConfig(data="sample", run=folder, epochs=epochs)
    config = TuneConfig(training=training, algorithm=algorithm, trials=trials, space=space)
    found = SearchSpace(space, (BN,))
    hyperparameters = kt.HyperParameters()
    for parameter in found.parameters:
        hyperparameters.Choice(parameter.name, list(parameter.values), default=parameter.default)
    callbacks = {
        "affordable": lambda network: budget.admits(cost(network, SIZE)),
        "fast": lambda network: True,
        "on_end": lambda oracle, trial: None,
    }
    oracle = make_oracle(config, found, hyperparameters, **callbacks | changes)
    oracle._set_project_dir(str(folder.parent), folder.name)
    return oracle


def end(oracle, trial, score):
    oracle.update_trial(trial.trial_id, {"val_main_accuracy": score})
    trial.status = "COMPLETED"
    oracle.end_trial(trial)


def network_of(oracle, trial):
    return oracle.space.architecture(trial.hyperparameters.values)


def run(oracle, most=10**6):
    """The trials of a search whose networks are the better the wider stage 5 is."""
    trials = []
    while len(trials) < most and (trial := oracle.create_trial("tuner0")).status == "RUNNING":
        trials.append(trial)
        end(oracle, trial, network_of(oracle, trial).blocks[-1].conv_1x1 / 1000)
    return trials


@pytest.fixture
def no_models(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a model was built")

    monkeypatch.setattr(keras.Model, "__init__", refuse)


@pytest.mark.parametrize("space", SPACES)
def test_a_thousand_samples_obey_their_budget(space, tmp_path, no_models):
    oracle = oracle_of(tmp_path / "search", space=space)
    (first,) = run(oracle, 1)
    assert network_of(oracle, first) == BN
    samples = set()
    for number in range(1000):
        response = oracle.populate_space(str(number))
        assert response["status"] == "RUNNING"
        spent = cost(oracle.space.architecture(response["values"]), SIZE)
        assert spent.parameters <= WHOLE.parameters // 2
        assert spent.macs <= WHOLE.macs * 3 // 4
        samples.add(spent)
    assert len(samples) > 300


@pytest.mark.parametrize("algorithm", ["random", "hyperband", pytest.param("bayesian", marks=pytest.mark.ci)])
def test_a_search_has_its_number_of_trials_the_baseline_first(algorithm, tmp_path, no_models):
    oracle = oracle_of(tmp_path / "search", algorithm, trials=16)
    trials = run(oracle)
    networks = [network_of(oracle, trial) for trial in trials]
    assert len(trials) == 16
    assert networks[0] == BN
    assert all(HALF.admits(cost(network, SIZE)) for network in networks[1:])
    assert all(trial.status == "COMPLETED" for trial in oracle.trials.values())
    if algorithm != "hyperband":  # which trains the best again, for longer
        assert len(set(networks)) == 16


@pytest.mark.ci
def test_bayesian_optimization_learns_within_the_budget(tmp_path):
    """From the score's one cause; the first third is drawn at random."""
    oracle = oracle_of(tmp_path / "search", "bayesian", trials=15)
    scores = [trial.score for trial in map(oracle.get_trial, [t.trial_id for t in run(oracle)])]
    first, last = scores[1:6], scores[-5:]
    assert sum(last) > sum(first)


def test_hyperband_gives_the_best_more_epochs(tmp_path):
    oracle = oracle_of(tmp_path / "search", "hyperband", trials=14)
    values = [trial.hyperparameters.values for trial in run(oracle)]
    assert (values[0]["tuner/initial_epoch"], values[0]["tuner/epochs"]) == (0, 9)
    assert values[1]["tuner/epochs"] == 1
    continued = [one for one in values if "tuner/trial_id" in one]
    assert continued
    for one in continued:
        earlier = oracle.get_trial(one["tuner/trial_id"]).hyperparameters.values
        assert one["tuner/initial_epoch"] == earlier["tuner/epochs"] < one["tuner/epochs"]


@pytest.mark.ci
def test_a_space_that_is_exhausted_ends_the_search(tmp_path):
    """A budget with few networks in it: they are all tried, once each, and the search ends."""
    smallest = min(
        cost(oracle_of(tmp_path / "a").space.architecture(dict.fromkeys(names, 0.25)), SIZE).parameters
        for names in [[p.name for p in SearchSpace("stage_width", (BN,)).parameters]]
    )
    oracle = oracle_of(tmp_path / "search", budget=Budget(parameters=round(smallest * 1.2)), trials=10_000)
    trials = run(oracle)
    assert 2 < len(trials) < 200
    assert len({network_of(oracle, trial) for trial in trials}) == len(trials)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_networks_that_turn_out_slow_are_no_trials(algorithm, tmp_path):
    asked = []

    def fast(network):
        asked.append(network)
        return network.blocks[0].conv_1x1 <= 32

    oracle = oracle_of(tmp_path / "search", algorithm, trials=8, fast=fast)
    trials = run(oracle)
    assert len(trials) == 8
    assert all(network_of(oracle, trial).blocks[0].conv_1x1 <= 32 for trial in trials[1:])
    assert len(asked) > 7


def test_none_fast_enough_ends_the_search(tmp_path):
    oracle = oracle_of(tmp_path / "search", trials=8, fast=lambda network: False)
    assert len(run(oracle)) == 1


# --- crashes ---------------------------------------------------------------------------------------


def reloaded(folder, **options):
    oracle = oracle_of(folder, **options)
    oracle.reload()
    return oracle


@pytest.mark.ci
@pytest.mark.parametrize(
    ("written", "algorithm"),
    [(written, algorithm) for written in ("all", "trial alone", "trial's end alone")
     for algorithm in ALGORITHMS if algorithm != "bayesian" or written == "trial alone"],
)  # fmt: skip
def test_a_search_killed_anywhere_goes_on(algorithm, written, tmp_path):
    """Between the trial's file and the oracle's, too: keras-tuner's own would lose or repeat a trial."""
    folder = tmp_path / "search"
    oracle = oracle_of(folder, algorithm, trials=8)
    done = run(oracle, 3)
    before = (folder / "oracle.json").read_bytes()
    trial = oracle.create_trial("tuner0")
    if written == "trial's end alone":
        before = (folder / "oracle.json").read_bytes()
        end(oracle, trial, 0.5)
    if written != "all":
        (folder / "oracle.json").write_bytes(before)
    (folder / ".oracle.json.unfinished").write_text('{"half of')

    again = reloaded(folder, algorithm=algorithm, trials=8)
    rest = run(again)
    assert len(again.trials) == 8
    assert all(one.status == "COMPLETED" for one in again.trials.values())
    ids = [one.trial_id for one in rest]
    if written == "trial's end alone":
        assert trial.trial_id not in ids
    else:
        assert ids[0] == trial.trial_id
        assert rest[0].hyperparameters.values == trial.hyperparameters.values
    assert len(set(ids)) == len(ids)
    assert not {one.trial_id for one in done} & set(ids)


def test_a_worker_s_rounded_numbers_do_not_make_a_network_new(tmp_path):
    """What a trial has when it comes back over the wire: 32 bits of each number."""
    oracle = oracle_of(tmp_path / "search", trials=4)
    trial = oracle.create_trial("worker0")
    again = type(trial).from_proto(trial.to_proto())
    again.hyperparameters.values["width/3"] = 0.30000001192092896
    values = dict(oracle.get_trial(trial.trial_id).hyperparameters.values)
    end(oracle, again, 0.5)
    assert oracle.get_trial(trial.trial_id).hyperparameters.values == values
    assert oracle._duplicate(values)


def test_a_longer_search_keeps_its_trials(tmp_path):
    folder = tmp_path / "search"
    first = run(oracle_of(folder, trials=9))
    longer = reloaded(folder, trials=12)
    assert len(run(longer)) == 3
    assert len(longer.trials) == 12
    assert {trial.trial_id for trial in first} < set(longer.trials)
