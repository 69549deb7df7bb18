"""Write predictions for any number of images to a file. Rerun to finish after an interruption."""

from __future__ import annotations

import json
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from keras_googlenet.errors import UserError
from keras_googlenet.files import held, write_json
from keras_googlenet.inference.sources import Found, Sources
from keras_googlenet.inference.tables import Answer, Row, in_one_line, table_at
from keras_googlenet.serving.client.answers import Failure, Item

ROWS = 32  # written at a time

Each = Callable[[Iterable[Item]], Iterator[Answer]]
"""A model's answers to images, in order."""


def predict_to(
    to: Path, sources: Sources, each: Each, job: dict[str, Any], *, top: int, copy_to: Path | None = None
) -> tuple[int, int]:
    """Write predictions to a file; rerun with the same arguments to finish.

    Args:
        to: The file, see `tables.table_at`. `TO.job` records the arguments until the file is complete.
        sources: The images.
        each: The model.
        job: Arguments that determine the rows, as JSON types; a resumed call must pass the same.
        top: Number of classes per image.
        copy_to: Copy image files to this folder, into one subfolder per class.

    Returns:
        Number of images, and number of failed images.

    Raises:
        UserError: `to` exists and is not an unfinished file of the same call, or the images have changed.
    """
    if copy_to is not None:
        _check_outside(copy_to, sources)
    table = table_at(to, top)
    begun = to.with_name(f"{to.name}.job")
    lock = f".{to.name}.lock"
    with ExitStack() as stack:
        stack.enter_context(held(to.parent, "writes predictions in", lock))
        stack.callback((to.parent / lock).unlink, missing_ok=True)
        if begun.is_file():
            _check_same(begun, job, to)
        elif to.exists():
            raise UserError(f"{to} exists: choose another file, or delete it")
        else:
            write_json(begun, job)
        found = iter(sources)
        count = failed = 0
        progress = stack.enter_context(
            tqdm(desc=f"{to}", total=sources.count(), unit=" images", leave=False, disable=None)
        )
        for row in table.rows():
            _skip(found, row, to)
            count += 1
            failed += row[1]
        progress.update(count)
        answers = _copied(found, each, copy_to) if copy_to is not None else each(one.item for one in found)
        while some := list(islice(answers, ROWS)):
            table.write(some)
            count += len(some)
            failed += sum(isinstance(answer, Failure) for answer in some)
            progress.update(len(some))
        table.finish()
        begun.unlink()
    return count, failed


def _check_outside(copy_to: Path, sources: Sources) -> None:
    for name in sources.folders():
        if copy_to.resolve().is_relative_to(Path(name).resolve()):
            raise UserError(f"expected `copy_to` outside of {name}, whose images the copies would join")


def _check_same(begun: Path, job: dict[str, Any], to: Path) -> None:
    try:
        then = dict(json.loads(begun.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise UserError(f"{begun} is damaged: delete it and {to}, or choose another file") from None
    differ = [f"{name} ({then.get(name)})" for name in job if then.get(name) != job[name]]
    if differ:
        raise UserError(
            f"{to} was started with a different {', '.join(differ)}: pass the same, or choose another file"
        )


def _skip(found: Iterator[Found], row: Row, to: Path) -> None:
    """Skip an image that has a row."""
    name = next((in_one_line(one.item.name) for one in found), "none")
    if name != row[0]:
        raise UserError(
            f"the images have changed since {to} was started: it has {row[0]}, but the next image is {name}; "
            "choose another file"
        )


def _copied(found: Iterable[Found], each: Each, folder: Path) -> Iterator[Answer]:
    """The answers; copies each image file to its class folder first."""
    asked: deque[Found] = deque()

    def items() -> Iterator[Item]:
        for one in found:
            asked.append(one)
            yield one.item

    for answer in each(items()):
        one = asked.popleft()
        if isinstance(answer, Failure):
            yield answer
            continue
        if one.place is None:
            raise UserError(f"expected image files to copy, got {answer.image}")
        label = answer.label.replace("/", "_").strip(".") or "_"
        _copy(Path(answer.image), folder / label / one.place)
        yield answer


def _copy(file: Path, target: Path) -> None:
    if target.exists():
        if target.read_bytes() != file.read_bytes():
            raise UserError(
                f"{target} exists, with other content than {file}: rename one, or choose another folder"
            )
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.unfinished")
    try:
        shutil.copy2(file, unfinished)
        unfinished.replace(target)
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
