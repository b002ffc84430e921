"""The SQLite store: one file in the data folder, in WAL mode with `synchronous=FULL`.

It decides which connection and which thread serve a call. One thread writes; reads use their own connections and
never wait for it. A change is durable before a listener or a reader sees it.
It must not know HTTP, viewers or processes. Two servers never share a data folder: files/folder.py locks it.
See also: protocol.py (what each method does), writer.py and transaction.py (write), queries.py and listings.py
(read), snapshot_cache.py (saves reads).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import queue
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future as ThreadFuture
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from msgspec.structs import replace

from unstuck.errors import CannotStart, JobNotDone, KeyReused, QueueFull, StoreUnavailable
from unstuck.jobs.external import ExternalReport
from unstuck.jobs.health import health
from unstuck.jobs.job import Command, Health, HealthLimits, Item, Job, Renew
from unstuck.jobs.snapshot import Snapshot
from unstuck.jobs.timeline import Entry, submitted_entry
from unstuck.store import claims, deliveries, external_reports, listings, queries, rows, runs
from unstuck.store.clock import Clock, as_read_then
from unstuck.store.connection import connect, open_checked, read_identity, refusal
from unstuck.store.database_file import DatabaseFile
from unstuck.store.disk_reserve import DiskReserve, is_full
from unstuck.store.protocol import (
    NO_BATCHES,
    CommitListener,
    Delivery,
    DeliveryAttempt,
    DueDeliveries,
    IdempotencyKey,
    JobFilter,
    Outcome,
    Overview,
    ReportResult,
    SweepResult,
    WorkItem,
)
from unstuck.store.snapshot_cache import SnapshotCache
from unstuck.store.transaction import Transaction
from unstuck.store.writer import Caller, Writer
from unstuck.supervision.supervisor import Loop

T = TypeVar("T")

#: Connections that read in parallel; each has a page cache, see connection.py.
READERS = 4
#: Jobs that are read at once to find those of a health, while that cannot be written.
HEALTH_BATCH = 500
#: How long a snapshot waits for the commit in progress before it is read anyway (seconds): disks may be slow.
COMMIT_S = 0.05


class SQLiteStore:
    """The `Store` in SQLite. `steady` is a monotonic clock that reveals when `clock` was set; see clock.py."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] | None = None,
    ) -> None:
        self.path = path
        self._wall = clock
        self._clock = Clock(clock, steady)
        self._listeners: list[CommitListener] = []
        self._readers: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        self._limiter: anyio.CapacityLimiter | None = None
        self._writer: Writer | None = None
        self._snapshots = SnapshotCache()
        self._file = DatabaseFile(path)
        self._reserve = DiskReserve(path.with_name("reserve"))
        self._limits: HealthLimits | None = None  # of the last sweep
        self._commit_done: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop
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
        self._writer = Writer(
            connection, self._file, self._reserve, self._clock, self._snapshots, self._after_commit
        )
        self._writer.start()
        self._closed = connection.close

    def _open(self) -> sqlite3.Connection:
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
    def trouble(self) -> str | None:
        return None if self._writer is None else self._writer.trouble

    @property
    def log_bytes(self) -> int:
        return self._file.log_bytes

    @property
    def writer_loop(self) -> Loop:
        """The loop of the writer's thread, for a supervisor to watch. It exists while the store is open."""
        assert self._writer is not None
        return self._writer.loop

    def on_commit(self, listener: CommitListener) -> None:
        self._listeners.append(listener)

    def _after_commit(self, outcomes: list[tuple[Caller, Any]], changed: dict[str, Job | None]) -> None:
        """Answer the callers, from the writer's thread, with one hop into the event loop for all of them."""
        for caller, outcome in outcomes:
            if isinstance(caller, ThreadFuture):
                _resolve(caller, outcome)
        with contextlib.suppress(RuntimeError):  # the event loop is closed, so its callers are gone
            self._loop.call_soon_threadsafe(self._publish, outcomes, changed)

    def _publish(self, outcomes: list[tuple[Caller, Any]], changed: dict[str, Job | None]) -> None:
        if self._commit_done is not None:
            self._commit_done.set_result(None)
            self._commit_done = None
        for caller, outcome in outcomes:
            if isinstance(caller, asyncio.Future) and not caller.done():
                _resolve(caller, outcome)
        if changed:
            for listener in self._listeners:
                listener(changed)

    # -- writing

    async def create(
        self, job: Job, items: Iterable[Item], key: IdempotencyKey | None = None, most: int | None = None
    ) -> Job:
        def work(transaction: Transaction) -> Job:
            if key is not None and (first := _find_by_key(transaction, key)) is not None:
                return first
            connection = transaction.connection
            transaction.flush()  # jobs that ended in this transaction no longer count
            if most is not None and queries.queue_full(connection, most, external=job.external):
                raise QueueFull(most)
            cursor = connection.execute(rows.INSERT_JOB, rows.job_values(job))
            job_n = cursor.lastrowid
            assert job_n is not None
            if key is not None:
                sql = "UPDATE jobs SET submission_key = ?, fingerprint = ? WHERE n = ?"
                connection.execute(sql, (key.key, key.fingerprint, job_n))
            connection.executemany(rows.INSERT_ITEM, (rows.item_values(job_n, item) for item in items))
            transaction.add_entry(job_n, submitted_entry(job))
            transaction.changed[job.id] = job
            return job

        return await self._write(work, can_wait=True)

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        return await self._write(lambda transaction: runs.apply(transaction, commands))

    async def report(self, job_id: str, reports: Sequence[ExternalReport]) -> ReportResult:
        ends = any(report.state is not None for report in reports)
        return await self._write(
            lambda transaction: external_reports.report(transaction, job_id, reports), can_wait=not ends
        )

    async def claim(
        self, limit: int, lease_s: float, worker: str | None = None, short: Mapping[str, int] = NO_BATCHES
    ) -> list[WorkItem]:
        return await self._write(
            lambda transaction: claims.claim(transaction, limit, lease_s, worker, short), can_wait=True
        )

    def sweep(self, limits: HealthLimits, held: Sequence[Renew] = (), *, everything: bool = False) -> SweepResult:
        self._limits = limits
        caller: ThreadFuture[SweepResult] = ThreadFuture()
        self._submit(lambda transaction: claims.sweep(transaction, limits, held, everything=everything), caller)
        return caller.result()

    async def rescue(self, job_id: str, why: str) -> int:
        return await self._write(lambda transaction: claims.rescue(transaction, job_id, why))

    async def remove(self, job_id: str) -> None:
        def work(transaction: Transaction) -> None:
            job_n, job = transaction.job(job_id)
            if not job.done:
                raise JobNotDone(job_id)
            transaction.flush()
            for table in ("items", "timeline", "deliveries"):
                transaction.connection.execute(f"DELETE FROM {table} WHERE job = ?", (job_n,))
            transaction.connection.execute("DELETE FROM jobs WHERE n = ?", (job_n,))
            transaction.connection.execute("INSERT OR IGNORE INTO removals VALUES (?)", (job_id,))
            transaction.drop_job(job_id)

        await self._write(work)

    async def removals(self, limit: int) -> list[str]:
        sql = "SELECT id FROM removals LIMIT ?"
        return await self._read(lambda connection: [row[0] for row in connection.execute(sql, (limit,))])

    async def finish_removals(self, job_ids: Sequence[str]) -> None:
        def work(transaction: Transaction) -> None:
            rows_gone = [(job_id,) for job_id in job_ids]
            transaction.connection.executemany("DELETE FROM removals WHERE id = ?", rows_gone)

        await self._write(work)

    async def take_deliveries(
        self, limit: int, lanes: int, busy: Mapping[str, int], hold_s: float
    ) -> DueDeliveries:
        return await self._write(lambda transaction: deliveries.take(transaction, limit, lanes, busy, hold_s))

    async def finish_attempt(self, delivery: Delivery, outcome: DeliveryAttempt) -> bool:
        return await self._write(lambda transaction: deliveries.finish_attempt(transaction, delivery, outcome))

    async def check_writable(self) -> None:
        def work(transaction: Transaction) -> None:
            self._file.write_mark(transaction.connection)

        await self._write(work, can_wait=True)

    async def _write(self, work: Callable[[Transaction], T], *, can_wait: bool = False) -> T:
        caller: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._submit(work, caller, can_wait=can_wait)
        return await caller

    def _submit(
        self,
        work: Callable[[Transaction], T],
        caller: ThreadFuture[T] | asyncio.Future[T],
        *,
        can_wait: bool = False,
    ) -> None:
        if self._writer is None:
            raise StoreUnavailable("The store is closed: the server is starting or stopping. Try again soon.")
        self._writer.submit(work, caller, can_wait=can_wait)

    # -- reading

    def _as_of_now(self, snapshot: Snapshot) -> Snapshot:
        """Return the snapshot with its job's health as of now, if that cannot be written."""
        job = snapshot.job
        if self.trouble is None or self._limits is None or job.done:
            return snapshot
        return replace(snapshot, job=replace(job, health=health(job, self._wall(), self._limits)))

    def cached_snapshot(self, job_id: str) -> Snapshot | None:
        cached = self._snapshots.get(job_id)
        return None if cached is None else self._as_of_now(cached)

    async def snapshot(self, job_id: str) -> Snapshot:
        def work(connection: sqlite3.Connection) -> Snapshot:
            # The first statement fixes what the transaction sees, and none has run yet.
            return self._snapshots.load(
                job_id, lambda: queries.snapshot(connection, *queries.job(connection, job_id))
            )

        cached = self._snapshots.get(job_id)
        if cached is None and self._snapshots.is_committing(job_id):
            await self._wait_for_commit()
            cached = self._snapshots.get(job_id)
        return self._as_of_now(await self._read(work) if cached is None else cached)

    async def _wait_for_commit(self) -> None:
        """Wait for the end of the commit in progress, for COMMIT_S at most."""
        if self._commit_done is None:
            self._commit_done = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._commit_done], timeout=COMMIT_S)

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
            job_n, _ = queries.job(connection, job_id)
            return listings.items(connection, job_n, states, after_seq, after_index, limit)

        return await self._read(work)

    async def item(self, job_id: str, index: int) -> Item | None:
        return await self._read(
            lambda connection: rows.find_item(connection, queries.job(connection, job_id)[0], index)
        )

    async def indexes_of(self, job_id: str, names: Sequence[str]) -> list[tuple[str, int]]:
        return await self._read(
            lambda connection: queries.indexes_of(connection, queries.job(connection, job_id)[0], names)
        )

    async def jobs(self, wanted: JobFilter, *, before: int | None, limit: int) -> list[tuple[int, Snapshot]]:
        def work(connection: sqlite3.Connection) -> list[tuple[int, Snapshot]]:
            if self.trouble is None or not wanted.healths:
                return listings.jobs(connection, wanted, before, limit)
            return self._with_health(connection, wanted, before, limit)

        return [(n, self._as_of_now(found)) for n, found in await self._read(work)]

    def _with_health(
        self, connection: sqlite3.Connection, wanted: JobFilter, before: int | None, limit: int
    ) -> list[tuple[int, Snapshot]]:
        """Return the jobs whose health as of now is one of those wanted; the written one may be out of date."""
        anyhow = dataclasses.replace(wanted, healths=tuple(Health))
        found: list[tuple[int, Snapshot]] = []
        while len(found) < limit:
            batch = listings.jobs(connection, anyhow, before, HEALTH_BATCH)
            found += [(n, one) for n, one in batch if self._as_of_now(one).job.health in wanted.healths]
            if len(batch) < HEALTH_BATCH:
                break
            before = batch[-1][0]
        return found[:limit]

    async def live_ids(self, finished_within_s: float) -> list[str]:
        since = self._wall() - finished_within_s
        return await self._read(lambda connection: queries.live_ids(connection, since))

    async def seqs(self, job_ids: Sequence[str]) -> dict[str, int]:
        def work(connection: sqlite3.Connection) -> dict[str, int]:
            found = queries.seqs(connection, job_ids)
            self._snapshots.drop_outdated(job_ids, found)
            return found

        return await self._read(work)

    async def timeline(self, job_id: str, limit: int | None = None) -> list[Entry]:
        return await self._read(
            lambda connection: queries.timeline(connection, *queries.job(connection, job_id), limit)
        )

    async def overview(self) -> Overview:
        now = self._wall()
        counts = await self._read(lambda connection: queries.overview(connection, now))
        if self.trouble is None:
            return counts
        every = JobFilter(healths=tuple(Health))
        jobs = await self.jobs(every, before=None, limit=sum(counts.by_health.values()))
        return dataclasses.replace(counts, by_health=Counter(found.job.health.value for _, found in jobs))

    async def has_room(self, most: int, key: str | None = None, *, external: bool = False) -> bool:
        return await self._read(
            lambda connection: (
                not queries.queue_full(connection, most, external=external) or queries.key_known(connection, key)
            )
        )

    async def before_steps(self, moment: float) -> float:
        sql = "SELECT at, jump FROM clock_steps ORDER BY n DESC"
        return await self._read(lambda connection: as_read_then(moment, connection.execute(sql).fetchall()))

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._limiter is None or self._writer is None:
            raise StoreUnavailable("The store is closed: the server is starting or stopping. Try again soon.")

        if self._file.overwritten:
            raise StoreUnavailable("The store cannot be read now: its database was damaged or overwritten.")

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


def _resolve(caller: ThreadFuture[Any] | asyncio.Future[Any], outcome: Any) -> None:
    if isinstance(outcome, Exception):
        caller.set_exception(outcome)
    else:
        caller.set_result(outcome)


def _find_by_key(transaction: Transaction, key: IdempotencyKey) -> Job | None:
    """Return the job that was submitted under this key before, or None."""
    sql = "SELECT id, fingerprint FROM jobs WHERE submission_key = ?"
    row = transaction.connection.execute(sql, (key.key,)).fetchone()
    if row is None:
        return None
    if row[1] != key.fingerprint:
        raise KeyReused
    return transaction.job(row[0])[1]
