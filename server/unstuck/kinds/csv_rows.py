"""`measure(…)`: whether a file is a well-formed CSV table, and how large it is; else the line that is broken.

Decides: what well-formed means: UTF-8, quotes closed, as many fields in every row as in the first. Blank
lines do not count, except where a table has one column and a blank line may be a missing value.
Must not know: what the values mean. Polars reads the values, but it fills short rows up with nulls and does
not name lines, so this pass comes first. It holds one row in memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

from unstuck.kinds.outcome import Failed

LINE_LIMIT = 16 * 1024 * 1024  # characters; a file without line ends must not fill the memory
FIELD_LIMIT = 1024 * 1024  # characters; a quote that is never closed must not either
_LOOK_EVERY = 4096  # rows between two reports


@dataclass(frozen=True, slots=True)
class Shape:
    """`first`: the fields of the first row. `rows` counts it, and does not count `blank` lines."""

    first: list[str]
    rows: int
    blank: int


def malformed(message: str) -> Failed:
    return Failed(message, code="malformed_csv")


def measure(file: Path, delimiter: str, report: Callable[[int, int], None]) -> Shape:
    """The shape of the table; `report(bytes read, bytes in all)`. Raises Failed, code `malformed_csv`."""
    size = os.path.getsize(file)
    # Only \n ends a line, as for Polars; a \r before it belongs to the end.
    with file.open("rb") as raw, TextIOWrapper(raw, encoding="utf-8-sig", newline="\n") as text:
        try:
            return _count(text, delimiter, lambda: report(raw.tell(), size))
        except UnicodeDecodeError:
            raise malformed(f"line {_undecodable_line(file)} is not UTF-8: save the file as UTF-8") from None


def _count(text: TextIO, delimiter: str, report: Callable[[], None]) -> Shape:
    rows = _rows(text, delimiter)
    _, first = next(rows, (0, []))
    if not first:
        raise malformed("line 1 is empty: a CSV file starts with its column names or its first row")
    width, counted, blank = len(first), 1, 0
    for number, row in rows:
        if len(row) == width:
            counted += 1
        elif row:
            raise malformed(f"line {number} has {len(row)} fields, and the first row has {width}")
        elif width == 1:
            counted += 1
        else:
            blank += 1
        if not counted % _LOOK_EVERY:
            report()
    return Shape(first, counted, blank)


def _rows(text: TextIO, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Every row, with the number of the line on which it starts."""
    import csv  # here, because every worker imports this file, and few need it

    csv.field_size_limit(FIELD_LIMIT)
    lines = _Lines(text)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    number = 1
    try:
        for row in reader:
            if lines.quotes % 2:  # which the csv module lets pass, and Polars takes for the start of a long field
                raise malformed(f"line {number} has a quote inside a field that is not quoted")
            yield number, row
            number = reader.line_num + 1
    except csv.Error as error:
        raise malformed(f"line {number}: {_in_words(str(error))}") from None


class _Lines:
    """The lines of a text, none too long, and how many quotes were in them so far."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self.quotes = 0

    def __iter__(self) -> Iterator[str]:
        for number, line in enumerate(iter(partial(self._text.readline, LINE_LIMIT), ""), 1):
            if len(line) == LINE_LIMIT:
                raise malformed(f"line {number} has more than {LINE_LIMIT} characters")
            self.quotes += line.count('"')
            yield line


def _in_words(error: str) -> str:
    if error == "unexpected end of data":
        return "a quote is opened here and never closed"
    if error.startswith("field larger"):
        return f"a field has more than {FIELD_LIMIT} characters; perhaps a quote is never closed"
    if error.startswith("new-line character"):
        return "a carriage return stands alone: lines must end in \\n or \\r\\n"
    if "expected after" in error:
        return "a closing quote is followed by text: a quote inside a field is written twice"
    return error


def _undecodable_line(file: Path) -> int:
    """The decoder reads ahead and cannot say; so line by line."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    raise AssertionError("the file was changed while it was read")
