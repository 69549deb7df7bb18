"""`train`: from images to a run's folder."""

from __future__ import annotations

import importlib
import json
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import cyclopts

from keras_googlenet.data.sources import check_data
from keras_googlenet.errors import UserError
from keras_googlenet.quiet import import_tensorflow
from keras_googlenet.run.config import RunConfig, check_new
from keras_googlenet.run.recipes import RECIPES, recipe_options
from keras_googlenet.storage.place import Place, address
from keras_googlenet.storage.published import check_free, local
from keras_googlenet.text import reason, say


def train(
    *,
    config: Annotated[RunConfig, cyclopts.Parameter(name="*")],
    architecture: Path | None = None,
    resume: Annotated[bool, cyclopts.Parameter(negative="")] = False,
    recorded_split: Annotated[bool, cyclopts.Parameter(negative="")] = False,
    callback: tuple[str, ...] = (),
    distributed: Annotated[bool, cyclopts.Parameter(negative="")] = False,
    coordinator_address: str | None = None,
    processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Train a network and leave a run folder.

    Parameters
    ----------
    architecture
        The JSON file of a network, such as a search's best.json; replaces --variant and --width.
    resume
        Resume the run in --run from its last checkpoint, or start it if there is none.
    recorded_split
        With --resume: if the images have changed, continue with the recorded files that still exist, in their
        recorded parts.
    callback
        A Keras callback to add: MODULE:FACTORY, a function without arguments that returns it.
    distributed
        Train in several processes that share each batch, on the JAX backend; start the same command in each.
    coordinator_address
        With --distributed: HOST:PORT of the first process, unless the launcher's environment has it.
    processes
        With --distributed: number of processes.
    process_id
        With --distributed: number of this process, from 0.
    """
    if recorded_split and not resume:
        raise UserError("--recorded-split needs --resume")
    if distributed:
        if config.batch_size == "auto":  # each process would find its own
            raise UserError("expected a number as --batch-size with --distributed")
        from keras_googlenet.training.distribution import connect

        connect(coordinator_address, processes, process_id)
    elif coordinator_address is not None or processes is not None or process_id is not None:
        raise UserError("--coordinator-address, --processes and --process-id need --distributed")
    if architecture is not None:
        config = replace(config, variant=str(architecture), width=1.0)
    there = address(config.run)
    if there is not None and distributed:
        raise UserError(f"expected a folder that all processes see as --run with --distributed, got {there}")
    check_data(config.data)
    if there is not None:
        check_free(Place(there), resume=resume)
    elif not resume:
        check_new(config.run)
    import_tensorflow()
    from keras_googlenet.training.train import train as train_run

    callbacks = [_made(each) for each in callback]
    train_run(config, resume=resume, recorded_split=recorded_split, callbacks=callbacks)


def _made(name: str) -> Any:
    """The Keras callback that `MODULE:FACTORY` makes; the module may lie in the current folder."""
    import keras

    module, _, factory = name.partition(":")
    if not module or not factory:
        raise UserError(f"expected --callback MODULE:FACTORY, such as tracking:mlflow, got {name!r}")
    sys.path.insert(0, os.getcwd())
    try:
        made = getattr(importlib.import_module(module), factory)()
    except (ImportError, AttributeError, TypeError) as error:
        raise UserError(f"cannot make a callback with {name}: {reason(error)}") from None
    finally:
        sys.path.remove(os.getcwd())
    if not isinstance(made, keras.callbacks.Callback):
        raise UserError(f"expected {name} to return a Keras callback, got {type(made).__name__}")
    return made


def recipes(
    name: str | None = None, /, *, names: Annotated[bool, cyclopts.Parameter(negative="")] = False
) -> None:
    """List the recipes of `train`, or show one in full: its source, command, run time and score.

    Parameters
    ----------
    name
        A recipe.
    names
        List the names alone, one on each line.
    """
    if name is not None and names:
        raise UserError("expected either a recipe's name or --names, got both")
    if names:
        say("\n".join(RECIPES))
        return
    if name is None:
        for each, recipe in RECIPES.items():
            say(f"{each:20} {(recipe.__doc__ or '').splitlines()[0]}")
        return
    options = recipe_options(name)
    say((RECIPES[name].__doc__ or "").rstrip(), end="\n\n")
    for option, value in options.items():
        say(f"    {as_typed(option, value)}")


def as_typed(option: str, value: Any) -> str:
    """An option of `train` with its value, as on the command line."""
    flag = option.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    return " ".join(
        f"--{flag} {shlex.quote(str(each))}" for each in (value if isinstance(value, tuple) else (value,))
    )


def fill_in(app: cyclopts.App, commands: tuple[str, ...], arguments: cyclopts.ArgumentCollection) -> None:
    """Give `train` and `tune` the options of a recipe, and `train` those of the run to resume."""
    if tuple(commands) not in (("train",), ("tune",)):
        return

    def given(name: str) -> str | None:
        tokens = arguments.get(name).tokens
        return tokens[0].value if tokens else None

    values: dict[str, Any] = {}
    recipe, run = given("--recipe"), given("--run")
    is_resumed = commands[0] == "train" and arguments.get("--resume").has_tokens
    if recipe is not None:
        epochs = given("--epochs") or ""
        values = recipe_options(recipe, int(epochs) if epochs.isdecimal() else None)
    elif is_resumed and run is not None and given("--data") is None:
        config = local(run) / "config.json"
        if not config.is_file():
            raise UserError(f"nothing to resume at {run}: expected a run's folder, or --data to start one")
        try:
            values = RunConfig.from_dict(json.loads(config.read_text())).to_dict()
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{config} is not a run's configuration ({error!r})") from None
    flags = {
        name.replace("_", "-"): value for name, value in values.items() if value is not None and name != "run"
    }
    # Below the command's name: at the top, `weights` would be taken for the command of that name.
    cyclopts.config.Dict({commands[0]: flags}, source=recipe or f"{run}")(app, commands, arguments)
