"""How rows follow the jobs and items that they stand for: of each row the columns that moved.

A column that is named is written into each of its indexes, moved or not: a report that names them all costs twice
as much as one that names its own. Rows in which the same columns moved go through one statement. Decides nothing,
and reads nothing.
"""

from __future__ import annotations

import sqlite3
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import astuple

from unstuck.jobs.job import Item, Job
from unstuck.store.rows import sql

#: What is written once. The rest may change in the life of a job, and of an item.
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
}
_ITEM_FIXED = {"index", "name", "size", "file"}
#: What holds something else than numbers and texts.
_ENCODED = {"state", "health", "meter", "error", "result"}


class RowUpdates:
    """What there is to write of jobs and items; `execute` writes it."""

    def __init__(self) -> None:
        self._rows: dict[str, list[list[Any]]] = {}

    def add(self, table: Table, job_n: int, before: Job | Item, after: Job | Item) -> None:
        """A row of `JOBS` or `ITEMS` says `before`, and shall say `after`."""
        now = astuple(after)
        columns = table.changed_columns(astuple(before), now)
        row = [now[place] for place in columns.places]
        for place in columns.others:
            row[place] = sql(row[place])
        row.append(job_n)
        self._rows.setdefault(columns.statement, []).append(row)

    def execute(self, connection: sqlite3.Connection) -> None:
        """Write it."""
        for statement, several in self._rows.items():
            connection.executemany(statement, several)


class _Columns(NamedTuple):
    """Columns that moved together. The values at `places` of a job or an item, and the job's number, are a row for
    the statement; at the places `others` of that row is what SQLite does not take as it is."""

    statement: str
    places: tuple[int, ...]
    others: list[int]


class Table:
    """Which columns moved. Where only what is `passing` did, which has no index or has surely moved, it is all of
    that: one comparison of all the others is faster than one of each, and reports are most of what is written."""

    def __init__(
        self, update: str, kind: type[msgspec.Struct], fixed: set[str], passing: tuple[str, ...], *key: str
    ) -> None:
        self._update, self._names = update, kind.__struct_fields__
        self._key = self._places(key)
        self._moving = tuple(place for place, name in enumerate(self._names) if name not in fixed)
        known = self._places(passing)
        self._lasting = itemgetter(*(place for place in self._moving if place not in known))
        self._columns: dict[tuple[int, ...], _Columns] = {}
        self._passing = self._columns_for(known)

    def changed_columns(self, was: tuple[Any, ...], now: tuple[Any, ...]) -> _Columns:
        if self._lasting(was) == self._lasting(now):
            return self._passing
        # What `replace` did not touch is the same object.
        return self._columns_for(tuple([place for place in self._moving if was[place] is not now[place]]))

    def _columns_for(self, moved: tuple[int, ...]) -> _Columns:
        found = self._columns.get(moved)
        if found is None:
            names = [self._names[place] for place in moved]
            statement = self._update.format(", ".join(f"{name} = ?" for name in names))
            others = [place for place, name in enumerate(names) if name in _ENCODED]
            found = self._columns[moved] = _Columns(statement, (*moved, *self._key), others)
        return found

    def _places(self, names: tuple[str, ...]) -> tuple[int, ...]:
        return tuple(self._names.index(name) for name in names)


JOBS = Table(
    "UPDATE jobs SET {} WHERE n = ?",
    Job,
    _JOB_FIXED,
    ("seq", "partial", "percent", "meter", "progress_at", "heartbeat_at"),
)
ITEMS = Table(
    "UPDATE items SET {} WHERE idx = ? AND job = ?", Item, _ITEM_FIXED, ("seq", "progress", "message"), "index"
)
