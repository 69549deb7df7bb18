"""One trial: a sampled network, trained as a run is, in keras-tuner's tuner."""

from __future__ import annotations

import gc
import math
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import keras_tuner as kt

from keras_googlenet.data.order import Cursor, Order
from keras_googlenet.data.parts import ImageData
from keras_googlenet.errors import UserError
from keras_googlenet.files import replacing, write_text
from keras_googlenet.images.decoder import has_tensorflow
from keras_googlenet.images.spec import Preprocessing
from keras_googlenet.network.surgery import strip_aux
from keras_googlenet.run.config import RunConfig
from keras_googlenet.text import say
from keras_googlenet.training import distribution, memory
from keras_googlenet.training.averaging import AverageStatistics
from keras_googlenet.training.callbacks import (
    StopSignals,
    is_exhausted,
    validation_accuracy,
    write_metrics,
)
from keras_googlenet.training.inputs import fit_data
from keras_googlenet.training.kernels import with_fast_layers, with_keras_layers
from keras_googlenet.training.network import compile_model
from keras_googlenet.training.precision import using_dtype_policy
from keras_googlenet.tuning.hypermodel import HyperGoogLeNet
from keras_googlenet.tuning.latency import latency_ms
from keras_googlenet.tuning.oracles import OBJECTIVE, BudgetOracle
from keras_googlenet.tuning.results import ARCHITECTURE, COMPLETED, EPOCHS, ERROR
from keras_googlenet.tuning.spaces import Value

WEIGHTS = "last.weights.h5"
TENSORBOARD = "tensorboard"
FIRST_FAILURES = 3  # without any success, after which a search has no point
IDLE_SECONDS = 1.0  # between two questions to an oracle that has no trial at the moment

Logs = dict[str, Any] | None


class SearchStopped(BaseException):
    """A signal ended a trial; not an `Exception`, which keras-tuner would take for a trial's failure."""


class SearchHaltedError(BaseException):
    """Neither this trial nor any other can run; not an `Exception`, for the same reason."""


@dataclass(frozen=True)
class Training:
    """What all trials share."""

    config: RunConfig
    data: ImageData
    preprocessing: Preprocessing
    order: Order
    policy: str
    stop: StopSignals
    keeps_weights: bool  # for a later trial to start from


class TrainedAsRun(HyperGoogLeNet):
    """The hypermodel of a search: compiled with the options of a run."""

    def __init__(self, training: Training, **options: Any) -> None:
        prepared = training.preprocessing
        super().__init__(
            input_shape=(prepared.height, prepared.width, prepared.channels),
            classes=len(training.data.class_names),
            aux_heads=training.config.aux_heads,
            steps_per_epoch=training.order.steps,
            **options,
        )
        self.training = training

    def config(self, values: dict[str, Value]) -> RunConfig:
        """The options of a sample's run."""
        chosen = {name: values[name] for name, _ in self.space.extras if name in values}
        return replace(self.training.config, **chosen)  # type: ignore[arg-type]

    def _to_train(self, model: keras.Model) -> keras.Model:
        """The network in the layers that a run trains with."""
        return with_fast_layers(model)

    def _compile(self, model: keras.Model, hp: kt.HyperParameters) -> None:
        compile_model(model, self.config(hp.values), self.steps_per_epoch)


class ChannelTuner(kt.Tuner):
    """keras-tuner's tuner, whose trials are trained as `train` does.

    Args:
        oracle: What proposes networks.
        hypermodel: What builds them.
        folder: The search's.
    """

    hypermodel: TrainedAsRun

    def __init__(self, oracle: BudgetOracle, hypermodel: TrainedAsRun, folder: Path) -> None:
        self.folder = folder
        self.is_idle = False
        self.failures = self.successes = 0
        super().__init__(oracle, hypermodel, directory=folder.parent, project_name=folder.name)

    def _populate_initial_space(self) -> None:
        """Nothing: the oracle already has the whole space, and no network needs to be built for it."""

    def _get_tuner_fname(self) -> str:
        """The file that marks a search to resume; keras-tuner writes its own only after the first trial."""
        return str(self.folder / "oracle.json")

    def save(self) -> None:
        """The oracle's state is all there is."""
        if not self._is_worker():
            self.oracle.save()

    def reload(self) -> None:
        """The oracle's state is all there is."""
        if not self._is_worker():
            self.oracle.reload()

    def pre_create_trial(self) -> None:
        """Pause between requests to an oracle that waits for other workers."""
        if self.hypermodel.training.stop.received is not None:
            raise SearchStopped
        if self.is_idle:
            time.sleep(IDLE_SECONDS)
        self.is_idle = True

    def on_trial_begin(self, trial: Any) -> None:
        """Note that a trial has arrived."""
        self.is_idle = False
        super().on_trial_begin(trial)

    def on_trial_end(self, trial: Any) -> None:
        """Report a failure and its cause; keras-tuner would skip it silently."""
        failed = trial.status != COMPLETED
        self.failures, self.successes = self.failures + failed, self.successes + (not failed)
        reason = ""
        if failed:
            message = trial.message or "no reason known"
            reason = message.strip().splitlines()[-1]
            write_text(Path(self.get_trial_dir(trial.trial_id)) / ERROR, message)
            say(f"{self.folder}: trial {trial.trial_id} FAILED: {reason}", file=sys.stderr, flush=True)
        super().on_trial_end(trial)
        if failed and not self.successes and self.failures >= FIRST_FAILURES:
            raise UserError(f"the first {self.failures} trials all failed, the last with {reason}")

    def run_trial(self, trial: Any, *_: Any, **__: Any) -> dict[str, float]:
        """Train a network; its figures are those of the best epoch by validation accuracy."""
        try:
            return self._train(trial)
        except Exception as error:
            if memory.DISK_FULL in str(error):  # not the network's failure: a rerun trains it again
                raise SearchHaltedError(str(error)) from error
            raise

    def _train(self, trial: Any) -> dict[str, float]:
        training, hypermodel = self.hypermodel.training, self.hypermodel
        keras.backend.clear_session()
        gc.collect()
        keras.utils.set_random_seed(training.config.seed)
        hp = trial.hyperparameters
        hp.values = hypermodel.space.exact(hp.values)
        folder = Path(self.get_trial_dir(trial.trial_id))
        write_text(folder / ARCHITECTURE, hypermodel.architecture(hp).to_json())
        began = time.monotonic()
        with using_dtype_policy(training.policy), distribution.scope():
            model = hypermodel.build(hp)
            model.optimizer.build(model.trainable_variables)
        latency = latency_ms(strip_aux(with_keras_layers(model)))
        first = int(hp.values.get("tuner/initial_epoch", 0))
        last = int(hp.values.get("tuner/epochs", training.config.epochs))
        if "tuner/trial_id" in hp.values:  # Hyperband's name for the trial to start from
            model.load_weights(Path(self.get_trial_dir(hp.values["tuner/trial_id"])) / WEIGHTS)
            model.optimizer.begin_at(first * training.order.steps)
        follow = FollowTrial(folder / EPOCHS, training)
        model.fit(
            **fit_data(
                training.config,
                training.preprocessing,
                training.data,
                training.order,
                Cursor(first, 0),
                len(model.outputs),
            ),
            initial_epoch=first,
            epochs=last,
            verbose=0,
            callbacks=[*_averaging(training), follow, *self._tensorboard(trial)],
        )
        if training.keeps_weights:
            with replacing(folder / WEIGHTS) as unfinished:
                model.save_weights(unfinished)
        distribution.end()
        return {
            OBJECTIVE: max(map(validation_accuracy, follow.rows)),
            "latency_ms": latency,
            "seconds": time.monotonic() - began,
        }

    def _tensorboard(self, trial: Any) -> list[keras.callbacks.Callback]:
        if not has_tensorflow():
            return []
        from tensorboard.plugins.hparams import api

        folder = str(self.folder / TENSORBOARD / trial.trial_id)
        hparams = {
            api.HParam(parameter.name, api.Discrete(parameter.values)): trial.hyperparameters.values[
                parameter.name
            ]
            for parameter in self.hypermodel.space.parameters
        }
        return [
            keras.callbacks.TensorBoard(folder),
            api.KerasCallback(folder, hparams, trial_id=trial.trial_id),
        ]


class FollowTrial(keras.callbacks.Callback):
    """A trial's table of epochs, and reasons to end it."""

    def __init__(self, table: Path, training: Training) -> None:
        super().__init__()
        self.table = table
        self.training = training
        self.rows: list[dict[str, float]] = []

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        if self.training.stop.received is not None:
            raise SearchStopped
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            raise kt.errors.FailedTrialError(f"the loss is no longer finite in step {batch + 1} of an epoch")

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self.rows.append({name: float(value) for name, value in (logs or {}).items()})
        write_metrics(self.table, self.rows)
        self.model.stop_training = is_exhausted(self.rows, self.training.config.early_stopping)


def _averaging(training: Training) -> list[keras.callbacks.Callback]:
    if training.config.average is None:
        return []
    statistics = AverageStatistics(training.data.train, training.preprocessing, training.config.seed)
    return [keras.callbacks.SwapEMAWeights(), statistics]
