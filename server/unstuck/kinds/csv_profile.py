"""`csv-profile`: the rows of a CSV file and, for each column, its type, nulls, minimum, maximum and mean.

It decides the types, and how much of a wide table fits into a result. Polars streams through the file, so memory
does not grow with it. A type has to fit every value: a sample can only rule types out, and the whole file decides.
It must not know what a broken line is.
See also: csv_rows.py (checks the lines first).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from unstuck.kinds.csv_rows import Shape, malformed, measure
from unstuck.kinds.declare import kind
from unstuck.kinds.extras import missing, needed
from unstuck.kinds.outcome import Failed
from unstuck.kinds.report import Report

if TYPE_CHECKING:
    import polars as pl

# Tried in this order: "1" is an integer before it is a number. A column that fits none of them is text.
TYPES = ("boolean", "integer", "number", "date", "datetime")
SAMPLE = 10_000  # rows
COLUMNS = 300  # at most; further columns are only counted
RESULT_ROOM = 60_000  # bytes of JSON for the columns; an item's result may have 64 KiB
NAME_LIMIT, VALUE_LIMIT = 60, 40  # characters of a column's name and of a text value
_CHECKING_SHARE = 0.7  # share of the time that the pass over the lines takes


@kind(
    "csv-profile",
    title="CSV profile",
    description="Checks CSV files and describes their columns.",
    accept=".csv,.tsv,text/csv",
    unavailable=missing("polars", "Polars", "csv"),
)
def csv_profile(
    file: Path, report: Report, *, delimiter: Literal[",", ";", "|", "tab"] = ",", has_header: bool = True
) -> dict[str, object]:
    """Return the numbers of rows and blank lines, and a profile of each column.

    {"rows", "blank_lines", "columns": [{"name", "type", "nulls", "min", "max", "mean"}], "columns_left_out"}.
    `type` is boolean, integer, number, date, datetime or text, or empty if every value is missing.
    """
    separator = "\t" if delimiter == "tab" else delimiter
    shape = measure(file, separator, lambda done, size: report(_CHECKING_SHARE * done, size, "checking lines"))
    report(_CHECKING_SHARE, message="reading values")
    columns = _columns(file, shape, separator, has_header)
    return {
        "rows": shape.rows - has_header,
        "blank_lines": shape.blank,
        "columns": columns,
        "columns_left_out": len(shape.first) - len(columns),
    }


def _columns(file: Path, shape: Shape, separator: str, has_header: bool) -> list[dict[str, object]]:
    pl = _polars()
    try:
        table = pl.scan_csv(file, separator=separator, has_header=has_header, infer_schema=False, glob=False)
        names = table.collect_schema().names()[:COLUMNS]
        sampled = _facts(table.head(SAMPLE), dict.fromkeys(names, TYPES))
        possible = {name: _fitting(sampled, place) for place, name in enumerate(names)}
        facts = _facts(table, possible)
    except pl.exceptions.PolarsError as error:
        message = str(error).partition("\n")[0]
        raise malformed(f"Polars cannot read the file: {message}") from error
    titles = shape.first if has_header else [f"column_{place}" for place in range(1, len(names) + 1)]
    counted = (facts["rows"], len(names))
    expected = (shape.rows - has_header + shape.blank, min(len(shape.first), COLUMNS))
    if counted != expected:
        raise malformed(
            f"Polars finds {counted[0]} rows and {counted[1]} columns, but Python finds {expected[0]} and "
            f"{expected[1]}: check its quotes and line breaks"
        )
    return _as_many_as_fit([_column(facts, place, titles[place], shape.blank) for place in range(len(names))])


def _facts(table: pl.LazyFrame, types: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return, by column, how many values do not fit each type, and statistics of those that do."""
    import polars as pl

    def expressions() -> Iterator[pl.Expr]:
        yield pl.len().alias("rows")
        for place, (name, candidates) in enumerate(types.items()):
            text = pl.when(pl.col(name) != "").then(pl.col(name))  # an empty quoted value is missing too
            yield text.null_count().alias(f"{place} nulls")
            for type_ in ("text", *candidates):
                value = _read_as(type_, text)
                yield (value.null_count() - text.null_count()).alias(f"{place} {type_} misfits")
                yield value.min().alias(f"{place} {type_} min")
                yield value.max().alias(f"{place} {type_} max")
                if type_ in ("integer", "number"):
                    yield value.mean().alias(f"{place} {type_} mean")

    return table.select(*expressions()).collect(engine="streaming").row(0, named=True)


def _read_as(type_: str, text: pl.Expr) -> pl.Expr:
    """Return the values as this type, null where they do not fit."""
    import polars as pl

    match type_:
        case "boolean":
            small = text.str.to_lowercase()
            return pl.when(small.is_in(["true", "false"])).then(small == "true")
        case "integer":
            return text.cast(pl.Int64, strict=False)
        case "number":
            return text.cast(pl.Float64, strict=False)
        case "date":
            return text.str.to_date("%Y-%m-%d", strict=False)
        case "datetime":
            iso = text.str.replace(" ", "T", literal=True).str.strip_suffix("Z")
            return iso.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", strict=False)
        case _:
            return text


def _fitting(facts: Mapping[str, Any], place: int) -> list[str]:
    return [t for t in TYPES if facts.get(f"{place} {t} misfits") == 0]


def _column(facts: Mapping[str, Any], place: int, title: str, blank: int) -> dict[str, object]:
    nulls = facts[f"{place} nulls"]
    type_ = "empty" if nulls == facts["rows"] else (*_fitting(facts, place), "text")[0]
    extremes = {fact: _small(facts.get(f"{place} {type_} {fact}")) for fact in ("min", "max", "mean")}
    return {"name": _cut(title, NAME_LIMIT), "type": type_, "nulls": nulls - blank, **extremes}


def _small(value: Any) -> object:
    if isinstance(value, str):
        return _cut(value, VALUE_LIMIT)
    return value.isoformat() if hasattr(value, "isoformat") else value


def _cut(text: str, limit: int) -> str:
    text = text.replace("\0", "")  # JSON can hold NUL, but some databases cannot
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _as_many_as_fit(columns: list[dict[str, object]]) -> list[dict[str, object]]:
    room = RESULT_ROOM
    for count, column in enumerate(columns):
        room -= len(msgspec.json.encode(column)) + 1
        if room < 0:
            return columns[:count]
    return columns


def _polars() -> ModuleType:
    try:
        import polars
    except ImportError as error:
        raise Failed(needed("Polars", "csv"), code="extra_missing") from error
    return polars
