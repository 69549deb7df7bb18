"""`weights list`, `fetch` and `convert`: the published weights."""

from __future__ import annotations

from pathlib import Path

import cyclopts

from keras_googlenet.errors import UserError
from keras_googlenet.quiet import import_tensorflow
from keras_googlenet.text import say

app = cyclopts.App(name="weights", help="List, fetch and convert published weights.")


@app.command(name="list")
def list_weights() -> None:
    """List the published weights."""
    from keras_googlenet.weights.published import WEIGHTS

    say(f"{'name':12} {'variant':12} {'top-1':>6} {'top-5':>6} {'heads':5} {'license':28} address")
    for spec in WEIGHTS.values():
        heads = "yes" if spec.aux_heads else "no"
        say(
            f"{spec.name:12} {spec.variant:12} {spec.top1:6.2f} {spec.top5:6.2f} {heads:5} "
            f"{spec.license:28} {spec.address}"
        )


@app.command
def fetch(name: str, /) -> None:
    """Download published weights, check them and convert them.

    Parameters
    ----------
    name
        A name that `weights list` prints.
    """
    from keras_googlenet.weights.published import WEIGHTS

    if name not in WEIGHTS:
        raise UserError(f"expected one of {', '.join(WEIGHTS)}, got {name!r}")
    import_tensorflow()
    from keras_googlenet.network.pretrained import converted_file

    say(converted_file(WEIGHTS[name]))


@app.command
def convert(file: Path, /, *, variant: str, to: Path) -> None:
    """Convert a file in a published format, of the same network, to a Keras weights file.

    Parameters
    ----------
    file
        An .onnx, .caffemodel or .pth file, or a TensorFlow checkpoint.
    variant
        The network that it holds: paper, torchvision or slim.
    to
        The .weights.h5 file to write; it must not exist.
    """
    from keras_googlenet.weights.published import spec_of_file

    spec = spec_of_file(file, variant)
    if not to.name.endswith(".weights.h5"):
        raise UserError(f"expected --to to end in .weights.h5, got {to}")
    if to.exists():
        raise UserError(f"{to} exists: choose another file, or delete it")
    import_tensorflow()
    from keras_googlenet.network.pretrained import convert_file

    convert_file(file, spec, to)
    say(to)
