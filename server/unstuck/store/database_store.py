"""The verbs of a store, as far as they are the same for every database.

It decides what a verb reads and writes, and how the writer's answers reach the event loop. One thread writes;
reads use their own connections and never wait for it. A change is durable before a listener or a reader sees it.
It must not know SQL, HTTP, viewers or processes, or which database this is.
See also: protocol.py (what each method does), writer.py and transaction.py (write), queries.py and listings.py
(read), snapshot_cache.py (saves reads), sqlite.py and postgres/store.py (the stores).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future as ThreadFuture
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from msgspec.structs import replace

from unstuck.errors import JobNotDone, KeyReused, QueueFull, StoreUnavailable
from unstuck.jobs.external import ExternalReport
from unstuck.jobs.health import health
from unstuck.jobs.job import Command, Health, HealthLimits, Item, Job, JobCommand, Renew, submitted_at
from unstuck.jobs.snapshot import Snapshot
from unstuck.jobs.timeline import Entry, submitted_entry
from unstuck.store import claims, deliveries, external_reports, listings, queries, rows, runs
from unstuck.store.database import Connection
from unstuck.store.protocol import (
    NO_BATCHES,
    Changes,
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
from unstuck.store.transaction import Transaction, Work
from unstuck.store.writer import Caller, Writer
from unstuck.supervision.supervisor import Loop

T = TypeVar("T")

#: Connections that read in parallel.
READERS = 4
#: Jobs that are read at once to find those of a health, while that cannot be written.
HEALTH_BATCH = 500
#: How long a snapshot waits for the commit in progress before it is read anyway (seconds): disks may be slow.
COMMIT_S = 0.05
#: The message of the StoreUnavailable before `open` and after `close`.
CLOSED = "The store is closed: the server is starting or stopping. Try again soon."


class DatabaseStore(ABC):
    """The verbs of `Store`; a subclass opens and closes the database, and starts `_writer`."""

    #: Whether one server has the database for itself.
    ALONE: bool

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._listeners: list[CommitListener] = []
        self._limiter: anyio.CapacityLimiter | None = None
        self._writer: Writer | None = None
        self._snapshots = SnapshotCache()
        self._limits: HealthLimits | None = None  # of the last sweep
        self._commit_done: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop

    @property
    def trouble(self) -> str | None:
        return None if self._writer is None else self._writer.trouble

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
            self._tell(changed)

    def _tell(self, changes: Changes) -> None:
        for listener in self._listeners:
            listener(changes)

    # -- writing

    async def create(
        self, job: Job, items: Iterable[Item], key: IdempotencyKey | None = None, most: int | None = None
    ) -> Job:
        def insert(transaction: Transaction) -> Job:
            if key is not None and (first := _find_by_key(transaction, key)) is not None:
                return first
            connection = transaction.connection
            transaction.flush()  # jobs that ended in this transaction no longer count
            if most is not None and queries.queue_full(connection, most, external=job.external):
                raise QueueFull(most)
            statements = connection.statements
            stored = submitted_at(job, transaction.now)
            (job_n,) = connection.execute(statements.insert_job, rows.job_values(stored)).fetchone()
            if key is not None:
                connection.execute(statements.set_key, (key.key, key.fingerprint, job_n))
            connection.insert_items(rows.item_values(job_n, item) for item in items)
            transaction.add_entry(job_n, submitted_entry(stored))
            transaction.changed[job.id] = stored
            return stored

        return await self._write(Work(insert, keys=() if key is None else (key.key,)), can_wait=True)

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        return await self._write(
            Work(
                lambda transaction: runs.apply(transaction, commands),
                jobs=[command.job_id for command in commands],
                items=[(one.job_id, one.index) for one in commands if not isinstance(one, JobCommand)],
            )
        )

    async def report(self, job_id: str, reports: Sequence[ExternalReport]) -> ReportResult:
        ends = any(report.state is not None for report in reports)
        work = Work(lambda transaction: external_reports.report(transaction, job_id, reports), jobs=[job_id])
        return await self._write(work, can_wait=not ends)

    async def claim(
        self,
        limit: int,
        lease_s: float,
        worker: str | None = None,
        short: Mapping[str, int] = NO_BATCHES,
        kinds: Collection[str] | None = None,
    ) -> list[WorkItem]:
        work = Work(
            lambda transaction: claims.claim(transaction, limit, lease_s, worker, short, kinds),
            find=lambda connection, now: claims.shares(connection, now, limit, kinds),
        )
        return await self._write(work, can_wait=True)

    def sweep(self, limits: HealthLimits, held: Sequence[Renew] = (), *, ended: str | None = None) -> SweepResult:
        self._limits = limits
        caller: ThreadFuture[SweepResult] = ThreadFuture()
        work = Work(
            lambda transaction: claims.sweep(transaction, limits, held, ended=ended, alone=self.ALONE),
            jobs=[one.job_id for one in held],
            find=lambda connection, now: claims.affected(connection, now, limits, ended=ended, alone=self.ALONE),
        )
        self._submit(work, caller)
        return caller.result()

    async def rescue(self, job_id: str, why: str) -> int:
        return await self._write(Work(lambda transaction: claims.rescue(transaction, job_id, why), jobs=[job_id]))

    async def remove(self, job_id: str) -> None:
        def delete(transaction: Transaction) -> None:
            job_n, job = transaction.job(job_id)
            if not job.done:
                raise JobNotDone(job_id)
            transaction.flush()
            connection = transaction.connection
            for sql in connection.statements.delete_job:
                connection.execute(sql, (job_n,))
            connection.execute(connection.statements.add_removal, (job_id,))
            transaction.drop_job(job_id)

        await self._write(Work(delete, jobs=[job_id]))

    async def removals(self, limit: int) -> list[str]:
        def work(connection: Connection) -> list[str]:
            return [row[0] for row in connection.execute(connection.statements.removals, (limit,))]

        return await self._read(work)

    async def finish_removals(self, job_ids: Sequence[str]) -> None:
        def delete(transaction: Transaction) -> None:
            connection = transaction.connection
            connection.executemany(connection.statements.finish_removal, [(job_id,) for job_id in job_ids])

        await self._write(Work(delete))

    async def take_deliveries(
        self, limit: int, lanes: int, busy: Mapping[str, int], hold_s: float
    ) -> DueDeliveries:
        return await self._write(
            Work(lambda transaction: deliveries.take(transaction, limit, lanes, busy, hold_s))
        )

    async def finish_attempt(self, delivery: Delivery, outcome: DeliveryAttempt) -> bool:
        return await self._write(
            Work(
                lambda transaction: deliveries.finish_attempt(transaction, delivery, outcome),
                jobs=[delivery.job_id],
            )
        )

    async def _write(self, work: Work[T], *, can_wait: bool = False) -> T:
        caller: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._submit(work, caller, can_wait=can_wait)
        return await caller

    def _submit(
        self,
        work: Work[T],
        caller: ThreadFuture[T] | asyncio.Future[T],
        *,
        can_wait: bool = False,
    ) -> None:
        if self._writer is None:
            raise StoreUnavailable(CLOSED)
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
        def work(connection: Connection) -> Snapshot:
            # The first statement fixes what the transaction sees, and none has run yet.
            return self._snapshots.load(
                job_id, lambda: queries.snapshot(connection, *queries.job(connection, job_id))
            )

        if not self.ALONE:  # another server may have changed it a moment ago
            return self._as_of_now(await self._read(work))
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
        def work(connection: Connection) -> list[Item]:
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
        def work(connection: Connection) -> list[tuple[int, Snapshot]]:
            if self.trouble is None or not wanted.healths:
                return listings.jobs(connection, wanted, before, limit)
            return self._with_health(connection, wanted, before, limit)

        return [(n, self._as_of_now(found)) for n, found in await self._read(work)]

    async def search(
        self, name: str, wanted: JobFilter, *, before: int | None, limit: int
    ) -> tuple[list[tuple[int, Snapshot]], int | None]:
        found, following = await self._read(
            lambda connection: listings.search(connection, name, wanted, before, limit)
        )
        return [(n, self._as_of_now(one)) for n, one in found], following

    def _with_health(
        self, connection: Connection, wanted: JobFilter, before: int | None, limit: int
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
        def work(connection: Connection) -> dict[str, int]:
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

    async def _read(self, work: Callable[[Connection], T]) -> T:
        if self._limiter is None or self._writer is None:
            raise StoreUnavailable(CLOSED)
        return await anyio.to_thread.run_sync(self._run_read, work, limiter=self._limiter)

    # -- what each database does in its own way

    @abstractmethod
    async def open(self) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...

    @property
    @abstractmethod
    def identity(self) -> str: ...

    @property
    @abstractmethod
    def log_bytes(self) -> int: ...

    @abstractmethod
    async def check_writable(self) -> None: ...

    @abstractmethod
    async def before_steps(self, moment: float) -> float: ...

    @abstractmethod
    def _run_read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a read transaction, in a thread. Raise StoreUnavailable."""


def _resolve(caller: ThreadFuture[Any] | asyncio.Future[Any], outcome: Any) -> None:
    if isinstance(outcome, Exception):
        caller.set_exception(outcome)
    else:
        caller.set_result(outcome)


def _find_by_key(transaction: Transaction, key: IdempotencyKey) -> Job | None:
    """Return the job that was submitted under this key before, or None."""
    connection = transaction.connection
    row = connection.execute(connection.statements.find_key, (key.key,)).fetchone()
    if row is None:
        return None
    if row[1] != key.fingerprint:
        raise KeyReused
    return transaction.job(row[0])[1]
