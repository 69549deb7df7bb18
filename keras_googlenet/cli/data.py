"""`prepare`: what is done to images before training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cyclopts

from keras_googlenet.cli.quiet import silenced_libraries
from keras_googlenet.errors import UserError

NAMED = 20  # unreadable files in an error of one line


def prepare(
    source: Path,
    target: Path,
    /,
    *,
    size: int = 224,
    quality: int = 95,
    enlarge: Annotated[bool, cyclopts.Parameter(negative="")] = False,
    skip_corrupt: Annotated[bool, cyclopts.Parameter(negative="")] = False,
) -> None:
    """Write a folder's images to another folder, smaller, so that training decodes them faster.

    It may be interrupted: the same call again does what is left.

    Parameters
    ----------
    source
        A folder of images, at any depth; it is not changed.
    target
        The new folder: the images get the same paths in it.
    size
        Shorter side in pixels; the aspect is kept.
    quality
        Of JPEG images, 1 to 100. PNG images stay PNG.
    enlarge
        Enlarge images that are smaller than that; they are copied otherwise.
    skip_corrupt
        List files that are no images, and end well; they are an error otherwise, once all others are done.
    """
    from keras_googlenet.data.prepare import prepare as prepare_folder

    with silenced_libraries():
        done = prepare_folder(source, target, size=size, quality=quality, enlarge=enlarge)
    unreadable = [f"{source / file} ({reason})" for file, reason in done.unreadable.items()]
    if skip_corrupt:
        for line in unreadable:
            print(f"skipped {line}")
    print(
        f"{target}: {done.resized} resized, {done.copied} copied, {done.present} already there, "
        f"{len(unreadable)} skipped"
    )
    if unreadable and not skip_corrupt:
        more = f" and {len(unreadable) - NAMED} more" if len(unreadable) > NAMED else ""
        raise UserError(
            f"cannot read {', '.join(unreadable[:NAMED])}{more}: expected JPEG or PNG images; replace or "
            "remove them, or skip them with --skip-corrupt"
        )
