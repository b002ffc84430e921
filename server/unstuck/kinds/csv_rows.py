"""`Table`: the rows of a CSV file in batches, checked while they are read.

It decides what well-formed means: text in its encoding, closed quotes, and as many fields in every row as in the
first. Blank lines do not count, except in a table of one column, where a blank line may be a missing value. It
holds one batch in memory.
It must not know what the values mean.
See also: csv_dialect.py (encoding and delimiter), csv_column.py (the values).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

from unstuck.kinds.csv_dialect import Dialect, malformed
from unstuck.kinds.outcome import Failed

LINE_LIMIT = 16 * 1024 * 1024  # characters; a file without line breaks must not fill the memory
FIELD_LIMIT = 1024 * 1024  # characters; nor may a quote that is never closed
BATCH_ROWS, BATCH_CHARACTERS = 4096, 1024 * 1024

Batch = list[list[str]]


class Table:
    """A CSV file. While `batches()` runs, it sets `first`, and counts `rows` and `blank` lines."""

    def __init__(self, file: Path, dialect: Dialect, report: Callable[[int, int], None]) -> None:
        self._file, self._dialect, self._report = file, dialect, report
        self.first: list[str] = []
        self.rows = 0  # with the first
        self.blank = 0

    def batches(self) -> Iterator[Batch]:
        """Yield all rows, in batches. Raise Failed with code `malformed_csv` if the file is not well-formed.

        `report(bytes read, bytes in all)` is called after each batch.
        """
        size = os.path.getsize(self._file)
        # Only \n ends a line; a \r before it belongs to the end.
        with (
            self._file.open("rb") as raw,
            TextIOWrapper(raw, encoding=self._dialect.encoding, newline="\n") as text,
        ):
            try:
                for batch in self._batches(text):
                    yield batch
                    self._report(raw.tell(), size)
            except UnicodeDecodeError:
                raise self._undecodable() from None

    def _batches(self, text: TextIO) -> Iterator[Batch]:
        import csv  # here, because every worker imports this file and few need it

        csv.field_size_limit(FIELD_LIMIT)
        before = self._dialect.preamble
        lines = _Lines(text, before)
        reader = csv.reader(lines, delimiter=self._dialect.delimiter, strict=True)
        batch: Batch = []
        width, read = 0, 0  # fields of the first row; lines of the rows before this one
        try:
            for row in reader:
                if len(row) == width:
                    batch.append(row)
                elif width == 0 and row:
                    self.first, width = row, len(row)
                    batch.append(row)
                elif width == 1 and not row:
                    batch.append([""])
                elif width and not row:
                    self.blank += 1
                else:
                    raise self._misfit(before + read + 1, row, width)
                if lines.quotes % 2:  # the csv module lets it pass; others take it for the start of a long field
                    raise self._broken(before + read + 1, "has a quote inside an unquoted field")
                read = reader.line_num
                if len(batch) == BATCH_ROWS or lines.characters >= BATCH_CHARACTERS:
                    self.rows += len(batch)
                    yield batch
                    batch, lines.characters = [], 0
        except csv.Error as error:
            raise self._broken(before + read + 1, _in_words(str(error))) from None
        if not width:
            raise self._misfit(before + 1, [], width)
        self.rows += len(batch)
        yield batch

    def _misfit(self, number: int, row: list[str], width: int) -> Failed:
        if not width:
            return self._broken(number, "is empty: a CSV file starts with its column names or its first row")
        return self._broken(number, f"has {len(row)} fields, but the first row has {width}")

    def _broken(self, number: int, why: str) -> Failed:
        hint = f" ({self._dialect.hint})" if self._dialect.hint else ""
        return malformed(f"line {number}{' ' if why.startswith(('has', 'is')) else ': '}{why}{hint}")

    def _undecodable(self) -> Failed:
        """Return the error for the first line that is not text; the decoder reads ahead and cannot tell."""
        if not self._dialect.encoding.startswith("utf-8"):
            return malformed(f"the file is not whole as {self._dialect.encoding.upper()}: save it as CSV (UTF-8)")
        with self._file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    line.decode()
                except UnicodeDecodeError as error:
                    return malformed(
                        f"line {number} is not UTF-8 (byte 0x{line[error.start]:02x}, which may be Windows-1252 "
                        "or Latin-1): save the file as CSV (UTF-8)"
                    )
        raise AssertionError("the file changed while it was read")


class _Lines:
    """The lines of a text, none of them too long, and the numbers of characters and quotes in them so far."""

    def __init__(self, text: TextIO, preamble: int) -> None:
        self._text, self._preamble = text, preamble
        self.characters = self.quotes = 0

    def __iter__(self) -> Iterator[str]:
        for _ in range(self._preamble):
            self._text.readline(LINE_LIMIT)
        for number, line in enumerate(iter(partial(self._text.readline, LINE_LIMIT), ""), self._preamble + 1):
            size = len(line)
            if size == LINE_LIMIT:
                raise malformed(f"line {number} has more than {LINE_LIMIT} characters")
            self.characters += size
            if '"' in line:
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
