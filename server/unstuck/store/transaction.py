"""One transaction of the writer: jobs and items as it sees and changes them.

It decides what is read from memory, what from SQL, and which rows are written when the transaction ends. Each job
and item that it touches is held once and written once, however many commands concern it.
It must not know threads, callers or HTTP, or how a command changes a job.
See also: jobs/decide.py (decides that), writer.py (commits transactions), row_updates.py (finds changed columns).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Generic, TypeVar

from unstuck.errors import JobNotFound, UnstuckError
from unstuck.jobs import timeline
from unstuck.jobs.decide import Change, check_claimable, claim, decide, succeed_together
from unstuck.jobs.job import Command, Finish, Item, ItemState, Job, JobCommand
from unstuck.jobs.timeline import Entry
from unstuck.store import rows
from unstuck.store.database import Connection
from unstuck.store.protocol import Outcome
from unstuck.store.row_cache import RowCache
from unstuck.store.row_updates import ITEMS, JOBS, RowUpdates
from unstuck.store.snapshot_cache import SnapshotCache

#: A job's row number and the item's index.
ItemKey = tuple[int, int]

#: The states of the items that a snapshot names.
_SHOWN = frozenset({ItemState.RUNNING, ItemState.FAILED})

_index = attrgetter("index")


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Work(Generic[T]):
    """A caller's work in a transaction, with what it concerns, as far as that is known beforehand.

    A database with several writers locks these jobs in one order for all, and reads what is named in one query.
    `find` names jobs that only the database knows, at the time given (epoch seconds).
    """

    run: Callable[[Transaction], T]
    jobs: Collection[str] = ()
    items: Collection[tuple[str, int]] = ()
    keys: Collection[str] = ()  # of submissions
    find: Callable[[Connection, float], Iterable[str]] | None = None


class Transaction:
    """Reads and changes jobs and items; `flush` writes them.

    `changed` holds the jobs that changed visibly, by id, with None for one that was deleted.
    """

    def __init__(self, connection: Connection, now: float, row_cache: RowCache, snapshots: SnapshotCache) -> None:
        self.connection = connection
        self.now = now
        self.changed: dict[str, Job | None] = {}
        self._rows = row_cache
        self._snapshots = snapshots
        self._jobs: dict[str, tuple[int, Job]] = {}
        self._items: dict[ItemKey, Item] = {}
        #: Jobs and items with unwritten changes, as they are in the database.
        self._stale_jobs: dict[str, Job] = {}
        self._stale_items: dict[ItemKey, Item] = {}
        #: The rows of items that succeeded together, unwritten too.
        self._ended: list[tuple[Any, ...]] = []
        self._entries: list[dict[str, Any]] = []
        #: By job: the items that entered or left the states that a snapshot names.
        self._item_changes: dict[str, dict[int, Item]] = {}
        #: Jobs whose items were changed in bulk by SQL, so a snapshot of them has to be read.
        self._unknown: set[str] = set()

    def job(self, job_id: str) -> tuple[int, Job]:
        """Return the row number and the job. Raise JobNotFound."""
        found = self._jobs.get(job_id) or self._rows.jobs.get(job_id)
        if found is None:
            found = rows.find_job(self.connection, job_id)
            if found is None:
                raise JobNotFound(job_id)
        self._jobs[job_id] = found
        return found

    def apply(self, command: Command) -> Job:
        """Apply a command through `decide`. A refusal is raised and changes nothing."""
        job_n, job = self.job(command.job_id)
        item = None if isinstance(command, JobCommand) else self.item(job_n, command.index)
        change = decide(job, command, self.now, item)
        self.save(job_n, change)
        return change.job

    def try_apply(self, command: Command) -> Outcome:
        """Apply a command, and return a refusal instead of raising it."""
        try:
            return self.apply(command)
        except UnstuckError as refusal:
            return refusal

    def succeed_together(self, job_id: str, run: Iterable[Finish]) -> tuple[Job, int]:
        """Apply the first commands of `run`, all of this job, in one decision; return the job and their number."""
        job_n, before = self.job(job_id)
        job, ended = succeed_together(before, run, self.now, lambda index: self.item(job_n, index))
        if ended:
            shown = {item.index: item for item in ended if self._items[job_n, item.index].state in _SHOWN}
            if shown:
                self._item_changes.setdefault(job_id, {}).update(shown)
            self._items.update(((job_n, item.index), item) for item in ended)
            self._ended += [rows.end_values(job_n, item) for item in ended]
            self.save(job_n, Change(job))
        return job, len(ended)

    def flush(self) -> None:
        """Write the changes so far, so that SQL statements see them."""
        updates = RowUpdates()
        for (job_n, index), item_before in self._stale_items.items():
            updates.add(ITEMS, job_n, item_before, self._items[job_n, index])
        for job_id, job_before in self._stale_jobs.items():
            job_n, job = self._jobs[job_id]
            updates.add(JOBS, job_n, job_before, job)
        updates.execute(self.connection)
        if self._ended:
            self.connection.executemany(self.connection.statements.end_item, self._ended)
        if self._entries:
            self.connection.insert_entries(self._entries)
        self._stale_items.clear()
        self._stale_jobs.clear()
        self._ended = []
        self._entries = []

    def finish(self) -> None:
        """Write the remaining changes. Until `after_commit`, cache lookups of this transaction's jobs miss."""
        self.flush()
        self._snapshots.begin_commit({*self._jobs, *self._unknown})

    def after_commit(self) -> None:
        """Add what was read and written here to the caches of later transactions and readers."""
        self._rows.update(self._jobs, self._items)
        self._snapshots.end_commit([job for _, job in self._jobs.values()], self._item_changes, self._unknown)

    def add_entry(self, job_n: int, entry: Entry) -> None:
        """Add an entry to the job's timeline."""
        self._entries.append(rows.entry_values(job_n, entry))

    def claim(self, job_id: str, limit: int, lease_s: float, worker: str | None) -> list[Item]:
        """Claim up to `limit` waiting items of the job. Call `flush` first: they are found by SQL."""
        job_n, job = self.job(job_id)
        check_claimable(job)
        until = self.now + lease_s
        values = {"job": job_n, "now": self.now, "limit": limit, "until": until, "worker": worker}
        leased = self.connection.execute(self.connection.statements.claim_items, values)
        claimed = [rows.item_from(job_n, row) for row in leased]
        if claimed:
            claimed.sort(key=_index)  # RETURNING promises no order
            self.save(job_n, claim(job, claimed, self.now))  # the timeline keeps no entry for a claim
            self._items.update(((job_n, item.index), item) for item in claimed)
        return claimed

    def drop_job(self, job_id: str) -> None:
        """Forget a job that was deleted by SQL. Call `flush` before the deletion."""
        self._jobs.pop(job_id, None)
        self._items.clear()  # its row number may go to the next job
        self._rows.clear()
        self._unknown.add(job_id)
        self.changed[job_id] = None

    def item(self, job_n: int, index: int) -> Item | None:
        """Return the item as this transaction sees it, or None."""
        key = (job_n, index)
        found = self._items.get(key) or self._rows.items.get(key) or rows.find_item(self.connection, *key)
        if found is not None:
            self._items[key] = found
        return found

    def save(self, job_n: int, change: Change) -> None:
        """Save a decision about a job and an item that this transaction has read."""
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
            self.connection.execute(self.connection.statements.insert_delivery, delivery)
        if change.visible:
            self.changed[job.id] = job

    def _apply_bulk(self, job_n: int, before: Job, change: Change) -> None:
        if change.succeeds > before.waiting or (change.cancels_waiting and before.external):
            self._unknown.add(before.id)  # the statements below end running items too
        if change.succeeds:
            self._succeed(job_n, change.job, change.succeeds)
        if change.cancels_waiting:
            self._cancel_waiting(job_n, change.job)

    def _cancel_waiting(self, job_n: int, job: Job) -> None:
        self.flush()
        self._items.clear()
        self._rows.items.clear()
        values = (job.seq, self.now, job_n)
        self.connection.execute(self.connection.statements.cancel_waiting, values)
        if job.external:  # its running items end too: no lease holds them
            self.connection.execute(self.connection.statements.cancel_running, values)

    def _succeed(self, job_n: int, job: Job, count: int) -> None:
        self.flush()
        self._items.clear()
        values = {"seq": job.seq, "now": self.now, "job": job_n, "count": count}
        self.connection.execute(self.connection.statements.succeed, values)
