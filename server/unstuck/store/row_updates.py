"""How rows follow the jobs and items that they stand for: of each row the columns that moved.

A column that is named is written into each of its indexes, moved or not: a report that names them all costs twice
as much as one that names its own. Rows in which the same columns moved go through one statement. Decides nothing,
and reads nothing.
"""

from __future__ import annotations

import sqlite3
from dataclasses import fields
from operator import itemgetter
from typing import Any, NamedTuple

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
        now = after.__dict__
        columns = table.changed_columns(before.__dict__, now)
        row = [now[name] for name in columns.names]
        for place in columns.others:
            row[place] = sql(row[place])
        row.append(job_n)
        self._rows.setdefault(columns.statement, []).append(row)

    def execute(self, connection: sqlite3.Connection) -> None:
        """Write it."""
        for statement, several in self._rows.items():
            connection.executemany(statement, several)


class _Columns(NamedTuple):
    """Columns that moved together. `names` and the job's number are a row of values for the statement; at the
    places `others` is what SQLite does not take as it is."""

    statement: str
    names: tuple[str, ...]
    others: list[int]


class Table:
    """Which columns moved. Where only what is `passing` did, which has no index or has surely moved, it is all of
    that: to see so takes 0.4 µs for a job, to ask each column 1.2, and reports are most of what is written."""

    def __init__(self, update: str, moving: tuple[str, ...], passing: tuple[str, ...], *key: str) -> None:
        self._update, self._moving, self._key = update, moving, key
        self._lasting = itemgetter(*(name for name in moving if name not in passing))
        self._columns: dict[tuple[str, ...], _Columns] = {}
        self._passing = self._columns_for(passing)

    def changed_columns(self, was: dict[str, Any], now: dict[str, Any]) -> _Columns:
        if self._lasting(was) == self._lasting(now):
            return self._passing
        # What `replace` did not touch is the same object.
        return self._columns_for(tuple([name for name in self._moving if was[name] is not now[name]]))

    def _columns_for(self, moved: tuple[str, ...]) -> _Columns:
        found = self._columns.get(moved)
        if found is None:
            statement = self._update.format(", ".join(f"{name} = ?" for name in moved))
            others = [place for place, name in enumerate(moved) if name in _ENCODED]
            found = self._columns[moved] = _Columns(statement, (*moved, *self._key), others)
        return found


JOBS = Table(
    "UPDATE jobs SET {} WHERE n = ?",
    tuple(field.name for field in fields(Job) if field.name not in _JOB_FIXED),
    ("seq", "partial", "percent", "meter", "progress_at", "heartbeat_at"),
)
ITEMS = Table(
    "UPDATE items SET {} WHERE idx = ? AND job = ?",
    tuple(field.name for field in fields(Item) if field.name not in _ITEM_FIXED),
    ("seq", "progress", "message"),
    "index",
)
