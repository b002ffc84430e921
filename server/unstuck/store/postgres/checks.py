"""Opens the database, or says why it cannot be used.

It decides what a database has to be like, and which server migrates it when several start at once. Tables of other
programs and a newer version are left as they are.
See also: schema.py (the tables and their versions), ../connection.py (the same for SQLite).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from unstuck.errors import CannotStart
from unstuck.store.postgres import schema
from unstuck.store.postgres.connection import PostgresConnection, connect, one_line

#: The oldest version that is supported by its makers, as the server says it.
OLDEST, OLDEST_NAME = 140_000, "14"
#: How long a notice may take to arrive at the start (seconds).
NOTICE_S = 5.0
#: The advisory lock of the server that migrates.
MIGRATING = 0x756E7374


def shown(url: str) -> str:
    """Return what names the database in messages, without a password."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        return "the store's URL"
    place = parts.get("host") or parts.get("hostaddr") or "this machine"
    return f"{parts.get('dbname') or parts.get('user') or 'postgres'} on {place}"


def open_checked(url: str) -> PostgresConnection:
    """Return a connection to a database that can be used, with tables of this version. Raise CannotStart."""
    with refusing(url):
        connection = connect(url)
        try:
            _check(connection, url)
            _migrate(connection, url)
        except BaseException:
            connection.close()
            raise
        return connection


@contextmanager
def refusing(url: str) -> Iterator[None]:
    """Raise CannotStart instead of an error of PostgreSQL."""
    try:
        yield
    except psycopg.OperationalError as error:
        raise CannotStart(
            f"The database {shown(url)} cannot be reached ({one_line(error)}). Start it or mend its URL, then "
            "start again."
        ) from error
    except psycopg.ProgrammingError as error:
        if error.sqlstate is None:
            raise CannotStart(
                f"The store's URL cannot be read ({one_line(error)}). Write it as postgresql://USER@HOST/DATABASE."
            ) from error
        raise _unusable(url, error) from error
    except psycopg.Error as error:
        raise _unusable(url, error) from error


def _unusable(url: str, error: psycopg.Error) -> CannotStart:
    return CannotStart(
        f"The database {shown(url)} cannot be used ({one_line(error)}). Give its user the right to create "
        f"the schema {schema.NAME} and to use it, then start again."
    )


def _value(connection: PostgresConnection, sql: str) -> Any:
    found = connection.execute(sql).fetchone()
    assert found is not None
    return found[0]


def _check(connection: PostgresConnection, url: str) -> None:
    """Refuse a database that would lose or damage what is stored."""
    name = shown(url)
    if connection.info.server_version < OLDEST:
        raise CannotStart(
            f"The database {name} is too old. Upgrade its server to PostgreSQL {OLDEST_NAME} or newer."
        )
    if _value(connection, "SHOW transaction_read_only") == "on":
        raise CannotStart(f"The database {name} is read-only. Name the primary server in the store's URL.")
    if (encoding := _value(connection, "SHOW server_encoding")) != "UTF8":
        raise CannotStart(f"The database {name} is encoded in {encoding}. Create one with ENCODING 'UTF8'.")
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        if _value(connection, f"SHOW {setting}") == "off":
            raise CannotStart(
                f"The database {name} could lose what it has confirmed, since {setting} is off. Set it to on."
            )


def _migrate(connection: PostgresConnection, url: str) -> None:
    """Bring the tables to this version in one transaction. One server does it, and the others wait."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATING,))
        if _value(connection, f"SELECT to_regnamespace('{schema.NAME}') IS NULL"):
            connection.execute(f"CREATE SCHEMA {schema.NAME}")
        if _value(connection, f"SELECT to_regclass('{schema.NAME}.schema_version') IS NULL"):
            connection.execute("CREATE TABLE schema_version (version integer NOT NULL)")
            connection.execute("INSERT INTO schema_version VALUES (0)")
        version = _value(connection, "SELECT version FROM schema_version")
        if version > schema.VERSION:
            raise CannotStart(
                f"The database {shown(url)} was written by a newer version of unstuck (schema {version}; this "
                f"version reads up to {schema.VERSION}). Upgrade with: pip install -U unstuck"
            )
        for migration in schema.MIGRATIONS[version:]:
            connection.execute(migration)
        if version < schema.VERSION:
            connection.execute("UPDATE schema_version SET version = %s", (schema.VERSION,))


def check_notices(connection: PostgresConnection, url: str) -> None:
    """Refuse a way to the database on which no notice arrives: a pooler that shares connections swallows them."""
    connection.execute("LISTEN unstuck_start")
    with connect(url) as other:
        other.execute("NOTIFY unstuck_start")
    if not list(connection.notifies(timeout=NOTICE_S, stop_after=1)):
        raise CannotStart(
            f"The database {shown(url)} passes on no notices (LISTEN), as behind a pooler that shares connections "
            "between transactions. Name the address of the database itself in the store's URL."
        )
    connection.execute("UNLISTEN unstuck_start")
