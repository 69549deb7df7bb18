"""Predictions as rows of CSV, JSON lines or Parquet. Rerunning an interrupted command finishes the file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from keras_googlenet.errors import UserError
from keras_googlenet.files import replacing
from keras_googlenet.serving.client.answers import Failure, Prediction
from keras_googlenet.text import printable

Answer = Prediction | Failure
Row = tuple[str, bool]  # image name, and whether it failed

PART_ROWS = 10_000  # of Parquet


class Table(Protocol):
    """A file of predictions."""

    def rows(self) -> Iterator[Row]:
        """The rows of an earlier call; truncates an incomplete last row."""

    def write(self, answers: Sequence[Answer]) -> None:
        """Add rows."""

    def finish(self) -> None:
        """Write buffered rows."""


def table_at(path: Path, top: int) -> Table:
    """The table for a file name.

    Args:
        path: Ends in `.csv`, `.jsonl`, or `.parquet` for a folder of parts.
        top: Number of classes per image.

    Raises:
        UserError: Another suffix, a missing folder, or pyarrow is not installed.
    """
    kinds: dict[str, Callable[[Path, int], Table]] = {
        ".csv": csv_table,
        ".jsonl": json_table,
        ".parquet": ParquetTable,
    }
    if path.suffix not in kinds:
        raise UserError(f"expected a file that ends in {', '.join(kinds)}; got {path}")
    if not path.parent.is_dir():
        raise UserError(f"no folder {path.parent} to write {path.name} in")
    return kinds[path.suffix](path, top)


def of_shard(path: Path, place: int, number: int) -> Path:
    """A shard's own file: `predictions.csv` becomes `predictions-03-of-16.csv`; `place` is from 0."""
    return path.with_name(f"{path.stem}-{place + 1:0{len(str(number))}}-of-{number}{path.suffix}")


def csv_columns(top: int) -> list[str]:
    """The CSV columns; classes after the first are numbered from 2."""
    more = [f"{column}_{place}" for place in range(2, top + 1) for column in ("label", "probability")]
    return ["image", "label", "probability", *more, "error"]


def csv_line(values: Sequence[str]) -> str:
    """A row of CSV in one line: line breaks in a value are escaped."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([in_one_line(value) for value in values])
    return text.getvalue()


def csv_row(answer: Answer, top: int) -> list[str]:
    """An answer as `csv_columns` has it."""
    if isinstance(answer, Failure):
        return [answer.image, *[""] * (2 * top), answer.error]
    found = [text for label, score in answer.top[:top] for text in (label, f"{score:.6f}")]
    return [answer.image, *found, *[""] * (2 * top - len(found)), ""]


def json_row(answer: Answer, top: int) -> dict[str, Any]:
    """An answer as an object."""
    if isinstance(answer, Failure):
        return {"image": in_one_line(answer.image), "error": printable(answer.error)}
    return {
        "image": in_one_line(answer.image),
        "label": answer.label,
        "probability": answer.probability,
        "top": [{"label": label, "probability": score} for label, score in answer.top[:top]],
    }


@dataclass(frozen=True)
class Lines:
    """A text file with one row per line.

    Attributes:
        path: The file.
        first: Its first line, or "".
        line: A row's line.
        read: What `rows` needs of a line.
    """

    path: Path
    first: str
    line: Callable[[Answer], str]
    read: Callable[[str], Row]

    def rows(self) -> Iterator[Row]:
        if not self.path.exists():
            self.path.write_text(self.first, encoding="utf-8")
        whole = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file):
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                if number or not self.first:
                    yield self._read(line)
                elif line.decode(errors="replace") != self.first:
                    raise self._unlike()
        with self.path.open("r+b") as file:
            file.truncate(whole)
            if not whole:
                file.write(self.first.encode())

    def write(self, answers: Sequence[Answer]) -> None:
        with self.path.open("ab") as file:
            file.write("".join(map(self.line, answers)).encode("utf-8", "backslashreplace"))

    def finish(self) -> None:
        pass

    def _read(self, line: bytes) -> Row:
        try:
            return self.read(line.decode())
        except (ValueError, LookupError, TypeError):
            raise self._unlike() from None

    def _unlike(self) -> UserError:
        return UserError(f"{self.path} is not a table that this command wrote: choose another file")


def csv_table(path: Path, top: int) -> Lines:
    """CSV; see `csv_columns`."""
    columns = csv_columns(top)

    def read(line: str) -> Row:
        (row,) = csv.reader([line])
        return row[0], bool(row[len(columns) - 1])

    return Lines(path, csv_line(columns), lambda answer: csv_line(csv_row(answer, top)), read)


def json_table(path: Path, top: int) -> Lines:
    """A JSON object per line."""

    def read(line: str) -> Row:
        row = json.loads(line)
        return row["image"], "error" in row

    return Lines(path, "", lambda answer: json.dumps(json_row(answer, top)) + "\n", read)


class ParquetTable:
    """A folder of Parquet files of `PART_ROWS` rows."""

    def __init__(self, path: Path, top: int) -> None:
        try:
            import pyarrow.parquet
        except ModuleNotFoundError:
            raise UserError('pyarrow is not installed: pip install "keras-googlenet[parquet]"') from None
        self.path, self.top = path, top
        self.pyarrow = pyarrow
        self.held: list[Answer] = []
        self.parts = 0

    def rows(self) -> Iterator[Row]:
        self.path.mkdir(exist_ok=True)
        for file in sorted(self.path.glob("part-*.parquet")):
            try:
                part = self.pyarrow.parquet.read_table(file, columns=["image", "error"])
            except (OSError, ValueError, KeyError) as error:
                raise UserError(f"{file} is not a part that this command wrote ({error})") from None
            self.parts += 1
            for image, told in zip(*(column.to_pylist() for column in part.columns), strict=True):
                yield image, told is not None

    def write(self, answers: Sequence[Answer]) -> None:
        self.held += answers
        while len(self.held) >= PART_ROWS:
            self._write_part(self.held[:PART_ROWS])
            self.held = self.held[PART_ROWS:]

    def finish(self) -> None:
        if self.held:
            self._write_part(self.held)
            self.held = []

    def _write_part(self, answers: Sequence[Answer]) -> None:
        arrow = self.pyarrow
        best = arrow.list_(arrow.struct([("label", arrow.string()), ("probability", arrow.float64())]))
        schema = arrow.schema(
            [
                ("image", arrow.string()),
                ("label", arrow.string()),
                ("probability", arrow.float64()),
                ("top", best),
                ("error", arrow.string()),
            ]
        )
        rows = [json_row(answer, self.top) for answer in answers]
        with replacing(self.path / f"part-{self.parts:05}.parquet") as unfinished:
            arrow.parquet.write_table(arrow.Table.from_pylist(rows, schema), unfinished)
        self.parts += 1


def in_one_line(text: str) -> str:
    """Text with control characters and line breaks escaped, the same in every kind of table."""
    return printable(text).replace("\n", "\\n").replace("\r", "\\r")
