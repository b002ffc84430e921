"""Updates the rows of changed jobs and items, naming only the columns that changed.

A database writes a named column into each of its indexes, changed or not: a report that names all columns costs
twice as much as one that names only its own. Rows with the same changed columns share one statement.
It must not decide or read anything.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any

import msgspec
from msgspec.structs import astuple

from unstuck.jobs.job import Item, Job
from unstuck.store.database import ChangedColumns, Connection
from unstuck.store.rows import json_text, sql

#: Columns that are written once. The others may change during the life of a job or an item.
_JOB_FIXED = {
    "id",
    "kind",
    "name",
    "created_at",
    "options",
    "priority",
    "max_attempts",
    "max_errors",
    "item_limit_s",
    "deadline_at",
    "webhook_url",
    "retry_of",
    "external",
    "counted",
    "unit",
    "units",
    "lost_after_s",
}
_ITEM_FIXED = {"index", "name", "size", "file"}
#: How to convert the columns that hold something other than numbers and text.
_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("state", "health", "meter", "error"), sql),
    "result": json_text,
}


class RowUpdates:
    """Pending updates of jobs and items; `execute` writes them."""

    def __init__(self) -> None:
        self._rows: dict[ChangedColumns, list[list[Any]]] = {}

    def add(self, table: Table, job_n: int, before: Job | Item, after: Job | Item) -> None:
        """Add the update of a row of `JOBS` or `ITEMS` from `before` to `after`."""
        now = astuple(after)
        columns = table.changed_columns(astuple(before), now)
        row = [now[place] for place in columns.places]
        for place, convert in columns.others:
            row[place] = convert(row[place])
        row.append(job_n)
        self._rows.setdefault(columns, []).append(row)

    def execute(self, connection: Connection) -> None:
        """Write all updates."""
        for columns, several in self._rows.items():
            connection.update_rows(columns, several)


class Table:
    """Finds the columns of a row that changed.

    If only `passing` columns changed, all of them are named: they have no index or are sure to have changed.
    Comparing all other columns at once is faster than comparing each, and most writes are reports.
    """

    def __init__(
        self, name: str, kind: type[msgspec.Struct], fixed: set[str], passing: tuple[str, ...], *key: str
    ) -> None:
        self._name, self._names = name, kind.__struct_fields__
        self._key_places = self._places(key)
        # `index` is `idx` in SQL; the job's row number comes last.
        self._key_columns = (*("idx" for _ in key), "job") if key else ("n",)
        self._changing = tuple(place for place, name in enumerate(self._names) if name not in fixed)
        passing_places = self._places(passing)
        self._lasting = itemgetter(*(place for place in self._changing if place not in passing_places))
        self._columns: dict[tuple[int, ...], ChangedColumns] = {}
        self._passing = self._columns_for(passing_places)

    def changed_columns(self, was: tuple[Any, ...], now: tuple[Any, ...]) -> ChangedColumns:
        if self._lasting(was) == self._lasting(now):
            return self._passing
        # A field that `replace` did not change is the same object.
        return self._columns_for(tuple([place for place in self._changing if was[place] is not now[place]]))

    def _columns_for(self, changed: tuple[int, ...]) -> ChangedColumns:
        found = self._columns.get(changed)
        if found is None:
            names = tuple(self._names[place] for place in changed)
            others = ((place, _CONVERSIONS[name]) for place, name in enumerate(names) if name in _CONVERSIONS)
            found = self._columns[changed] = ChangedColumns(
                self._name, names, self._key_columns, (*changed, *self._key_places), tuple(others)
            )
        return found

    def _places(self, names: tuple[str, ...]) -> tuple[int, ...]:
        return tuple(self._names.index(name) for name in names)


JOBS = Table(
    "jobs", Job, _JOB_FIXED, ("seq", "partial", "percent", "meter", "message", "progress_at", "heartbeat_at")
)
ITEMS = Table("items", Item, _ITEM_FIXED, ("seq", "progress", "message"), "index")
