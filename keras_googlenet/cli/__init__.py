"""The command line: parses, calls, prints. It imports no framework before a command needs it."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from typing import Any

import cyclopts

from keras_googlenet import __version__
from keras_googlenet.cli import data, evaluate, explain, export, help, profile, serving, train, tune, weights
from keras_googlenet.errors import UserError, reported
from keras_googlenet.quiet import set_up
from keras_googlenet.storage.place import address
from keras_googlenet.text import is_utf8

# Which arguments of a command may be an address in object storage.
ADDRESSES = {
    "train": ("data", "run", "weights"),
    "inspect": ("data", "weights"),
    "evaluate": ("run", "data", "ensemble", "weights"),
    "export": ("run", "to", "data"),
    "sync": ("place",),
    "predict": ("model", "weights"),
    "explain": ("model", "weights"),
}


def check_addresses(
    app: cyclopts.App, commands: tuple[str, ...], arguments: cyclopts.ArgumentCollection
) -> None:
    """Refuse an address where a local path is needed, which would become a folder named `s3:`."""
    for argument in arguments:
        for token in argument.tokens:
            if address(token.value) and argument.field_info.name not in ADDRESSES.get("".join(commands), ()):
                raise UserError(f"expected a local path as {argument.name}, got the address {token.value}")


app = cyclopts.App(
    name="keras-googlenet",
    help="GoogLeNet (Inception v1) for Keras 3: from images to a served model.",
    version=__version__,
    config=(train.fill_in, check_addresses),
    suppress_keyboard_interrupt=False,
    default_parameter=cyclopts.Parameter(negative_iterable=("no-",), consume_multiple=True),
    help_formatter=help.Formatter(),
    help_epilogue=help.epilogue(""),
)
COMMANDS: tuple[Callable[..., Any], ...] = (  # as a newcomer meets them
    data.sample,
    serving.predict,
    explain.explain,
    serving.serve,
    train.train,
    train.recipes,
    evaluate.evaluate,
    evaluate.compare,
    evaluate.results,
    export.export,
    serving.deploy,
    serving.sync,
    tune.tune,
    data.inspect,
    data.prepare,
    profile.profile,
)
for place, command in enumerate(COMMANDS):
    app.command(command, sort_key=place, help_epilogue=help.epilogue(command.__name__) or "")
app.command(weights.app)
app.register_install_completion_command()


def main() -> None:
    """Run the command line; a user error is one line on standard error and exit code 2."""
    set_up()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that the terminal cannot show must not end the work
        sys.stdout.reconfigure(errors="backslashreplace")
    with reported(cyclopts.CycloptsError), without_tensorflow():
        _check_encoding(sys.argv[1:])
        try:
            app(exit_on_error=False, print_error=False, result_action="return_value")
        except cyclopts.UnknownOptionError as error:
            raise UserError(help.instead(error)) from None
        except cyclopts.UnusedCliTokensError as error:
            raise UserError(help.unused(error)) from None
        except (UserError, cyclopts.CycloptsError) as error:
            raise UserError(help.as_options(str(error), app, sys.argv[1:])) from None


def _check_encoding(words: list[str]) -> None:
    """Refuse a path that is not UTF-8 where Keras or TensorFlow may need to open it."""
    if words[:1] in (["predict"], ["prepare"], ["explain"]):  # which read and copy files of any name
        return
    for word in words:
        if not is_utf8(word):
            raise UserError(f"expected names in UTF-8, got {word!r}: rename the file or folder")


@contextlib.contextmanager
def without_tensorflow() -> Iterator[None]:
    """Report a missing TensorFlow in one line: the package itself is not broken."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "tensorflow":
            raise
        backend = "train and evaluate do without it on another backend: KERAS_BACKEND=jax"
        raise UserError(f"TensorFlow is not installed: pip install tensorflow ({backend})") from None
