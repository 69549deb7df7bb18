"""`explain`: what a network sees in images."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Annotated

import cyclopts

from keras_googlenet.errors import UserError
from keras_googlenet.names import TOP_K
from keras_googlenet.quiet import import_tensorflow, silenced_libraries
from keras_googlenet.text import say
from keras_googlenet.weights.shipped import check_network


def explain(
    *images: str,
    to: Path,
    model: Path | None = None,
    weights: str | None = None,
    top: int = 3,
    blocks: Annotated[tuple[str, ...], cyclopts.Parameter(consume_multiple=False)] = (),
    every: str = "1s",
) -> None:
    """Draw where in images a network sees its best classes: one picture per image.

    Shows class activation maps over the image and, for a run with auxiliary heads, each head's probabilities.
    Reports an unreadable image, explains all others, and then exits with 1.

    Parameters
    ----------
    images
        Image files, folders, videos and https:// URLs; a .txt file is a list of them, one per line, and "-"
        reads a list from standard input.
    to
        Folder for the pictures. Existing files are kept: a new name gets a number.
    model
        A run's folder, an exported version's folder, or the model's directory for its highest version. An
        export needs --cam.
    weights
        A network of the package such as cifar10, "imagenet", a run's folder, or the https:// address of a
        zipped one.
    top
        Number of best classes per image, 1 to 5.
    blocks
        Inception blocks, such as 3b or 5b, of which to draw the channels that respond most.
    every
        Time between video frames, such as 1s or 500ms.
    """
    if (model is None) == (weights is None):
        raise UserError("expected either --model FOLDER or --weights NAME, such as --weights cifar10")
    if not 1 <= top <= TOP_K:  # an exported version has no more maps
        raise UserError(f"expected --top to be between 1 and {TOP_K}, got {top}")
    from keras_googlenet.inference.sources import Sources, seconds

    sources = Sources(images, seconds(every))
    sources.check()
    if to.exists() and not to.is_dir():
        raise UserError(f"expected --to to be a folder, got the file {to}")
    network = weights or Path(str(model))  # a name of the package is text, a folder a path
    check_network(network)
    import_tensorflow()
    import numpy as np

    from keras_googlenet.inference.classifier import load
    from keras_googlenet.inference.explain import draw

    count = failed = 0
    with silenced_libraries():
        classifier = load(network)
        # Report what the network cannot do once, before any image.
        classifier.explain(np.zeros((1, 1, 3), "uint8"), top=top, blocks=blocks)
        to.mkdir(parents=True, exist_ok=True)
        for item, _ in sources:
            count += 1
            try:
                found = classifier.explain(item.load(), top=top, blocks=blocks)
            except UserError as error:
                failed += 1
                say(f"{item.name}  error: {error}")
                continue
            picture = _free(to / f"{Path(item.name).stem}.png")
            draw(found, picture, Path(item.name).name)
            label, probability = found.classes[0]
            say(f"{item.name}  {label}  {probability:.4f}  {picture}")
    if failed:
        say(f"{failed:,} of {count:,} images failed: see their errors", file=sys.stderr)
        sys.exit(1)


def _free(file: Path) -> Path:
    """The file, or the first of `name-2.png`, `name-3.png`, ... that does not exist."""
    others = (file.with_stem(f"{file.stem}-{number}") for number in itertools.count(2))
    return next(each for each in itertools.chain([file], others) if not each.exists())
