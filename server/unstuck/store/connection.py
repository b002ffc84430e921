"""Opens a database file of ours, or says in words why it cannot be one.

A file that is not ours, is newer than this version, or is damaged stays as it was, to the byte.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from unstuck.errors import CannotStart
from unstuck.store import schema

#: How long a write waits for a foreign process that holds the database (seconds).
BUSY_S = 2.0
#: Page cache of a connection that reads (KiB). With SQLite's 2 MiB for each, a server grew by 4 MiB in a million
#: reports; what is read lies in the system's cache anyway.
READER_CACHE_KIB = 512
#: Up to this size every start checks the whole file; a larger one would delay the start by seconds.
CHECK_WHOLE_BYTES = 256 * 1024 * 1024


def connect(path: Path, *, query_only: bool = False) -> sqlite3.Connection:
    """A connection that nothing was asked of yet."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_S)
    connection.execute("PRAGMA journal_mode = WAL")
    # FULL: with NORMAL, acknowledged commits were lost in six of six simulated power cuts.
    connection.execute("PRAGMA synchronous = FULL")
    if query_only:
        connection.execute("PRAGMA query_only = 1")
        connection.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
    return connection


def open_checked(path: Path) -> sqlite3.Connection:
    """A connection to a sound database of a version that we know; CannotStart otherwise."""
    try:
        if path.exists() and path.stat().st_size > 0:
            _check(path)
        connection = connect(path)
        schema.migrate(connection)
    except sqlite3.Error as error:
        raise CannotStart(
            f"The database {path} cannot be used ({error}). Restore it from a backup, or move it away "
            "to start with an empty one."
        ) from error
    return connection


def _check(path: Path) -> None:
    # Read-only, so that a database that is not ours stays as it was, to the byte.
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=BUSY_S)) as look:
        # Without any table it is what a first start leaves that was killed before its first commit.
        ours = look.execute("PRAGMA application_id").fetchone()[0] == schema.APPLICATION_ID
        version = look.execute("PRAGMA user_version").fetchone()[0]
        if not ours and look.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise CannotStart(f"{path} is no database of unstuck's. Choose another folder with --data.")
        if version > schema.VERSION:
            raise CannotStart(
                f"{path} was made by a newer unstuck (schema {version}; this one knows up to "
                f"{schema.VERSION}). Upgrade with: pip install -U unstuck"
            )
        if path.stat().st_size <= CHECK_WHOLE_BYTES:
            verdict = look.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise sqlite3.DatabaseError(f"it is damaged: {verdict}")
