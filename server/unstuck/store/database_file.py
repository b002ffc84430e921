"""Notices that the database on disk is no longer the one that is open.

An open file outlives its name: SQLite continues to write to a database that was deleted, moved or replaced, and
all of that is gone at the next start. So the names are compared with the files that were opened, before a
transaction begins and before its callers are answered. A file that was overwritten in place keeps its identity. It
is recognized by a mark, a number in the table `pulse`: whenever the file was changed, which otherwise only a
checkpoint does, the mark in it must be one that was written since the last known change.
It must not know callers or transactions.
See also: writer.py (refuses its callers while something is wrong).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
import time
from collections.abc import Callable
from pathlib import Path

from unstuck.store.database import Connection
from unstuck.store.sqlite_connection import SQLiteConnection

#: How often files are checked whose loss harms no commit (seconds).
LOOK_S = 1.0
#: A log that grew larger is cut as soon as no reader needs it (bytes). Checkpoints keep it at 4 MiB unless another
#: program reads for long: 25 s and 17,756 reports made 73 MB, which stayed.
LOG_LIMIT = 8 * 1024 * 1024
#: The content of the file without its log: `immutable` makes SQLite ignore the log, and take no lock.
_ON_DISK = "file:{}?immutable=1"
_MARK_PAGE = "SELECT rootpage, page_size FROM sqlite_master, pragma_page_size WHERE name = 'pulse'"
#: How every database of SQLite begins.
_MAGIC = b"SQLite format 3\0"
_SET_MARK = "INSERT OR REPLACE INTO pulse VALUES (1, ?)"

_Identity = tuple[int, int]


class DatabaseUnusableError(Exception):
    """The database on disk is not the one that is open, or cannot be written."""

    #: True if it was noticed after a commit.
    committed = False


class DatabaseFile:
    """The files of an open database: the file itself, its log (`-wal`) and the index of the log (`-shm`).

    Used by one thread; any may read `log_bytes`, the size of the log.
    """

    def __init__(self, path: Path, steady: Callable[[], float] = time.monotonic) -> None:
        self.log_bytes = 0
        self.path = path
        self._path = str(path)
        self._log, self._index = f"{path}-wal", f"{path}-shm"
        self._uri = _ON_DISK.format(path.absolute().as_uri().removeprefix("file:"))
        self._steady = steady
        self._next_look = 0.0
        self._opened: dict[str, _Identity] = {}
        self._content = (0, 0)  # size and time of the last change
        self._mark_page = (1, 0)  # number and size of the page that holds the mark
        #: The marks that the file may have: the one it had at its last known change, and those written since then.
        self._marks: dict[float | None, None] = {}
        #: True while the file has another content than was committed, so that nothing in it may be believed.
        self.overwritten = False
        #: True if the next transaction should write a mark, since the file was changed.
        self.mark_due = False

    def open(self, connection: SQLiteConnection) -> None:
        """Note which files `connection` has opened. Writes a mark, and empties the log if no reader holds it."""
        self.write_mark(connection)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        for path in (self._path, self._log, self._index):
            with contextlib.suppress(FileNotFoundError):  # some file systems allow no log
                self._opened[path] = _identity_of(os.stat(path))
        self._content = _content_of(os.stat(self._path))
        self._mark_page = connection.execute(_MARK_PAGE).fetchone()
        self._marks = {self._mark_on_disk(): None, **self._marks}

    def write_mark(self, connection: Connection) -> None:
        """Write a mark that the file never had."""
        mark = time.time()
        while mark in self._marks or mark.is_integer():  # a coarse clock; SQLite stores whole numbers otherwise
            mark += 1e-6
        connection.execute(_SET_MARK, (mark,))
        self._marks[mark] = None
        self.mark_due = False

    def check_name(self) -> None:
        """Raise DatabaseUnusableError if the database is not where it was opened."""
        self._stat(self._path)

    def check(self, connection: sqlite3.Connection) -> None:
        """Raise DatabaseUnusableError if anything that was committed might be missing at the next start."""
        found = self._stat(self._path)
        if _content_of(found) != self._content:
            self._check_content(_content_of(found))
        look = self._steady() >= self._next_look
        try:
            if self._log in self._opened:
                self.log_bytes = self._stat(self._log).st_size
                if look:
                    self._stat(self._index)
        except DatabaseUnusableError:
            with contextlib.suppress(sqlite3.Error):  # keeps in the database what was only in the log
                connection.execute("PRAGMA wal_checkpoint").fetchone()
            raise
        if look:
            if not is_writable(self.path):
                raise DatabaseUnusableError(f"{self._path} is read-only; make it writable for the server's user")
            self._cut_log(connection)
            self._next_look = self._steady() + LOOK_S

    def _cut_log(self, connection: sqlite3.Connection) -> None:
        """Cut a log that grew because another program was reading, as soon as that has ended; wait for nothing."""
        if self.log_bytes <= LOG_LIMIT:
            return
        busy_ms = connection.execute("PRAGMA busy_timeout").fetchone()[0]
        connection.execute("PRAGMA busy_timeout = 0")
        with contextlib.suppress(sqlite3.Error):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        connection.execute(f"PRAGMA busy_timeout = {busy_ms}")
        self.log_bytes = os.stat(self._log).st_size

    def _stat(self, path: str) -> os.stat_result:
        try:
            found = os.stat(path)
        except OSError as error:
            raise DatabaseUnusableError(
                f"{path} was deleted or moved ({error.strerror}); put it back, or restart the server"
            ) from error
        if _identity_of(found) != self._opened[path]:
            raise DatabaseUnusableError(
                f"{path} was replaced by another file; put the first one back, or restart the server to use this"
            )
        return found

    def _check_content(self, content: tuple[int, int]) -> None:
        mark = self._mark_on_disk()
        if mark not in self._marks:
            mark = self._mark_in_page()
        self.overwritten = mark not in self._marks
        if self.overwritten:
            raise DatabaseUnusableError(
                f"{self._path} was damaged or overwritten by another program; stop the server, and restore the "
                "database from a backup"
            )
        self._content = content
        marks = list(self._marks)
        self._marks = dict.fromkeys(marks[marks.index(mark) :])
        self.mark_due = True

    def _mark_on_disk(self) -> float | None:
        try:
            with contextlib.closing(sqlite3.connect(self._uri, uri=True)) as connection:
                row = connection.execute("SELECT at FROM pulse").fetchone()
        except sqlite3.Error:
            return None
        return None if row is None else float(row[0])

    def _mark_in_page(self) -> float | None:
        """Return the newest known mark in the page that holds the mark.

        A checkpoint that finds no room on the disk stops halfway. The file then cannot be read without its log,
        but each of its pages is one of this database, an older or a newer one.
        """
        number, size = self._mark_page
        with self.path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                return None
            file.seek((number - 1) * size)
            page = file.read(size)
        known = (mark for mark in reversed(self._marks) if mark is not None)
        return next((mark for mark in known if struct.pack(">d", mark) in page), None)


def is_writable(path: Path) -> bool:
    """Return whether a file may be written. One that has no bit for it is not, although root could."""
    return bool(path.stat().st_mode & 0o222) and os.access(path, os.W_OK)


def _identity_of(found: os.stat_result) -> _Identity:
    return found.st_dev, found.st_ino


def _content_of(found: os.stat_result) -> tuple[int, int]:
    return found.st_size, found.st_ctime_ns
