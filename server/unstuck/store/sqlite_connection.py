"""A connection to SQLite, as the modules that all stores share use one.

It must not know files: connection.py opens them.
See also: database.py (the seam), sqlite_statements.py (the statements).
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unstuck.store.database import ChangedColumns
from unstuck.store.sqlite_statements import INSERT_ENTRY, INSERT_ITEM, SQLITE
from unstuck.store.statements import Statements


class SQLiteConnection(sqlite3.Connection):
    """The factory of connections, for `sqlite3.connect`."""

    statements: Statements = SQLITE

    def insert_items(self, values: Iterable[Sequence[Any]]) -> None:
        self.executemany(INSERT_ITEM, values)

    def insert_entries(self, values: Sequence[Mapping[str, Any]]) -> None:
        self.executemany(INSERT_ENTRY, values)

    def update_rows(self, columns: ChangedColumns, values: Sequence[Sequence[Any]]) -> None:
        self.executemany(_update(columns), values)


@functools.cache
def _update(columns: ChangedColumns) -> str:
    changes = ", ".join(f"{name} = ?" for name in columns.names)
    return f"UPDATE {columns.table} SET {changes} WHERE {' AND '.join(f'{name} = ?' for name in columns.key)}"
