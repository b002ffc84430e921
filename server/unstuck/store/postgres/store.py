"""The PostgreSQL store: one database, which several servers share.

It decides which connection serves a read, and what follows when another server changed a job: what is cached of it
is dropped, then the listeners of this server are told.
It must not know HTTP, viewers or processes, or how many servers there are.
See also: ../database_store.py (the verbs), writer.py (commits), listener.py (receives notices), checks.py
(opens the database).
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import secrets
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread
import psycopg

from unstuck.errors import StoreUnavailable
from unstuck.jobs.job import Job
from unstuck.jobs.snapshot import Snapshot
from unstuck.store import rows
from unstuck.store.database import Connection
from unstuck.store.database_store import READERS, DatabaseStore
from unstuck.store.postgres import statements
from unstuck.store.postgres.checks import check_notices, open_checked, refusing
from unstuck.store.postgres.clock import DatabaseClock
from unstuck.store.postgres.connection import PostgresConnection, connect, one_line
from unstuck.store.postgres.listener import Listener
from unstuck.store.postgres.writer import PostgresWriter
from unstuck.store.protocol import Changes
from unstuck.store.transaction import Work

T = TypeVar("T")


class PostgresStore(DatabaseStore):
    """The `Store` in the PostgreSQL database of this URL. The time is the database's, or that of `clock`."""

    ALONE = False
    _writer: PostgresWriter | None

    def __init__(self, url: str, *, clock: Callable[[], float] | None = None) -> None:
        self._clock = DatabaseClock(clock)
        super().__init__(self._clock.estimate)
        self.url = url
        self._tag = secrets.token_hex(4)
        self._readers: queue.SimpleQueue[PostgresConnection | None] = queue.SimpleQueue()
        self._listener: Listener | None = None
        self._identity = ""

    # -- opening and closing

    async def open(self) -> None:
        self._limiter = anyio.CapacityLimiter(READERS)
        self._loop = asyncio.get_running_loop()
        await anyio.to_thread.run_sync(self._open)
        self._writer = PostgresWriter(self._connect, self._clock, self._tag, self._snapshots, self._after_commit)
        self._writer.start()

    def _open(self) -> None:
        connection = open_checked(self.url)
        try:
            with refusing(self.url):
                check_notices(connection, self.url)
                found = connection.execute(statements.OPENED).fetchone()
                assert found is not None
                self._identity, now = found
                self._clock.set(now)
                self._listener = Listener(self._connect, self._tag, self)
                self._listener.start()
        except BaseException:
            connection.close()
            raise
        self._readers.put(connection)
        for _ in range(READERS - 1):
            self._readers.put(None)  # opened when it is needed

    def _connect(self) -> PostgresConnection:
        return connect(self.url)

    async def close(self) -> None:
        if self._writer is None:
            return
        writer, self._writer = self._writer, None
        await anyio.to_thread.run_sync(writer.stop)
        if self._listener is not None:
            await anyio.to_thread.run_sync(self._listener.stop)
        while not self._readers.empty():
            if (connection := self._readers.get()) is not None:
                connection.close()
        self._snapshots.clear()

    @property
    def identity(self) -> str:
        return self._identity

    @property
    def log_bytes(self) -> int:
        return 0  # the database looks after its log itself

    async def check_writable(self) -> None:
        def write_mark(connection: Connection) -> None:
            connection.execute(statements.WRITE_MARK)

        await self._write(Work(lambda transaction: write_mark(transaction.connection)), can_wait=True)

    async def before_steps(self, moment: float) -> float:
        return moment  # the database's clock is kept right, and no time is ever shifted

    # -- reading

    def cached_snapshot(self, job_id: str) -> Snapshot | None:
        listening = self._listener is not None and self._listener.listening
        return super().cached_snapshot(job_id) if listening else None

    def _run_read(self, work: Callable[[Connection], T]) -> T:
        connection = self._readers.get()
        try:
            if connection is not None and not connection.closed:
                try:
                    return _read(connection, work)
                except psycopg.OperationalError:
                    if not connection.closed:
                        raise
            connection = self._connect()  # the database was restarted, or ended the connection
            return _read(connection, work)
        except psycopg.Error as error:
            raise StoreUnavailable(
                f"The store cannot be read now ({one_line(error)}). Try again in a moment."
            ) from error
        finally:
            self._readers.put(connection)

    # -- the other servers

    def on_notices(self, connection: PostgresConnection, job_ids: list[str]) -> None:
        self._snapshots.drop(job_ids)
        changed: dict[str, Job | None] = dict.fromkeys(job_ids)
        for row in connection.execute(statements.FIND_JOBS, (job_ids,)):
            job = rows.job_from(row[1:])
            changed[job.id] = job
        self._tell_soon(changed)

    def on_gap(self) -> None:
        self._snapshots.clear()
        self._tell_soon(None)

    def _tell_soon(self, changes: Changes) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is closed
            self._loop.call_soon_threadsafe(self._tell, changes)


def _read(connection: PostgresConnection, work: Callable[[Connection], T]) -> T:
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")  # one consistent view
    try:
        result = work(connection)
    except BaseException:
        with contextlib.suppress(psycopg.Error):
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return result
