"""`tune`: a search for the best channels for given images and budget."""

from __future__ import annotations

import os
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import cyclopts

from keras_googlenet.cli.train import as_typed
from keras_googlenet.data.sources import check_data
from keras_googlenet.errors import UserError
from keras_googlenet.quiet import import_tensorflow
from keras_googlenet.run.config import RunConfig
from keras_googlenet.text import say
from keras_googlenet.tuning.config import Algorithm, TuneConfig
from keras_googlenet.tuning.results import BEST, Trial, best_trial
from keras_googlenet.tuning.spaces import Extra, SpaceName


def tune(
    *,
    training: Annotated[RunConfig | None, cyclopts.Parameter(name="*")] = None,
    space: SpaceName = TuneConfig.space,
    algorithm: Algorithm = TuneConfig.algorithm,
    trials: int = TuneConfig.trials,
    variants: tuple[str, ...] = TuneConfig.variants,
    extras: tuple[Extra, ...] = TuneConfig.extras,
    max_params: int | None = None,
    max_macs: int | None = None,
    max_latency_ms: float | None = None,
    tuner_id: str | None = None,
    oracle: str | None = None,
    report: Path | None = None,
) -> None:
    """Search for the best channels within a budget. Rerun to resume; raise --trials to extend a search.

    Parameters
    ----------
    training
        Options of each training.
    space
        What to search: a multiplier for the stem and each stage (stage_width), one for each column of Table 1
        in each stage (branch_ratio), or all 54 channel counts (block).
    algorithm
        Search algorithm; hyperband trains many networks for a few epochs, and the best for --epochs.
    trials
        Number of networks to train. The first is the unchanged network, as the baseline, even if it exceeds
        the budget.
    variants
        Further variants to choose from.
    extras
        Further hyperparameters to search.
    max_params
        Maximum number of parameters, without auxiliary heads.
    max_macs
        Maximum number of multiply-adds per image, without auxiliary heads.
    max_latency_ms
        Maximum time per image in milliseconds, measured on this machine, without auxiliary heads.
    tuner_id
        With several processes: the name of this one. Name the process that proposes networks "chief".
    oracle
        With several processes: HOST:PORT of the chief.
    report
        Rebuild the table and the pictures of this search's folder, and exit.
    """
    if report is not None:
        from keras_googlenet.tuning.report import report as rebuild

        rebuild(report)
        return
    if training is None:
        raise UserError("expected --data and --run, or --report with a search's folder")
    config = TuneConfig(
        training=training,
        space=space,
        algorithm=algorithm,
        trials=trials,
        variants=variants,
        extras=extras,
        max_params=max_params,
        max_macs=max_macs,
        max_latency_ms=max_latency_ms,
    )
    check_data(training.data)
    _join(tuner_id, oracle)
    import_tensorflow()
    from keras_googlenet.tuning.search import tune as search

    best = best_trial(search(config))
    if best is not None:
        say(f"train it in full: {command(config, best)}")


def command(config: TuneConfig, best: Trial) -> str:
    """The command that trains the best network as the search did; raise its --epochs if needed."""
    replaced = ("run", "recipe", "variant", "width", "dropout")  # the architecture holds the last three
    options = {
        field.name: getattr(config.training, field.name)
        for field in fields(RunConfig)
        if field.name not in replaced and getattr(config.training, field.name) != field.default
    }
    options |= {name: best.values[name] for name in config.extras if name != "dropout"}
    folder = config.training.run
    words = ["keras-googlenet train", f"--architecture {shlex.quote(str(folder / BEST))}", "--run RUN"]
    return " ".join([*words, *(as_typed(name, value) for name, value in options.items())])


def _join(tuner_id: str | None, oracle: str | None) -> None:
    """Set the environment variables by which keras-tuner finds the other processes."""
    if tuner_id is not None:
        os.environ["KERASTUNER_TUNER_ID"] = tuner_id
    if oracle is not None:
        host, _, port = oracle.rpartition(":")
        if not host or not port.isdigit():
            raise UserError(f"expected --oracle to be HOST:PORT, got {oracle!r}")
        os.environ |= {"KERASTUNER_ORACLE_IP": host, "KERASTUNER_ORACLE_PORT": port}
    if tuner_id is not None and "KERASTUNER_ORACLE_IP" not in os.environ:
        raise UserError("expected --oracle HOST:PORT with --tuner-id: the chief's address")
