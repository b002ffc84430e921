"""One thread that writes: it takes all that waits, decides it, and commits it in one transaction.

While a commit waits for the disk, the next ones gather; so durability costs one fsync for many changes.
Whoever asked is answered only after the commit. A transaction holds each job that it touches once in
memory and writes it once, however many commands concern it.

If the database fails, everybody in the transaction is told so, and nothing of it was done. If one caller's
work fails in another way, the others are done over without it. If the thread itself breaks, all callers that wait
are refused, and so is each that comes until it runs again. Knows jobs and SQLite; no event loop, no HTTP.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from unstuck.errors import JobNotFound, StoreUnavailable, UnstuckError
from unstuck.jobs import timeline
from unstuck.jobs.decide import Change, claim, decide
from unstuck.jobs.job import Command, Item, ItemState, Job, JobCommand
from unstuck.jobs.timeline import Entry
from unstuck.store import rows
from unstuck.store.clock import Clock, Moment
from unstuck.store.protocol import Outcome
from unstuck.store.row_cache import RowCache
from unstuck.store.row_updates import ITEMS, JOBS, RowUpdates
from unstuck.store.snapshot_cache import SnapshotCache
from unstuck.supervision import Loop

log = logging.getLogger("unstuck.store")

#: A job's row number and the item's index.
ItemKey = tuple[int, int]

#: Items in these states are shown with their job.
_SHOWN = frozenset({ItemState.RUNNING, ItemState.FAILED})

#: Callers served by one commit at most: bounds how long the first of them waits.
BATCH = 512

#: What callers are told.
FAILED = "The store cannot write now ({}); nothing was changed. Try again in a moment."
BROKEN = "The store's writer broke ({!r}); whether this was kept is not known. Try again in a moment."


class Transaction:
    """Jobs and items as this transaction sees and changes them; written at its end by `flush`."""

    def __init__(
        self, connection: sqlite3.Connection, now: float, row_cache: RowCache, snapshots: SnapshotCache
    ) -> None:
        self.connection = connection
        self.now = now
        self.changed: dict[str, Job | None] = {}
        self._rows = row_cache
        self._snapshots = snapshots
        self._jobs: dict[str, tuple[int, Job]] = {}
        self._items: dict[ItemKey, Item] = {}
        #: What is not written yet: as it stands in the database.
        self._stale_jobs: dict[str, Job] = {}
        self._stale_items: dict[ItemKey, Item] = {}
        self._entries: list[dict[str, Any]] = []
        #: What viewers see of items: those that came to be shown or are no more, and jobs of which only SQL knows.
        self._item_changes: dict[str, dict[int, Item]] = {}
        self._unknown: set[str] = set()

    def job(self, job_id: str) -> tuple[int, Job]:
        """Row number and job; raises JobNotFound."""
        found = self._jobs.get(job_id) or self._rows.jobs.get(job_id)
        if found is None:
            found = rows.find_job(self.connection, job_id)
            if found is None:
                raise JobNotFound(job_id)
        self._jobs[job_id] = found
        return found

    def apply(self, command: Command) -> Job:
        """Let `decide` have its way with the command; raises what it raises, and then changes nothing."""
        job_n, job = self.job(command.job_id)
        item = None if isinstance(command, JobCommand) else self.item(job_n, command.index)
        change = decide(job, command, self.now, item)
        self.save(job_n, change)
        return change.job

    def try_apply(self, command: Command) -> Outcome:
        """As `apply`, but a refusal is an answer."""
        try:
            return self.apply(command)
        except UnstuckError as refusal:
            return refusal

    def flush(self) -> None:
        """Write what was changed so far, so that SQL sees it."""
        updates = RowUpdates()
        for (job_n, index), item_before in self._stale_items.items():
            updates.add(ITEMS, job_n, item_before, self._items[job_n, index])
        for job_id, job_before in self._stale_jobs.items():
            job_n, job = self._jobs[job_id]
            updates.add(JOBS, job_n, job_before, job)
        updates.execute(self.connection)
        if self._entries:
            self.connection.executemany(rows.INSERT_ENTRY, self._entries)
        self._stale_items.clear()
        self._stale_jobs.clear()
        self._entries = []

    def finish(self) -> None:
        """Write what is left. From now until it is `committed` what it may change is not looked up in memory."""
        self.flush()
        self._snapshots.begin_commit({*self._jobs, *self._unknown})

    def after_commit(self) -> None:
        """What was seen here is the truth for the transactions that follow."""
        self._rows.update(self._jobs, self._items)
        self._snapshots.end_commit([job for _, job in self._jobs.values()], self._item_changes, self._unknown)

    def add_entry(self, job_n: int, entry: Entry) -> None:
        """Put a line into the job's timeline."""
        self._entries.append(rows.entry_values(job_n, entry))

    def claim(self, job_id: str, limit: int, lease_s: float, worker: str | None) -> list[Item]:
        """Take up to `limit` items of the job, those first that rested; call `flush` before."""
        job_n, job = self.job(job_id)
        found = rows.find_claimable(self.connection, job_n, self.now, limit)
        if not found:
            return []
        change, taken = claim(job, found, lease_s, worker, self.now)
        self.save(job_n, change)  # of an item's claim the timeline keeps nothing
        for before, item in zip(found, taken, strict=True):
            key = (job_n, item.index)
            self._items[key] = item
            self._stale_items[key] = before
        return taken

    def drop_job(self, job_id: str) -> None:
        """The job was deleted by SQL; call `flush` before that."""
        self._jobs.pop(job_id, None)
        self._items.clear()  # the next job may be given its row number
        self._rows.clear()
        self._unknown.add(job_id)
        self.changed[job_id] = None

    def item(self, job_n: int, index: int) -> Item | None:
        """An item as this transaction sees it, or None."""
        key = (job_n, index)
        found = self._items.get(key) or self._rows.items.get(key) or rows.find_item(self.connection, *key)
        if found is not None:
            self._items[key] = found
        return found

    def save(self, job_n: int, change: Change) -> None:
        """What was decided of a job that `job` gave out, and of an item that `item` gave out."""
        job, item = change.job, change.item
        _, job_before = self._jobs[job.id]
        item_before = None if item is None else self._items[job_n, item.index]
        for entry in timeline.entries_between(job_before, job, self.now, item_before, item):
            self.add_entry(job_n, entry)
        if job is not job_before:
            self._jobs[job.id] = (job_n, job)
            self._stale_jobs.setdefault(job.id, job_before)
        if item is not None and item_before is not None:
            key = (job_n, item.index)
            self._items[key] = item
            self._stale_items.setdefault(key, item_before)
            if item.state is not item_before.state and not _SHOWN.isdisjoint((item.state, item_before.state)):
                self._item_changes.setdefault(job.id, {})[item.index] = item
        if change.succeeds or change.cancels_waiting:
            self._apply_bulk(job_n, job_before, change)
        if job.done and job.webhook_url is not None:
            delivery = rows.delivery_values(job_n, job.webhook_url, self.now)
            self.connection.execute(rows.INSERT_DELIVERY, delivery)
        if change.visible:
            self.changed[job.id] = job

    def _apply_bulk(self, job_n: int, before: Job, change: Change) -> None:
        if change.succeeds > before.waiting or (change.cancels_waiting and before.external):
            self._unknown.add(before.id)  # among those that a statement below ends, some run
        if change.succeeds:
            self._succeed(job_n, change.job, change.succeeds)
        if change.cancels_waiting:
            self._cancel_waiting(job_n, change.job)

    def _cancel_waiting(self, job_n: int, job: Job) -> None:
        self.flush()
        self._items.clear()
        self._rows.items.clear()
        self.connection.execute(
            "UPDATE items INDEXED BY items_claimable SET state = 'cancelled', seq = ?, finished_at = ? "
            "WHERE job = ? AND state = 'pending' AND lease_until IS NULL",
            (job.seq, self.now, job_n),
        )
        if job.external:  # and what its reporter has in hand; nobody holds it by lease
            self.connection.execute(
                "UPDATE items INDEXED BY items_by_state SET state = 'cancelled', seq = ?, finished_at = ? "
                "WHERE job = ? AND state = 'running'",
                (job.seq, self.now, job_n),
            )

    def _succeed(self, job_n: int, job: Job, count: int) -> None:
        self.flush()
        self._items.clear()
        self.connection.execute(
            "UPDATE items SET state = 'succeeded', progress = 1.0, attempt = 1, seq = :seq, "
            "started_at = coalesce(started_at, :now), finished_at = :now WHERE job = :job AND idx IN (SELECT idx "
            "FROM items WHERE job = :job AND state IN ('pending', 'running') ORDER BY state, idx LIMIT :count)",
            {"seq": job.seq, "now": self.now, "job": job_n, "count": count},
        )


class Caller(Protocol):
    """What a caller waits with, a future of a thread or of an event loop; who gave up has cancelled it."""

    def cancelled(self) -> bool: ...

    def done(self) -> bool: ...


#: Called in the writer's thread once for each commit: the callers' answers with what came of their work (an
#: exception, if that is what came), and the jobs that visibly changed.
AfterCommit = Callable[[list[tuple[Caller, Any]], dict[str, Job | None]], None]

#: The caller's mistakes, as far as SQLite tells them: they say nothing about the database's state.
_CALLER_ERRORS = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    sqlite3.NotSupportedError,
)


@dataclass(slots=True)
class _Request:
    work: Callable[[Transaction], Any]
    caller: Caller


@dataclass(slots=True)
class _Commit:
    """What is on the disk, and not yet in memory."""

    transaction: Transaction
    outcomes: list[tuple[Caller, Any]]
    moment: Moment
    foreign: bool  # another process has written meanwhile


class Writer:
    """Runs callers' work in its thread, many in one commit; see the module. `loop` keeps the thread running."""

    def __init__(
        self, connection: sqlite3.Connection, clock: Clock, snapshots: SnapshotCache, after_commit: AfterCommit
    ) -> None:
        self.loop = Loop("store writer")
        self._connection = connection
        self._clock = clock
        self._after_commit = after_commit
        self._rows = RowCache()
        self._snapshots = snapshots
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._batch: list[_Request] = []
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._broken: BaseException | None = None
        #: Why the last transaction failed, or None: for the health endpoint.
        self.trouble: str | None = None

    def start(self) -> None:
        self._thread = self.loop.start_thread(lambda _: self._run(), self._ending)

    def submit(self, work: Callable[[Transaction], Any], caller: Caller) -> None:
        """Queue work; its answer is told after the commit that holds it. Raises StoreUnavailable."""
        if (error := self._broken) is not None:
            raise _refusal(FAILED, error)
        self._requests.put(_Request(work, caller))

    def stop(self) -> None:
        """Commit what was asked so far, then end. Blocks."""
        self._ending.set()
        self._requests.put(None)
        if self._thread is not None:
            self._thread.join()
        if self._broken is not None:
            self._refuse_all(self._broken)  # it is not started again

    def _run(self) -> None:
        """Serve callers until stopped."""
        self._broken = None
        try:
            last = False
            while not last:
                self._batch, last = self._gather()
                # Callers that were cancelled while queued are not served.
                self._batch = [request for request in self._batch if not request.caller.cancelled()]
                if self._batch:
                    self._serve(self._batch)
        except BaseException as error:
            self._refuse_all(error)
            raise

    def _refuse_all(self, error: BaseException) -> None:
        """The thread broke: refuse all that wait, and forget what is in memory, which may differ from the disk."""
        self._broken = error  # first: whatever is queued from now on waits for the next start
        self.trouble = f"its writer broke ({error!r})"
        self._rows.clear()
        self._snapshots.clear()
        waiting, self._batch = self._batch, []
        while not self._requests.empty():
            if (request := self._requests.get_nowait()) is not None:
                waiting.append(request)
        self._after_commit([(one.caller, _refusal(BROKEN, error)) for one in waiting if not one.caller.done()], {})

    def _gather(self) -> tuple[list[_Request], bool]:
        first = self._requests.get()
        if first is None:
            return [], True
        batch = [first]
        while len(batch) < BATCH:
            try:
                following = self._requests.get_nowait()
            except queue.Empty:
                break
            if following is None:
                return batch, True
            batch.append(following)
        return batch, False

    def _serve(self, batch: list[_Request]) -> None:
        try:
            commit = self._commit(batch)
        except Exception as error:  # noqa: BLE001 – every caller has to get an answer
            self._rows.clear()
            self._snapshots.clear()  # whether a commit that failed is on the disk, only a read can tell
            if isinstance(error, sqlite3.Error) and not isinstance(error, _CALLER_ERRORS):
                self._fail(batch, error)
                return
            if len(batch) == 1:
                self._after_commit([(batch[0].caller, error)], {})
                return
            # One caller's work broke: do the others over, each alone, so that only that one suffers.
            for request in batch:
                self._serve([request])
        else:
            self._publish(commit)

    def _publish(self, commit: _Commit) -> None:
        """Bring the memory up to date and answer. If this breaks, the commit has not failed all the same."""
        self._clock.commit(commit.moment)
        commit.transaction.after_commit()
        if commit.foreign or commit.moment.jump:
            self._snapshots.clear()
        if self.trouble is not None:
            log.info("the store writes again (it had failed with: %s)", self.trouble)
            self.trouble = None
        self._after_commit(commit.outcomes, commit.transaction.changed)

    def _commit(self, batch: list[_Request]) -> _Commit:
        connection = self._connection
        moment = self._clock.read()
        # IMMEDIATE: a read that later wants to write fails at once beside another writer.
        connection.execute("BEGIN IMMEDIATE")
        try:
            foreign = self._rows.check_version(connection.execute("PRAGMA data_version").fetchone()[0])
            if moment.jump:
                self._rows.clear()
                rows.shift_times(connection, moment.jump)
            transaction = Transaction(connection, moment.now, self._rows, self._snapshots)
            outcomes = [(request.caller, _try(request.work, transaction)) for request in batch]
            transaction.finish()
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return _Commit(transaction, outcomes, moment, foreign)

    def _fail(self, batch: list[_Request], error: sqlite3.Error) -> None:
        if self.trouble is None:
            log.error("the store cannot write: %s", error, exc_info=error)
        self.trouble = str(error)
        self._after_commit([(request.caller, _refusal(FAILED, error)) for request in batch], {})


def _try(work: Callable[[Transaction], Any], transaction: Transaction) -> Any:
    # A refusal comes before anything was written, so the transaction goes on.
    try:
        return work(transaction)
    except UnstuckError as refusal:
        return refusal


def _refusal(detail: str, cause: BaseException) -> StoreUnavailable:
    refusal = StoreUnavailable(detail.format(cause))
    refusal.__cause__ = cause
    return refusal
