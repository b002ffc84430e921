"""The SQLite store: one file in the data folder, WAL, `synchronous=FULL`.

One thread writes (writer.py); reads have connections of their own and never wait for it. What a viewer
is shown was committed before. Two server processes never share a data folder: the lock is folder.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import queue
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
import msgspec

from unstuck.errors import CannotStart, JobNotDone, JobNotFound, KeyReused, StoreUnavailable
from unstuck.job import Claim, Command, Item, Job
from unstuck.snapshot import CURRENT_SHOWN, ITEM_ERRORS_SHOWN, Alarms, Snapshot, health
from unstuck.stores import Claimed, JobFilter, Once, Outcome, Overview, Wake, rows, schema
from unstuck.stores.writer import Transaction, Writer

T = TypeVar("T")

#: Connections that read side by side; each holds a page cache of about 2 MiB.
READERS = 4
#: How long a write waits for a foreign process that holds the database (seconds).
BUSY_S = 2.0
#: Up to this size every start checks the whole file; a larger one would delay the start by seconds.
CHECK_WHOLE_BYTES = 256 * 1024 * 1024


class SQLiteStore:
    """See stores.Store for what each method promises."""

    def __init__(
        self, path: Path, *, clock: Callable[[], float] = time.time, alarms: Alarms | None = None
    ) -> None:
        self.path = path
        self._clock = clock
        self._alarms = alarms or Alarms()
        self._wakes: list[Wake] = []
        self._readers: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        self._limiter: anyio.CapacityLimiter | None = None
        self._writer: Writer | None = None
        self._closed: Callable[[], None] = lambda: None

    # -- opening and closing

    async def open(self) -> None:
        self._limiter = anyio.CapacityLimiter(READERS)
        loop = asyncio.get_running_loop()

        def committed(woken: dict[str, Job | None]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be woken
                loop.call_soon_threadsafe(self._wake, woken)

        connection = await anyio.to_thread.run_sync(_open_checked, self.path)
        for _ in range(READERS):
            self._readers.put(_connect(self.path, query_only=True))
        self._writer = Writer(connection, self._clock, committed)
        self._writer.start()
        self._closed = connection.close

    async def close(self) -> None:
        if self._writer is None:
            return
        writer, self._writer = self._writer, None
        await anyio.to_thread.run_sync(writer.stop)
        while not self._readers.empty():
            self._readers.get().close()
        self._closed()

    def on_wake(self, wake: Wake) -> None:
        self._wakes.append(wake)

    def _wake(self, woken: dict[str, Job | None]) -> None:
        for wake in self._wakes:
            wake(woken)

    # -- writing

    async def create(self, job: Job, items: Iterable[Item], once: Once | None = None) -> Job:
        def work(transaction: Transaction) -> Job:
            if once is not None and (first := _first(transaction, once)) is not None:
                return first
            connection = transaction.connection
            cursor = connection.execute(rows.INSERT_JOB, rows.job_values(job))
            job_n = cursor.lastrowid
            assert job_n is not None
            if once is not None:
                sql = "UPDATE jobs SET submission_key = ?, fingerprint = ? WHERE n = ?"
                connection.execute(sql, (once.key, once.fingerprint, job_n))
            connection.executemany(rows.INSERT_ITEM, (rows.item_values(job_n, item) for item in items))
            transaction.woken[job.id] = job
            return job

        return await self._write(work)

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        return await self._write(lambda transaction: [transaction.try_apply(command) for command in commands])

    async def claim(self, limit: int, lease_s: float) -> list[Claimed]:
        return await self._write(lambda transaction: _claim(transaction, limit, lease_s))

    async def remove(self, job_id: str) -> None:
        def work(transaction: Transaction) -> None:
            job_n, job = transaction.job(job_id)
            if not job.done:
                raise JobNotDone(job_id)
            transaction.flush()
            transaction.connection.execute("DELETE FROM items WHERE job = ?", (job_n,))
            transaction.connection.execute("DELETE FROM jobs WHERE n = ?", (job_n,))
            transaction.forget(job_id)

        await self._write(work)

    async def check(self) -> None:
        def work(transaction: Transaction) -> None:
            transaction.connection.execute("INSERT OR REPLACE INTO pulse VALUES (1, ?)", (transaction.now,))

        await self._write(work)

    async def _write(self, work: Callable[[Transaction], T]) -> T:
        if self._writer is None:
            raise StoreUnavailable("The store is closed; the server is starting or ending. Try again.")
        return await asyncio.wrap_future(self._writer.ask(work))

    # -- reading

    async def snapshot(self, job_id: str) -> Snapshot:
        def work(connection: sqlite3.Connection) -> Snapshot:
            job_n, job = _job(connection, job_id)
            return _snapshot(connection, job_n, job)

        return await self._read(work)

    async def items(
        self,
        job_id: str,
        *,
        states: Sequence[str] = (),
        after_seq: int | None = None,
        after_index: int = -1,
        limit: int = 100,
    ) -> list[Item]:
        def work(connection: sqlite3.Connection) -> list[Item]:
            job_n, _ = _job(connection, job_id)
            where = "job = ?"
            values: list[int | str] = [job_n]
            if states:
                where += f" AND state IN ({', '.join('?' * len(states))})"
                values += states
            if after_seq is None:
                where, order = f"{where} AND idx > ?", "idx"
                values.append(after_index)
            else:
                where, order = f"{where} AND (seq, idx) > (?, ?)", "seq, idx"
                values += [after_seq, after_index]
            sql = f"{rows.SELECT_ITEM} WHERE {where} ORDER BY {order} LIMIT ?"
            return [rows.item_from(row) for row in connection.execute(sql, (*values, limit))]

        return await self._read(work)

    async def item(self, job_id: str, index: int) -> Item | None:
        def work(connection: sqlite3.Connection) -> Item | None:
            return rows.find_item(connection, _job(connection, job_id)[0], index)

        return await self._read(work)

    async def jobs(self, wanted: JobFilter, *, before: int | None, limit: int) -> list[tuple[int, Snapshot]]:
        now = self._clock()

        def fits(job: Job) -> bool:
            return wanted.health is None or health(job, now, self._alarms) == wanted.health

        def work(connection: sqlite3.Connection) -> list[tuple[int, Snapshot]]:
            found: list[tuple[int, Snapshot]] = []
            for job_n, job in _jobs(connection, wanted, before):
                if fits(job):
                    found.append((job_n, _snapshot(connection, job_n, job)))
                    if len(found) == limit:
                        break
            return found

        return await self._read(work)

    async def live(self, finished_within_s: float) -> list[str]:
        since = self._clock() - finished_within_s

        def work(connection: sqlite3.Connection) -> list[str]:
            sql = (
                "SELECT id FROM jobs WHERE finished_at IS NULL UNION ALL SELECT id FROM jobs WHERE finished_at > ?"
            )
            return [row[0] for row in connection.execute(sql, (since,))]

        return await self._read(work)

    async def orphans(self) -> list[tuple[str, Item]]:
        def work(connection: sqlite3.Connection) -> list[tuple[str, Item]]:
            columns = ", ".join(f"items.{name}" for name in rows.ITEM_COLUMNS)
            sql = (
                f"SELECT jobs.id, {columns} FROM items JOIN jobs ON jobs.n = items.job "
                "WHERE items.lease_until IS NOT NULL"
            )
            return [(row[0], rows.item_from(row[1:])) for row in connection.execute(sql)]

        return await self._read(work)

    async def seqs(self, job_ids: Sequence[str]) -> dict[str, int]:
        asked = msgspec.json.encode(job_ids).decode()

        def work(connection: sqlite3.Connection) -> dict[str, int]:
            sql = "SELECT id, seq FROM jobs WHERE id IN (SELECT value FROM json_each(?))"
            return dict(connection.execute(sql, (asked,)).fetchall())

        return await self._read(work)

    async def overview(self) -> Overview:
        now = self._clock()

        def work(connection: sqlite3.Connection) -> Overview:
            by_state = dict(connection.execute("SELECT state, count(*) FROM jobs GROUP BY state"))
            by_health: dict[str, int] = {}
            waiting = leased = 0
            oldest: float | None = None
            for _, job in _jobs(connection, JobFilter(health="any"), None):
                state = health(job, now, self._alarms) or "ok"
                by_health[state] = by_health.get(state, 0) + 1
                waiting += job.waiting
                leased += job.leased
                if job.waiting:
                    oldest = max(oldest or 0.0, now - (job.started_at or job.created_at))
            return Overview(by_state, by_health, waiting, leased, oldest)

        return await self._read(work)

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._limiter is None or self._writer is None:
            raise StoreUnavailable("The store is closed; the server is starting or ending. Try again.")

        def run() -> T:
            connection = self._readers.get()
            try:
                connection.execute("BEGIN")  # one consistent view for all statements
                try:
                    return work(connection)
                finally:
                    connection.execute("COMMIT")
            finally:
                self._readers.put(connection)

        try:
            return await anyio.to_thread.run_sync(run, limiter=self._limiter)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"The store cannot be read now ({error}). Try again in a moment.") from error


def _connect(path: Path, *, query_only: bool = False) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_S)
    connection.execute("PRAGMA journal_mode = WAL")
    # FULL: with NORMAL, acknowledged commits were lost in six of six simulated power cuts.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA query_only = {int(query_only)}")
    return connection


def _open_checked(path: Path) -> sqlite3.Connection:
    """A connection to a sound database of a version that we know; CannotStart otherwise."""
    try:
        if path.exists() and path.stat().st_size > 0:
            _check(path)
        connection = _connect(path)
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
        ours = look.execute("PRAGMA application_id").fetchone()[0] == schema.APPLICATION_ID
        version = look.execute("PRAGMA user_version").fetchone()[0]
        if not ours:
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


def _job(connection: sqlite3.Connection, job_id: str) -> tuple[int, Job]:
    found = rows.find_job(connection, job_id)
    if found is None:
        raise JobNotFound(job_id)
    return found


def _jobs(connection: sqlite3.Connection, wanted: JobFilter, before: int | None) -> Iterator[tuple[int, Job]]:
    where = ["1"]
    values: list[int | str] = []
    if wanted.states:
        where.append(f"state IN ({', '.join('?' * len(wanted.states))})")
        values += list(wanted.states)
    if wanted.kind is not None:
        where.append("kind = ?")
        values.append(wanted.kind)
    if wanted.health is not None:
        where.append("finished_at IS NULL")
    if before is not None:
        where.append("n < ?")
        values.append(before)
    sql = f"SELECT n, {', '.join(rows.JOB_COLUMNS)} FROM jobs WHERE {' AND '.join(where)} ORDER BY n DESC"
    for row in connection.execute(sql, values):
        yield row[0], rows.job_from(row[1:])


def _snapshot(connection: sqlite3.Connection, job_n: int, job: Job) -> Snapshot:
    current: list[str] = []
    errors: list[Item] = []
    if job.leased:
        sql = "SELECT name FROM items WHERE job = ? AND state = 'running' ORDER BY idx LIMIT ?"
        current = [row[0] for row in connection.execute(sql, (job_n, CURRENT_SHOWN))]
    if job.failed:
        sql = f"{rows.SELECT_ITEM} WHERE job = ? AND state = 'failed' ORDER BY idx LIMIT ?"
        errors = [rows.item_from(row) for row in connection.execute(sql, (job_n, ITEM_ERRORS_SHOWN))]
    return Snapshot(job, current, errors)


def _first(transaction: Transaction, once: Once) -> Job | None:
    """The job that was submitted under this key before."""
    sql = "SELECT id, fingerprint FROM jobs WHERE submission_key = ?"
    row = transaction.connection.execute(sql, (once.key,)).fetchone()
    if row is None:
        return None
    if row[1] != once.fingerprint:
        raise KeyReused
    return transaction.job(row[0])[1]


def _claim(transaction: Transaction, limit: int, lease_s: float) -> list[Claimed]:
    transaction.flush()
    connection = transaction.connection
    sql = "SELECT id, priority, leased, waiting, n FROM jobs WHERE waiting > 0 ORDER BY priority DESC, n"
    shares = _share(connection.execute(sql).fetchmany(max(limit, 1) * 64), limit)
    claimed: list[Claimed] = []
    for job_id, count in shares.items():
        job_n, job = transaction.job(job_id)
        sql = (
            "SELECT idx FROM items WHERE job = ? AND state = 'pending' AND lease_until IS NULL "
            "ORDER BY idx LIMIT ?"
        )
        for (index,) in connection.execute(sql, (job_n, count)).fetchall():
            transaction.apply(Claim(job_id, index, lease_s))
            item = transaction.held(job_n, index)
            claimed.append(Claimed(job_id, job.kind, job.options, item))
    return claimed


def _share(candidates: list[tuple[str, int, int, int, int]], limit: int) -> dict[str, int]:
    """How many items of which job: highest priority, then who has the fewest in hand, then the oldest."""
    heap = [(-priority, leased, n, waiting, job_id) for job_id, priority, leased, waiting, n in candidates]
    heapq.heapify(heap)
    shares: dict[str, int] = {}
    while heap and limit > 0:
        priority, leased, n, waiting, job_id = heapq.heappop(heap)
        shares[job_id] = shares.get(job_id, 0) + 1
        limit -= 1
        if waiting > 1:
            heapq.heappush(heap, (priority, leased + 1, n, waiting - 1, job_id))
    return shares
