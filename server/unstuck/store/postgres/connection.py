"""A connection to PostgreSQL, as the modules that all stores share use one.

It must not know what a database has to be like: checks.py checks that.
See also: ../database.py (the seam), statements.py (the statements).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict

from unstuck.store.database import ChangedColumns, Parameters
from unstuck.store.postgres.schema import NAME
from unstuck.store.postgres.statements import COPY_ITEMS, INSERT_ENTRIES, POSTGRES
from unstuck.store.statements import Statements

#: What a URL may set otherwise. A network that was cut is noticed after some 15 s, even by a thread that waits.
DEFAULTS: Mapping[str, str] = {
    "application_name": "unstuck",
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "3",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
#: How long a statement waits for a row that another server has locked, and how long a server that hangs may keep
#: its locks.
SETTINGS = f"SET search_path = {NAME}; SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '30s'"

_encode = msgspec.json.Encoder().encode


class PostgresConnection(psycopg.Connection[Any]):
    """A connection that begins no transaction by itself.

    A list of rows travels as one JSON text: to convert each value by itself costs several times as much.
    """

    statements: Statements = POSTGRES

    def executemany(self, sql: str, parameters: Iterable[Parameters]) -> None:
        self.cursor().executemany(sql, list(parameters))

    def insert_items(self, values: Iterable[Sequence[Any]]) -> None:
        with self.cursor().copy(COPY_ITEMS) as copy:
            for row in values:
                copy.write_row(row)

    def insert_entries(self, values: Sequence[Mapping[str, Any]]) -> None:
        self.execute(INSERT_ENTRIES, (_encode(values).decode(),))

    def update_rows(self, columns: ChangedColumns, values: Sequence[Sequence[Any]]) -> None:
        names = (*columns.names, *columns.key)
        table = [dict(zip(names, row, strict=True)) for row in values]
        self.execute(_update(columns), (_encode(table).decode(),))


@functools.cache
def _update(columns: ChangedColumns) -> str:
    table = columns.table
    changes = ", ".join(f"{name} = new.{name}" for name in columns.names)
    same = " AND ".join(f"{table}.{name} = new.{name}" for name in columns.key)
    new = f"json_populate_recordset(NULL::{table}, %s::json) AS new"
    return f"UPDATE {table} SET {changes} FROM {new} WHERE {same}"


def connect(url: str) -> PostgresConnection:
    """Open a connection. Raise psycopg.Error."""
    options: dict[str, Any] = {**DEFAULTS, **conninfo_to_dict(url)}
    connection = PostgresConnection.connect(autocommit=True, **options)
    try:
        connection.execute(SETTINGS)
    except BaseException:
        connection.close()
        raise
    return connection


def one_line(error: psycopg.Error) -> str:
    """Return the message of an error, which may have several lines."""
    return " ".join(str(error).split()) or type(error).__name__
