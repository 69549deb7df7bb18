"""The command line: parses, calls, prints. It imports no framework before a command needs it."""

from __future__ import annotations

import io
import sys

import cyclopts

from keras_googlenet import __version__
from keras_googlenet.cli import data, evaluate, export, profile, serving, train, tune, weights
from keras_googlenet.cli.quiet import quieten
from keras_googlenet.errors import Interrupted, reported
from keras_googlenet.text import say

app = cyclopts.App(
    name="keras-googlenet",
    help="GoogLeNet (Inception v1) for Keras 3: from images to a served model.",
    version=__version__,
    config=train.fill_in,
    suppress_keyboard_interrupt=False,
)
for command in (
    data.prepare,
    data.inspect,
    train.train,
    train.recipes,
    tune.tune,
    evaluate.evaluate,
    export.export,
    serving.serve,
    serving.predict,
    weights.app,
    profile.profile,
):
    app.command(command)


def main() -> None:
    """Run the command line; a user's mistake is one line on standard error and exit code 2."""
    quieten()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that the terminal cannot show must not end the work
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with reported(cyclopts.CycloptsError):
            app(exit_on_error=False, print_error=False, result_action="return_value")
    except ModuleNotFoundError as error:
        if error.name != "tensorflow":
            raise
        backend = "train and evaluate do without it on another backend: KERAS_BACKEND=jax"
        say(f"error: TensorFlow is not installed: pip install tensorflow ({backend})", file=sys.stderr)
        sys.exit(2)
    except Interrupted as stopped:
        say(stopped, file=sys.stderr)
        sys.exit(128 + stopped.signal)
    except KeyboardInterrupt:
        say("interrupted", file=sys.stderr)
        sys.exit(130)
