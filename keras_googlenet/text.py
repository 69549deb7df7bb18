"""Lines for a terminal: names in them come from files and requests, and may hold any characters."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

KEPT = "\n\t"
# Marks that reverse the order in which the rest of a line is shown (Unicode TR 9).
REORDERING = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}


def printable(text: str) -> str:
    r"""`text` with control characters, lone surrogates and reordering marks as escapes: `\x1b`, `\u202e`."""
    if text.isprintable():
        return text
    return "".join(_escaped(character) if _is_unsafe(character) else character for character in text)


def is_utf8(text: str) -> bool:
    """Whether `text` can be written as UTF-8: a file's name of other bytes comes with lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


SHOWN: dict[str, str] = {}
"""What `say` prints instead of a local folder: the address in object storage that it is a copy of."""


def shown(text: str) -> str:
    """`text` with addresses instead of the local folders that are copies of what is there."""
    for folder, address in SHOWN.items():
        text = text.replace(folder, address)
    return text


def say(*values: Any, **options: Any) -> None:
    """`print`, with every value `shown` and made `printable`. All that the package prints goes through it."""
    print(*(printable(shown(str(value))) for value in values), **options)  # noqa: T201


def reason(error: BaseException) -> str:
    """Why something failed, in one line: the first of the error's message, or what kind of error it is."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def meant(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the known name that it may be a misspelling of, if any."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def nearest(typed: str, known: Iterable[str]) -> str | None:
    """The known name that an unknown one may mean: by initials (`lr`), beginning, or similar spelling."""
    word = typed.replace("-", "_").lower()
    names = {name.replace("-", "_"): name for name in known}
    found = [name for name in names if "".join(part[:1] for part in name.split("_")) == word]
    found += [name for name in names if word and name.startswith(word)]
    found += difflib.get_close_matches(word, names, n=1)
    return names[found[0]] if found else None


def listed(names: Sequence[Any], most: int = 5) -> str:
    """The first of some names, and how many more there are.

    Args:
        names: What to list.
        most: How many to name.
    """
    left = len(names) - most
    return ", ".join(map(str, names[:most])) + f" and {left:,} more" * (left > 0)


def text_table(header: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    """Aligned columns, numbers to the right; an empty column is omitted.

    Args:
        header: A title for each column.
        lines: Rows of as many cells.
    """
    columns = [
        [title, *map(str, cells)]
        for title, cells in zip(header, zip(*lines, strict=True), strict=True)
        if any(cell != "" for cell in cells)
    ]
    aligned = []
    for title, *cells in columns:
        width = max(map(len, (title, *cells)))
        is_number = all(cell[:1].isdigit() for cell in cells if cell)
        align = str.rjust if is_number else str.ljust
        aligned.append([align(cell, width) for cell in (title, "-" * width, *cells)])
    return "\n".join("  ".join(cells).rstrip() for cells in zip(*aligned, strict=True))


def _is_unsafe(character: str) -> bool:
    if character in KEPT:
        return False
    return unicodedata.category(character) in ("Cc", "Cs") or ord(character) in REORDERING


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
