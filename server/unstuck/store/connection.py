"""Opens the database file, or says why it cannot be used.

A file of another program or of a newer version, and a damaged one, are left unchanged to the byte.
See also: schema.py (the tables and their versions).
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from unstuck.errors import CannotStart
from unstuck.store import schema
from unstuck.store.database_file import LOG_LIMIT, is_writable
from unstuck.store.disk_reserve import is_full

#: How long a write waits for another process that holds the database (seconds).
BUSY_S = 2.0
#: Page cache of a reading connection (KiB). With SQLite's default of 2 MiB each, a server grew by 4 MiB in a
#: million reports; the system caches the file anyway.
READER_CACHE_KIB = 512
#: A file of up to this size is checked completely at every start; a larger one would delay the start by seconds.
CHECK_WHOLE_BYTES = 256 * 1024 * 1024


def connect(path: Path, *, query_only: bool = False) -> sqlite3.Connection:
    """Open a connection that has not read anything yet."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_S)
    connection.execute("PRAGMA journal_mode = WAL")
    # FULL: with NORMAL, acknowledged commits were lost in six of six simulated power cuts.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {LOG_LIMIT}")
    if query_only:
        connection.execute("PRAGMA query_only = 1")
        connection.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
    return connection


def open_checked(path: Path) -> sqlite3.Connection:
    """Open a sound database of a known version, and migrate it. Raise CannotStart for any other file."""
    try:
        if path.exists() and path.stat().st_size > 0:
            _check(path)
        if path.exists() and not is_writable(path):
            raise sqlite3.OperationalError("it is read-only")
        connection = connect(path)
        schema.migrate(connection)
    except sqlite3.Error as error:
        raise cannot_start(path, error) from error
    return connection


def cannot_start(path: Path, error: sqlite3.Error) -> CannotStart:
    """Return why a server cannot start with this database, and what to do."""
    if is_full(error, path):
        return CannotStart(f"The disk of {path.parent} is full ({error}). Free some space, then start again.")
    if path.exists() and not is_writable(path):
        return CannotStart(f"The database {path} is read-only. Make it writable for the server's user.")
    return CannotStart(
        f"The database {path} cannot be used ({error}). Restore it from a backup, or move it away "
        "to start with an empty one."
    )


def _check(path: Path) -> None:
    # Read-only, so that the file of another program is left unchanged to the byte.
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=BUSY_S)) as connection:
        # A first start that was killed before its first commit leaves a file without tables.
        is_unstuck = connection.execute("PRAGMA application_id").fetchone()[0] == schema.APPLICATION_ID
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if not is_unstuck and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise CannotStart(f"{path} is not a database of unstuck. Choose another folder with --data.")
        if version > schema.VERSION:
            raise CannotStart(
                f"{path} was written by a newer version of unstuck (schema {version}; this version reads up to "
                f"{schema.VERSION}). Upgrade with: pip install -U unstuck"
            )
        if path.stat().st_size <= CHECK_WHOLE_BYTES:
            verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise sqlite3.DatabaseError(f"it is damaged: {verdict}")
