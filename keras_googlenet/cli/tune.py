"""`tune`: which channels are best for one's own images and budget."""

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
    """Search the channels of a network; the same command goes on with a search that was stopped.

    Parameters
    ----------
    training
        How each network is trained.
    space
        What is chosen: a factor for the stem and each stage (stage_width), one for each column of Table 1 in
        each stage (branch_ratio), or all 54 counts (block).
    algorithm
        How networks are proposed; hyperband gives many of them few epochs, and --epochs to the best.
    trials
        Networks to train. The first is the unchanged one, as the baseline, whatever the budget.
    variants
        Networks to choose among, beside --variant.
    extras
        What else is chosen.
    max_params
        Parameters of the main path that a network may have at most.
    max_macs
        Multiply-adds of the main path for one image, at most.
    max_latency_ms
        Milliseconds that the main path may take for one image on this machine, at most; it is measured.
    tuner_id
        With several processes: this one's name. That of the one that proposes networks contains "chief".
    oracle
        With several processes: host and port of the chief.
    report
        Make the table and the pictures of this search's folder anew, and nothing else.
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
    """What trains the best network as the search trained it, for more --epochs if wanted."""
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
    """Tell keras-tuner of the other processes, as its environment variables do."""
    if tuner_id is not None:
        os.environ["KERASTUNER_TUNER_ID"] = tuner_id
    if oracle is not None:
        host, _, port = oracle.rpartition(":")
        if not host or not port.isdigit():
            raise UserError(f"expected --oracle to be HOST:PORT, got {oracle!r}")
        os.environ |= {"KERASTUNER_ORACLE_IP": host, "KERASTUNER_ORACLE_PORT": port}
    if tuner_id is not None and "KERASTUNER_ORACLE_IP" not in os.environ:
        raise UserError("expected --oracle HOST:PORT beside --tuner-id: where the chief is")
