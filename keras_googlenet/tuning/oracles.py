"""keras-tuner's three oracles: the unchanged network first, then only networks within a budget.

A network beyond the budget is redrawn at once, so it counts neither as a trial nor as a failure. Trials and
the oracle's state are written atomically, so a search that was killed can always be resumed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras_tuner as kt
import numpy as np

from keras_googlenet.files import write_json
from keras_googlenet.network.architecture import Architecture
from keras_googlenet.tuning.config import TuneConfig
from keras_googlenet.tuning.spaces import SearchSpace

OBJECTIVE = "val_main_accuracy"
RUNNING, STOPPED = "RUNNING", "STOPPED"  # keras-tuner's words for a trial's state
TRIAL_FILE, ORACLE_FILE = "trial.json", "oracle.json"  # keras-tuner's

MOST_DRAWS = 20_000  # for one sample within the budget
MOST_SLOW = 50  # of those in a row that turn out too slow, each of which was built and measured
MOST_COLLISIONS = 1000  # in a row, after which a space counts as exhausted
CANDIDATES = 500  # drawn by the Bayesian oracle for each of its proposals
PARENTS, MOST_CHANGES = 3, 4  # best trials that are changed a little as well, and in how many values

Values = dict[str, Any]


class BudgetOracle(kt.Oracle):
    """What the three have in common; must precede keras-tuner's class among the bases.

    Args:
        space: The search space.
        affordable: Whether a network's rows are within the budget.
        fast: Whether it is fast enough, measured.
        on_end: Called with a trial that has ended.
        **options: Of keras-tuner's class.
    """

    def __init__(
        self,
        *,
        space: SearchSpace,
        affordable: Callable[[Architecture], bool],
        fast: Callable[[Architecture], bool],
        on_end: Callable[[BudgetOracle, Any], None],
        **options: Any,
    ) -> None:
        self.space = space
        self.affordable = affordable
        self.fast = fast
        self.on_end = on_end
        super().__init__(**options)
        self.verbose = 0

    def populate_space(self, trial_id: str) -> Values:
        """The first trial is the unchanged network."""
        if not self.trials:
            return {"status": RUNNING, "values": self.baseline()}
        return super().populate_space(trial_id)

    def baseline(self) -> Values:
        """The values of the unchanged network."""
        return self.space.defaults

    def _random_values(self) -> Values | None:
        """What all three draw with."""
        for _ in range(MOST_SLOW):
            values = self._affordable_values()
            if values is None or self.fast(self.space.architecture(values)):
                return values
        return None

    def _affordable_values(self) -> Values | None:
        """A new sample within the budget, or none if the space seems to be exhausted."""
        collisions = 0
        for _ in range(MOST_DRAWS):
            self._seed_state += 1
            values = self.space.sample(random.Random(self._seed_state))
            if not self.affordable(self.space.architecture(values)):
                continue
            if not self._duplicate(values):
                return values
            collisions += 1
            if collisions == MOST_COLLISIONS:
                break
        return None

    def _compute_values_hash(self, values: Values) -> str:
        """Samples of equal networks count as one: rounding to multiples of 8 makes many of them equal."""
        chosen = {parameter.name for parameter in self.space.parameters} - {
            name for name, _ in self.space.extras
        }
        others = {name: value for name, value in values.items() if name not in chosen}
        return super()._compute_values_hash(others | {"rows": repr(self.space.architecture(values))})

    @kt.synchronized
    def end_trial(self, trial: Any) -> None:
        """A worker's numbers come back rounded to 32 bits: the oracle keeps its own."""
        trial.hyperparameters = self.trials[trial.trial_id].hyperparameters
        super().end_trial(trial)
        self.on_end(self, self.trials[trial.trial_id])

    def save(self) -> None:
        """Write the state, whole or not at all."""
        write_json(Path(self._get_oracle_fname()), self.get_state())

    def _save_trial(self, trial: Any) -> None:
        write_json(Path(self._get_trial_dir(trial.trial_id)) / TRIAL_FILE, trial.get_state())

    def reload(self) -> None:
        """Reload from the folder. A trial's file is written first, so it holds the latest state."""
        super().reload()
        unfinished = [name for name, trial in self.trials.items() if trial.status == RUNNING]
        self._retry_queue = sorted(unfinished, reverse=True)  # the last is taken first
        for trial in self.trials.values():
            self._record_values(trial)


class RandomOracle(BudgetOracle, kt.oracles.RandomSearchOracle):
    """Samples at random."""


class HyperbandOracle(BudgetOracle, kt.oracles.HyperbandOracle):
    """Hyperband, which also trains the unchanged network for all epochs."""

    def baseline(self) -> Values:
        """With the values that Hyperband gives a trial."""
        own = {"epochs": self.max_epochs, "initial_epoch": 0, "bracket": 0, "round": 0}
        return super().baseline() | {f"tuner/{name}": value for name, value in own.items()}


class BayesianOracle(BudgetOracle, kt.oracles.BayesianOptimizationOracle):
    """Bayesian optimization that looks for its optimum among samples within the budget.

    keras-tuner's own search for the optimum ignores the budget, so its result could only be rejected.
    """

    def populate_space(self, trial_id: str) -> Values:
        """Random at first; then the candidate that keras-tuner's Gaussian process rates best."""
        completed = [trial for trial in self.trials.values() if trial.status == "COMPLETED"]
        if len(completed) < self.num_initial_points:
            return super().populate_space(trial_id)
        self.gpr.fit(*self._vectorize_trials())
        candidates = self._candidates(sorted(completed, key=lambda trial: -trial.score)[:PARENTS])
        for number in np.argsort(self._bounds(candidates)) if candidates else ():
            if self.fast(self.space.architecture(candidates[number])):
                return {"status": RUNNING, "values": candidates[number]}
        return {"status": STOPPED, "values": None}

    def _candidates(self, parents: list[Any]) -> list[Values]:
        """Samples, and the best trials with a few values of samples."""
        source = random.Random(self._seed_state)
        found = []
        for number in range(CANDIDATES):
            values = self._affordable_values()
            if values is None:
                break
            found.append(values)
            parent = parents[number % len(parents)].hyperparameters.values
            taken = source.sample(sorted(values), min(len(values), source.randint(1, MOST_CHANGES)))
            child = {name: values[name] if name in taken else parent[name] for name in values}
            if not self._duplicate(child) and self.affordable(self.space.architecture(child)):
                found.append(child)
        return found

    def _bounds(self, candidates: list[Values]) -> np.ndarray:
        """The lower confidence bounds of their losses, which keras-tuner minimizes."""
        points = [
            [parameter.value_to_prob(values[parameter.name]) for parameter in self._nonfixed_space()]
            for values in candidates
        ]
        mean, deviation = self.gpr.predict(np.array(points), return_std=True)
        return mean - self.beta * deviation


def make_oracle(
    config: TuneConfig,
    space: SearchSpace,
    hyperparameters: kt.HyperParameters,
    **callbacks: Callable[..., Any],
) -> BudgetOracle:
    """The oracle of a search, for `callbacks` as of `BudgetOracle`."""
    options: dict[str, Any] = {
        "space": space,
        "objective": kt.Objective(OBJECTIVE, "max"),
        "hyperparameters": hyperparameters,
        "seed": config.training.seed + 1,  # keras-tuner takes 0 for none
        "max_consecutive_failed_trials": config.trials + 1,  # the search judges failures itself
        **callbacks,
    }
    if config.algorithm == "hyperband":
        oracle = HyperbandOracle(
            max_epochs=config.training.epochs, hyperband_iterations=config.trials, **options
        )
        oracle.max_trials = config.trials
        return oracle
    if config.algorithm == "bayesian":
        # keras-tuner's default, three for each parameter, would be all trials of most searches.
        initial = max(3, min(3 * len(space.parameters), config.trials // 3))
        return BayesianOracle(max_trials=config.trials, num_initial_points=initial, **options)
    return RandomOracle(max_trials=config.trials, **options)
