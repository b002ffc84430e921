"""`csv-profile`: the rows of a CSV file and, for each column, its type, nulls, minimum, maximum and mean.

It decides how much of a wide table fits into a result. The file is read once, by one parser, in batches, so memory
does not grow with it.
It must not know what a broken line is, or what a type is.
See also: csv_dialect.py (encoding and delimiter), csv_rows.py (the rows), csv_column.py (the types).
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Literal

import msgspec

from unstuck.kinds.csv_column import Column, cut
from unstuck.kinds.csv_dialect import NAMES, find_dialect
from unstuck.kinds.csv_rows import Table
from unstuck.kinds.declare import kind
from unstuck.kinds.report import Report

COLUMNS = 300  # at most; further columns are only counted
RESULT_ROOM = 60_000  # bytes of JSON for the columns; an item's result may have 64 KiB
NAME_LIMIT = 60  # characters of a column's name


@kind(
    "csv-profile",
    title="CSV profile",
    description="Checks CSV files and describes their columns.",
    accept=".csv,.tsv,text/csv",
)
def csv_profile(
    file: Path,
    report: Report,
    *,
    delimiter: Literal["auto", ",", ";", "|", "tab"] = "auto",
    has_header: bool = True,
) -> dict[str, object]:
    """Return the numbers of rows and blank lines, the delimiter, and a profile of each column.

    {"rows", "blank_lines", "delimiter", "columns": [{"name", "type", "nulls", "min", "max", "mean"}],
    "columns_left_out"}, and "hint" if another delimiter may be meant. `type` is boolean, integer, number, date,
    datetime or text, or empty if every value is missing.
    """
    dialect = find_dialect(file, {"auto": None, "tab": "\t"}.get(delimiter, delimiter))
    table = Table(file, dialect, lambda done, size: report(done, size, "reading"))
    columns: list[Column] = []
    for batch in table.batches():
        columns = columns or [Column() for _ in table.first[:COLUMNS]]
        start = has_header and table.rows == len(batch)
        # Tables may be much wider than what is profiled.
        for column, values in zip(columns, islice(zip(*batch[start:], strict=True), COLUMNS), strict=False):
            column.add(values)
    titles = table.first if has_header else [f"column_{place}" for place in range(1, len(columns) + 1)]
    shown = _as_many_as_fit(
        [
            {"name": cut(title, NAME_LIMIT), **column.profile()}
            for title, column in zip(titles, columns, strict=False)
        ]
    )
    return {
        "rows": table.rows - has_header,
        "blank_lines": table.blank,
        "delimiter": NAMES.get(dialect.delimiter, dialect.delimiter),
        "columns": shown,
        "columns_left_out": len(table.first) - len(shown),
        **({"hint": dialect.hint} if dialect.hint else {}),
    }


def _as_many_as_fit(columns: list[dict[str, object]]) -> list[dict[str, object]]:
    room = RESULT_ROOM
    for count, column in enumerate(columns):
        room -= len(msgspec.json.encode(column)) + 1
        if room < 0:
            return columns[:count]
    return columns
