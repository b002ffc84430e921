"""One thread that writes: it takes all that waits, decides it, and commits it in one transaction.

While a commit waits for the disk, the next ones gather; so durability costs one fsync for many changes.
Whoever asked is answered only after the commit. A transaction holds each job that it touches once in
memory and writes it once, however many commands concern it.

If the database fails, everybody in the transaction is told so, and nothing of it was done. If one caller's
work fails in another way, the others are done over without it. Knows jobs and SQLite; no loop, no HTTP.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from unstuck import timeline
from unstuck.decide import Change, decide
from unstuck.errors import JobNotFound, StoreUnavailable, UnstuckError
from unstuck.job import Command, Item, Job, JobCommand
from unstuck.stores import Outcome, rows
from unstuck.stores.clock import Clock
from unstuck.timeline import Entry

log = logging.getLogger("unstuck.store")

#: Callers served by one commit at most: bounds how long the first of them waits.
BATCH = 512


class Transaction:
    """Jobs and items as this transaction sees and changes them; written at its end by `flush`."""

    def __init__(self, connection: sqlite3.Connection, now: float) -> None:
        self.connection = connection
        self.now = now
        self.woken: dict[str, Job | None] = {}
        self._jobs: dict[str, tuple[int, Job]] = {}
        self._items: dict[tuple[int, int], Item] = {}
        self._dirty_jobs: set[str] = set()
        self._dirty_items: set[tuple[int, int]] = set()
        self._entries: list[dict[str, Any]] = []

    def job(self, job_id: str) -> tuple[int, Job]:
        """Row number and job; raises JobNotFound."""
        if job_id not in self._jobs:
            found = rows.find_job(self.connection, job_id)
            if found is None:
                raise JobNotFound(job_id)
            self._jobs[job_id] = found
        return self._jobs[job_id]

    def apply(self, command: Command) -> Job:
        """Let `decide` have its way with the command; raises what it raises, and then changes nothing."""
        job_n, job = self.job(command.job_id)
        item = None if isinstance(command, JobCommand) else self.item(job_n, command.index)
        change = decide(job, command, self.now, item)
        self.keep(job_n, change)
        return change.job

    def try_apply(self, command: Command) -> Outcome:
        """As `apply`, but a refusal is an answer."""
        try:
            return self.apply(command)
        except UnstuckError as refusal:
            return refusal

    def flush(self) -> None:
        """Write what was changed so far, so that SQL sees it."""
        items = [rows.item_update(key[0], self._items[key]) for key in self._dirty_items]
        if items:
            self.connection.executemany(rows.UPDATE_ITEM, items)
        jobs = [rows.job_update(self._jobs[job_id][1]) for job_id in self._dirty_jobs]
        if jobs:
            self.connection.executemany(rows.UPDATE_JOB, jobs)
        if self._entries:
            self.connection.executemany(rows.INSERT_ENTRY, self._entries)
        self._dirty_items.clear()
        self._dirty_jobs.clear()
        self._entries.clear()

    def remember(self, job_n: int, entry: Entry) -> None:
        """Put a line into the job's timeline."""
        self._entries.append(rows.entry_values(job_n, entry))

    def held(self, job_n: int, index: int) -> Item:
        """An item that this transaction has touched."""
        return self._items[job_n, index]

    def forget(self, job_id: str) -> None:
        """The job was deleted by SQL; call `flush` before that."""
        self._jobs.pop(job_id, None)
        self._items.clear()  # the next job may be given its row number
        self.woken[job_id] = None

    def item(self, job_n: int, index: int) -> Item | None:
        """An item as this transaction sees it, or None."""
        key = (job_n, index)
        if key not in self._items:
            found = rows.find_item(self.connection, job_n, index)
            if found is None:
                return None
            self._items[key] = found
        return self._items[key]

    def keep(self, job_n: int, change: Change) -> None:
        """What was decided of a job that `job` gave out, and of an item that `item` gave out."""
        was = None if change.item is None else self._items[job_n, change.item.index]
        for entry in timeline.entries(self._jobs[change.job.id][1], change.job, self.now, was, change.item):
            self.remember(job_n, entry)
        self._jobs[change.job.id] = (job_n, change.job)
        self._dirty_jobs.add(change.job.id)
        if change.item is not None:
            key = (job_n, change.item.index)
            self._items[key] = change.item
            self._dirty_items.add(key)
        if change.succeeds:
            self._succeed(job_n, change.job, change.succeeds)
        if change.cancels_waiting:
            self._cancel_waiting(job_n, change.job)
        if change.job.done and change.job.webhook_url is not None:
            delivery = rows.delivery_values(job_n, change.job.webhook_url, self.now)
            self.connection.execute(rows.INSERT_DELIVERY, delivery)
        if change.visible:
            self.woken[change.job.id] = change.job

    def _cancel_waiting(self, job_n: int, job: Job) -> None:
        self.flush()
        self._items.clear()
        self.connection.execute(
            "UPDATE items SET state = 'cancelled', seq = ?, finished_at = ? "
            "WHERE job = ? AND state IN ('pending', 'running') AND lease_until IS NULL",
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


T = TypeVar("T")

#: The caller's mistakes, as far as SQLite tells them: they say nothing about the database's state.
_CALLERS_OWN = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    sqlite3.NotSupportedError,
)


@dataclass(slots=True)
class _Asked:
    work: Callable[[Transaction], Any]
    answer: Future[Any]


class Writer:
    """Runs callers' work in its thread, many in one commit; see the module."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        clock: Clock,
        committed: Callable[[dict[str, Job | None]], None],
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._committed = committed
        self._asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="unstuck-writer", daemon=True)
        #: Why the last transaction failed, or None: for the health endpoint.
        self.trouble: str | None = None

    def start(self) -> None:
        self._thread.start()

    def ask(self, work: Callable[[Transaction], T]) -> Future[T]:
        """Queue work; the future is done after the commit that holds it."""
        answer: Future[T] = Future()
        self._asked.put(_Asked(work, answer))
        return answer

    def stop(self) -> None:
        """Commit what was asked so far, then end. Blocks."""
        self._asked.put(None)
        self._thread.join()

    def _run(self) -> None:
        last = False
        while not last:
            batch, last = self._gather()
            # Who gave up waiting before his turn is not served; from here on nobody can.
            batch = [asked for asked in batch if asked.answer.set_running_or_notify_cancel()]
            if batch:
                self._serve(batch)

    def _gather(self) -> tuple[list[_Asked], bool]:
        first = self._asked.get()
        if first is None:
            return [], True
        batch = [first]
        while len(batch) < BATCH:
            try:
                following = self._asked.get_nowait()
            except queue.Empty:
                break
            if following is None:
                return batch, True
            batch.append(following)
        return batch, False

    def _serve(self, batch: list[_Asked]) -> None:
        try:
            answers, woken = self._commit(batch)
        except Exception as error:  # noqa: BLE001 – every caller has to get an answer
            if isinstance(error, sqlite3.Error) and not isinstance(error, _CALLERS_OWN):
                self._fail(batch, error)
                return
            if len(batch) == 1:
                batch[0].answer.set_exception(error)
                return
            # One caller's work broke: do the others over, each alone, so that only that one suffers.
            for asked in batch:
                self._serve([asked])
        else:
            self._succeed(batch, answers, woken)

    def _commit(self, batch: list[_Asked]) -> tuple[list[Any], dict[str, Job | None]]:
        connection = self._connection
        moment = self._clock.read()
        # IMMEDIATE: a read that later wants to write fails at once beside another writer.
        connection.execute("BEGIN IMMEDIATE")
        try:
            if moment.jump:
                rows.move_times(connection, moment.jump)
            transaction = Transaction(connection, moment.now)
            answers = [_try(asked.work, transaction) for asked in batch]
            transaction.flush()
            connection.execute("COMMIT")
            self._clock.settle(moment)
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return answers, transaction.woken

    def _succeed(self, batch: list[_Asked], answers: list[Any], woken: dict[str, Job | None]) -> None:
        if self.trouble is not None:
            log.info("the store writes again (it had failed with: %s)", self.trouble)
            self.trouble = None
        for asked, answer in zip(batch, answers, strict=True):
            if isinstance(answer, UnstuckError):
                asked.answer.set_exception(answer)
            else:
                asked.answer.set_result(answer)
        if woken:
            self._committed(woken)

    def _fail(self, batch: list[_Asked], error: sqlite3.Error) -> None:
        if self.trouble is None:
            log.error("the store cannot write: %s", error, exc_info=error)
        self.trouble = str(error)
        for asked in batch:
            refusal = StoreUnavailable(
                f"The store cannot write now ({error}); nothing was changed. Try again in a moment."
            )
            refusal.__cause__ = error
            asked.answer.set_exception(refusal)


def _try(work: Callable[[Transaction], Any], transaction: Transaction) -> Any:
    # A refusal comes before anything was written, so the transaction goes on.
    try:
        return work(transaction)
    except UnstuckError as refusal:
        return refusal
