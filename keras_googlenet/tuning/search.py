"""`tune(config)`: from images to the network whose channels suit them and a budget."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from signal import SIGINT
from typing import Any

import keras
import keras_tuner as kt

from keras_googlenet.data.feed import check_augmentations
from keras_googlenet.data.parts import ImageData
from keras_googlenet.errors import Interrupted, UserError, checked_names
from keras_googlenet.files import LOCK, held, remove_unfinished
from keras_googlenet.network.architecture import Architecture, smallest_input
from keras_googlenet.network.cost import InputSize, cost
from keras_googlenet.network.googlenet import GoogLeNet
from keras_googlenet.run.inputs import open_data, run_preprocessing
from keras_googlenet.text import reason, say
from keras_googlenet.training import memory
from keras_googlenet.training.callbacks import StopSignals
from keras_googlenet.training.inputs import epoch_order
from keras_googlenet.training.kernels import check_weights_can_change
from keras_googlenet.training.network import architecture
from keras_googlenet.training.precision import dtype_policy, using_dtype_policy
from keras_googlenet.training.table import clock
from keras_googlenet.tuning import budgets, results
from keras_googlenet.tuning.config import TuneConfig
from keras_googlenet.tuning.hypermodel import with_defaults
from keras_googlenet.tuning.latency import latency_ms
from keras_googlenet.tuning.oracles import BudgetOracle, make_oracle
from keras_googlenet.tuning.report import report
from keras_googlenet.tuning.results import COMPLETED, RUNNING, Search, Trial
from keras_googlenet.tuning.spaces import SearchSpace
from keras_googlenet.tuning.trials import (
    ChannelTuner,
    SearchHaltedError,
    SearchStopped,
    TrainedAsRun,
    Training,
)

TUNER_ID, ORACLE_IP, ORACLE_PORT = "KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT"
CHIEF = "chief"  # what the identifier of the process that holds the oracle contains


@checked_names
def tune(config: TuneConfig, *, data: ImageData | None = None) -> list[Trial]:
    """Search the channels of a network within a budget, and leave a folder of results.

    The folder, `config.training.run`, holds `trials.csv`, `best.json` (an `Architecture`), `pareto.png`,
    `importance.png`, `tensorboard/` and a folder for each trial. The first trial is the unchanged network.
    An existing search is resumed; raise `trials` to extend it. With keras-tuner's
    environment (`KERASTUNER_TUNER_ID`, `_ORACLE_IP`, `_ORACLE_PORT`) the process whose identifier contains
    "chief" proposes networks, and the others, each with a unique ID, train them; all share the folder.

    Args:
        config: The search's options.
        data: The images, in place of `config.training.data`.

    Returns:
        All trials in the folder so far, of all workers, in their order.

    Raises:
        UserError: The folder belongs to another search, the data cannot be used, the budget admits too few
            networks, or no trial succeeded.
        Interrupted: SIGTERM or SIGINT came; rerun to resume the search.
    """
    _check_environment(config)
    training = config.training
    if training.sync_batch_norm or training.gradient_exchange != "float32":
        raise UserError(
            "expected no `sync_batch_norm` or `gradient_exchange` in a search: they are `train`'s"
        )
    check_augmentations(training.augment)
    if data is None:
        data = open_data(training)
    if not data.validation.count:
        raise UserError(
            "expected validation images, by which a search compares networks: set `validation_fraction`, "
            "such as 0.1"
        )
    preprocessing = run_preprocessing(training, data)
    size = InputSize(preprocessing.height, preprocessing.width, preprocessing.channels, len(data.class_names))
    space = search_space(config)
    for base in space.bases:
        smallest = smallest_input(base, aux_heads=training.aux_heads)
        if min(size.height, size.width) < smallest:
            raise UserError(
                f"{base.name} needs images of {smallest} pixels at least, got {size.height}: choose another "
                "`image_size` or `variant`, or no auxiliary heads"
            )
    search = Search(config, size)
    budgets.check(space, search.budget, size, training.seed)
    stop = StopSignals()
    shared = Training(
        training,
        data,
        preprocessing,
        epoch_order(training, data),
        dtype_policy(training.precision),
        stop,
        keeps_weights=config.algorithm == "hyperband",
    )
    fast = _fast_enough(config, size, shared.policy)
    if not fast(space.architecture({one.name: one.values[0] for one in space.parameters})):
        raise UserError(f"the narrowest network takes longer than {config.max_latency_ms} ms: allow more")
    results.record(search)
    role = _role()
    with memory.guarded(), held(training.run, "searches in", LOCK + (f"-{role}" if role else "")):
        if not role:  # else others may be writing
            remove_unfinished(training.run)  # of a process that was killed as it wrote
        if not _is_finished(search):
            _search(search, space, shared, fast)
        trials = report(training.run)
    _print_end(search, trials)
    return trials


def search_space(config: TuneConfig) -> SearchSpace:
    """The space of a search.

    Raises:
        UserError: A variant's file cannot be read, or holds no architecture; or two have the same name.
    """
    training = config.training
    bases = [
        architecture(replace(training, variant=name))
        for name in dict.fromkeys([training.variant, *config.variants])
    ]
    names = [base.name for base in bases]
    if len(set(names)) < len(names):
        raise UserError(
            f"expected `variants` of different names, got {max(names, key=names.count)!r} twice: change the "
            "name in one of the files"
        )
    if training.dropout is not None:
        bases = [replace(base, dropout=training.dropout) for base in bases]
    return SearchSpace(config.space, tuple(bases), with_defaults(config.extras, bases[0], training))


def _search(
    search: Search, space: SearchSpace, shared: Training, fast: Callable[[Architecture], bool]
) -> None:
    """Run the remaining trials."""
    config = search.config
    folder = config.training.run
    hypermodel = TrainedAsRun(shared, space=space)
    hyperparameters = kt.HyperParameters()
    hypermodel.declare_hyperparameters(hyperparameters)
    oracle = make_oracle(
        config,
        space,
        hyperparameters,
        affordable=lambda network: search.budget.admits(cost(network, search.size)),
        fast=fast,
        on_end=Progress(search),
    )
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the reload is reported below
            tuner = ChannelTuner(oracle, hypermodel, folder.absolute())
    except (ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        raise UserError(f"cannot resume the search in {folder}: {error!r}") from error
    role = _role()
    done = sum(trial.status != RUNNING for trial in oracle.trials.values())
    say(
        f"{folder}: {config.algorithm} search of {config.trials} trials in {config.space}"
        + f", {done} done already" * bool(done)
        + f", as {role}" * bool(role),
        flush=True,
    )
    watched = contextlib.nullcontext() if role and CHIEF in role else shared.stop.watched()
    try:
        with watched:
            tuner.search()
    except (SearchStopped, KeyboardInterrupt):
        raise Interrupted(
            f"the search in {folder} stopped: rerun to resume",
            shared.stop.received or SIGINT,
        ) from None
    except SearchHaltedError as error:
        raise UserError(f"the disk is full ({reason(error)}): free some space, then rerun") from None
    except RuntimeError as error:
        if "Failed to bind" not in str(error):
            raise
        address = f"{os.environ[ORACLE_IP]}:{os.environ[ORACLE_PORT]}"
        raise UserError(f"the chief cannot listen on {address}: {error}") from None


def _role() -> str | None:
    """This process's identifier, where several share a search."""
    return os.environ.get(TUNER_ID) if ORACLE_IP in os.environ else None


class Progress:
    """The line that follows each trial: how many are done, the best so far, and the time left."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self.began = time.monotonic()
        self.here = 0  # trials that ended since

    def __call__(self, oracle: BudgetOracle, trial: Any) -> None:
        config = self.search.config
        self.here += 1
        trials = results.read_trials(config.training.run, self.search)
        done = sum(one.status != RUNNING for one in trials)
        left = (time.monotonic() - self.began) / self.here * (config.trials - done)
        best = results.best_trial(trials)
        score = f"{trial.score:.4f}" if trial.status == COMPLETED else "FAILED"
        say(
            f"{config.training.run}: trial {trial.trial_id} {score}; {done} of {config.trials} done, "
            + (f"best {best.score:.4f} (trial {best.name})" if best else "none within the budget yet")
            + f", about {clock(left)} left" * (done < config.trials),
            flush=True,
        )


def _fast_enough(config: TuneConfig, size: InputSize, policy: str) -> Callable[[Architecture], bool]:
    """Whether a network meets the latency budget; builds and measures each network once."""
    measured: dict[Architecture, float] = {}

    def fast(network: Architecture) -> bool:
        if config.max_latency_ms is None:
            return True
        if network not in measured:
            with using_dtype_policy(policy):
                model = GoogLeNet(
                    variant=network,
                    input_shape=(size.height, size.width, size.channels),
                    classes=size.classes,
                    aux_heads=False,
                )
            measured[network] = latency_ms(model)
            keras.backend.clear_session()
        return measured[network] <= config.max_latency_ms

    return fast


def _is_finished(search: Search) -> bool:
    trials = results.read_trials(search.config.training.run, search)
    return sum(trial.status != RUNNING for trial in trials) >= search.config.trials


def _print_end(search: Search, trials: list[Trial]) -> None:
    folder, config = search.config.training.run, search.config
    failed = sum(trial.status == results.FAILED for trial in trials)
    if failed:
        say(f"{folder}: {failed} of {len(trials)} trials FAILED, see {results.TABLE}", file=sys.stderr)
    if len(trials) < config.trials:
        say(f"{folder}: no more networks within the budget were found after {len(trials)} trials")
    best = results.best_trial(trials)
    if best is None or best.cost is None:
        say(f"{folder}: no network within the budget ended with a score")
        return
    say(
        f"{folder}: best {best.score:.4f} of trial {best.name}, {best.cost.parameters:,} parameters, "
        f"{best.cost.macs:,} multiply-adds: {folder / results.BEST}"
    )


def _check_environment(config: TuneConfig) -> None:
    check_weights_can_change()
    names = (ORACLE_IP, ORACLE_PORT, TUNER_ID)
    missing = [name for name in names if not os.environ.get(name)]
    if ORACLE_IP in os.environ and missing:
        raise UserError(f"expected {' and '.join(missing)} with {ORACLE_IP}, to search in several processes")
    if config.algorithm == "bayesian" and not importlib.util.find_spec("sklearn"):
        raise UserError('the Bayesian search needs scikit-learn: pip install "keras-googlenet[bayesian]"')
