"""The SQLite store: one file in the data folder, in WAL mode with `synchronous=FULL`.

It decides which connection serves a read, and what opening and closing the file take.
It must not know HTTP, viewers or processes. Two servers never share a data folder: files/folder.py locks it.
See also: database_store.py (the verbs), sqlite_writer.py (commits), connection.py (opens the file).
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from unstuck.errors import CannotStart, StoreUnavailable
from unstuck.store.clock import Clock, as_read_then
from unstuck.store.connection import connect, open_checked, read_identity, refusal
from unstuck.store.database import Connection
from unstuck.store.database_file import DatabaseFile
from unstuck.store.database_store import READERS, DatabaseStore
from unstuck.store.disk_reserve import DiskReserve, is_full
from unstuck.store.sqlite_connection import SQLiteConnection
from unstuck.store.sqlite_writer import SQLiteWriter
from unstuck.store.transaction import Work

T = TypeVar("T")


class SQLiteStore(DatabaseStore):
    """The `Store` in SQLite. `steady` is a monotonic clock that reveals when `clock` was set; see clock.py."""

    ALONE = True
    _writer: SQLiteWriter | None

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] | None = None,
    ) -> None:
        self.path = path
        super().__init__(clock)
        self._clock = Clock(clock, steady)
        self._readers: queue.SimpleQueue[SQLiteConnection] = queue.SimpleQueue()
        self._file = DatabaseFile(path)
        self._reserve = DiskReserve(path.with_name("reserve"))
        self._closed: Callable[[], None] = lambda: None
        self._identity = ""

    # -- opening and closing

    async def open(self) -> None:
        self._limiter = anyio.CapacityLimiter(READERS)
        self._loop = asyncio.get_running_loop()
        connection = await anyio.to_thread.run_sync(self._open)
        self._reserve.fill()
        self._identity = read_identity(connection)
        for _ in range(READERS):
            self._readers.put(connect(self.path, query_only=True))
        self._writer = SQLiteWriter(
            connection, self._file, self._reserve, self._clock, self._snapshots, self._after_commit
        )
        self._writer.start()
        self._closed = connection.close

    def _open(self) -> SQLiteConnection:
        """Open the database; where the disk is full, at the cost of the reserve."""
        while True:
            try:
                connection = open_checked(self.path)
                try:
                    self._file.open(connection)
                except sqlite3.Error as error:
                    connection.close()
                    raise refusal(self.path, error) from error
                return connection
            except CannotStart as error:
                if not is_full(error.__cause__, self.path) or not self._reserve.release():
                    raise

    async def close(self) -> None:
        if self._writer is None:
            return
        writer, self._writer = self._writer, None
        await anyio.to_thread.run_sync(writer.stop)
        while not self._readers.empty():
            self._readers.get().close()
        self._closed()
        self._snapshots.clear()

    @property
    def identity(self) -> str:
        return self._identity

    @property
    def log_bytes(self) -> int:
        return self._file.log_bytes

    async def check_writable(self) -> None:
        await self._write(Work(lambda transaction: self._file.write_mark(transaction.connection)), can_wait=True)

    async def before_steps(self, moment: float) -> float:
        sql = "SELECT at, jump FROM clock_steps ORDER BY n DESC"
        return await self._read(lambda connection: as_read_then(moment, connection.execute(sql).fetchall()))

    def _run_read(self, work: Callable[[Connection], T]) -> T:
        if self._file.overwritten:
            raise StoreUnavailable("The store cannot be read now: its database was damaged or overwritten.")
        connection = self._readers.get()
        try:
            connection.execute("BEGIN")  # one consistent view for all statements
            try:
                return work(connection)
            finally:
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreUnavailable(f"The store cannot be read now ({error}). Try again in a moment.") from error
        finally:
            self._readers.put(connection)
