"""`measure(…)`: checks that a file is a well-formed CSV table and counts its rows, or names the broken line.

It decides what well-formed means: UTF-8, closed quotes, and as many fields in every row as in the first. Blank
lines do not count, except in a table of one column, where a blank line may be a missing value. Polars reads the
values, but it fills short rows with nulls and names no lines, so this pass comes first. It holds one row in
memory.
It must not know what the values mean.
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

LINE_LIMIT = 16 * 1024 * 1024  # characters; a file without line breaks must not fill the memory
FIELD_LIMIT = 1024 * 1024  # characters; nor may a quote that is never closed
_REPORT_EVERY = 4096  # rows between two reports


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a table: the fields of the `first` row, and counts of `rows` (with it) and `blank` lines."""

    first: list[str]
    rows: int
    blank: int


def malformed(message: str) -> Failed:
    return Failed(message, code="malformed_csv")


def measure(file: Path, delimiter: str, report: Callable[[int, int], None]) -> Shape:
    """Return the shape of the table. Raise Failed with code `malformed_csv` if it is not well-formed.

    `report(bytes read, bytes in all)` is called in between.
    """
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
            raise malformed(f"line {number} has {len(row)} fields, but the first row has {width}")
        elif width == 1:
            counted += 1
        else:
            blank += 1
        if not counted % _REPORT_EVERY:
            report()
    return Shape(first, counted, blank)


def _rows(text: TextIO, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield every row with the number of the line on which it starts."""
    import csv  # here, because every worker imports this file and few need it

    csv.field_size_limit(FIELD_LIMIT)
    lines = _Lines(text)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    number = 1
    try:
        for row in reader:
            if lines.quotes % 2:  # the csv module lets it pass; Polars takes it for the start of a long field
                raise malformed(f"line {number} has a quote inside an unquoted field")
            yield number, row
            number = reader.line_num + 1
    except csv.Error as error:
        raise malformed(f"line {number}: {_in_words(str(error))}") from None


class _Lines:
    """The lines of a text, none of them too long, and the number of quotes in them so far."""

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
        return "a carriage return without a line feed: lines must end in \\n or \\r\\n"
    if "expected after" in error:
        return "text follows a closing quote: double the quotes inside a field"
    return error


def _undecodable_line(file: Path) -> int:
    """Return the number of the first line that is not UTF-8; the decoder reads ahead and cannot tell."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    raise AssertionError("the file changed while it was read")
