"""Opens the database file, or says why it cannot be used.

A file of another program or of a newer version, and a damaged one, are left unchanged to the byte.
See also: schema.py (the tables and their versions).
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from pathlib import Path

from unstuck.errors import CannotStart
from unstuck.store import schema
from unstuck.store.database_file import LOG_LIMIT, is_writable
from unstuck.store.disk_reserve import is_full
from unstuck.store.sqlite_connection import SQLiteConnection

#: How long a write waits for another process that holds the database (seconds).
BUSY_S = 2.0
#: Page cache of a reading connection (KiB). With SQLite's default of 2 MiB each, a server grew by 4 MiB in a
#: million reports; the system caches the file anyway.
READER_CACHE_KIB = 512
#: A file of up to this size is checked completely at every start; a larger one would delay the start by seconds.
CHECK_WHOLE_BYTES = 256 * 1024 * 1024
#: What SQLite puts beside the database; a write-ahead log has commits that the database has not.
SUFFIXES = ("", "-wal", "-shm")

#: SQLite's primary result codes, by what an operator has to do about them.
_HELD = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_DENIED = {sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH}


def connect(path: Path, *, query_only: bool = False) -> SQLiteConnection:
    """Open a connection that has not read anything yet."""
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, timeout=BUSY_S, factory=SQLiteConnection
    )
    connection.text_factory = _text
    connection.execute("PRAGMA journal_mode = WAL")
    # FULL: with NORMAL, acknowledged commits were lost in six of six simulated power cuts.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {LOG_LIMIT}")
    if query_only:
        connection.execute("PRAGMA query_only = 1")
        connection.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
    return connection


def _text(raw: bytes) -> str:
    """Decode a text; SQLite accepts any bytes, and one bad row must not fail the whole query."""
    return str(raw, "utf-8", "replace")


def open_to_read(path: Path) -> SQLiteConnection:
    """Open a database that must exist, and that this connection cannot change."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_S, factory=SQLiteConnection)


def open_checked(path: Path) -> SQLiteConnection:
    """Open a sound database of a known version, readable by its owner only, and migrate it.

    Raise CannotStart for any other file.
    """
    with contextlib.ExitStack() as undo:
        try:
            if path.exists() and path.stat().st_size > 0:
                check(path)
            if path.exists() and not is_writable(path):
                raise PermissionError(errno.EACCES, "it is read-only")
            _make_private(path)
            connection = connect(path)
            undo.callback(connection.close)
            schema.migrate(connection)
        except (sqlite3.Error, OSError) as error:
            raise refusal(path, error) from error
        undo.pop_all()
        return connection


def check(path: Path) -> None:
    """Raise CannotStart, or an error of SQLite, if this file is no sound database of a known version."""
    # Read-only, so that the file of another program is left unchanged to the byte.
    with contextlib.closing(open_to_read(path)) as connection:
        # A first start that was killed before its first commit leaves a file without tables.
        is_unstuck = connection.execute("PRAGMA application_id").fetchone()[0] == schema.APPLICATION_ID
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if not is_unstuck and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise CannotStart(
                f"{path} is not a database of unstuck, and was left as it is. Name another folder with --data."
            )
        if version > schema.VERSION:
            raise CannotStart(
                f"{path} was written by a newer version of unstuck (schema {version}; this version reads up to "
                f"{schema.VERSION}). Upgrade with: pip install -U unstuck"
            )
        if path.stat().st_size <= CHECK_WHOLE_BYTES:
            verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise sqlite3.DatabaseError(f"it is damaged: {verdict}")


def read_identity(connection: sqlite3.Connection) -> str:
    """Return the random word that tells this database from all others."""
    return str(connection.execute("SELECT id FROM identity").fetchone()[0])


def refusal(path: Path, error: sqlite3.Error | OSError) -> CannotStart:
    """Return why this database cannot be used, with an advice that loses nothing if it is followed."""
    if is_full(error, path):
        return CannotStart(f"The disk of {path.parent} is full ({error}). Free some space, then start again.")
    if isinstance(error, OSError):
        return CannotStart(f"The database {path} cannot be used ({error.strerror}). {_ACCESS}")
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    if code in _HELD:
        advice = "Another program holds it: end that program, then start again."
    elif code in _DENIED:
        advice = _ACCESS
    elif code == sqlite3.SQLITE_IOERR:
        advice = "Free some space on its disk, or mend the disk, then start again; the database is left as it was."
    else:
        advice = (
            f"Restore it from a backup with: unstuck restore BACKUP --data {path.parent} (the damaged database is "
            f"kept aside). Without a backup, move {path.name} and its {path.name}-wal and -shm to another folder "
            "and keep them; the server then starts without the jobs in them, and leaves all files where they are."
        )
    return CannotStart(f"The database {path} cannot be used ({error}). {advice}")


_ACCESS = "Make it and its folder readable and writable for the user of the server, then start again."


def _make_private(path: Path) -> None:
    """Create the database if necessary, and take from all other users the right to read it.

    SQLite gives the files beside it the same mode.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    for suffix in SUFFIXES:
        with contextlib.suppress(FileNotFoundError, PermissionError):  # not there, or of another owner
            os.chmod(f"{path}{suffix}", 0o600)
