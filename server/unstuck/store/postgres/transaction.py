"""One transaction of the writer beside other servers: the rows of its jobs are locked before they are read.

It decides which cached rows still count: those of a job whose row has the version that was cached. Every change of
an item also writes its job's row, so the version of the job guards its items too.
It must not know threads, callers or HTTP, or how a command changes a job.
See also: ../transaction.py (what all stores share), statements.py (the order of the locks), writer.py (commits).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from unstuck.jobs.job import Job
from unstuck.store import rows
from unstuck.store.postgres.connection import PostgresConnection
from unstuck.store.postgres.statements import FIND_ITEMS, FIND_JOBS, LOCK_JOBS
from unstuck.store.row_cache import RowCache
from unstuck.store.snapshot_cache import SnapshotCache
from unstuck.store.transaction import Transaction


class VersionedRows(RowCache):
    """A cache of rows in which each job has the version of its row."""

    def __init__(self) -> None:
        super().__init__()
        self.versions: dict[str, str] = {}

    def clear(self) -> None:
        super().clear()
        self.versions.clear()

    def drop(self, job_ids: Iterable[str], row_numbers: Iterable[int]) -> None:
        """Drop these jobs, and the items of the jobs with these row numbers."""
        for job_id in job_ids:
            self.jobs.pop(job_id, None)
            self.versions.pop(job_id, None)
        dropped = set(row_numbers)
        for key in [key for key in self.items if key[0] in dropped]:
            del self.items[key]


class PostgresTransaction(Transaction):
    """Reads and changes jobs that it has locked."""

    connection: PostgresConnection
    _rows: VersionedRows

    def __init__(
        self, connection: PostgresConnection, now: float, row_cache: VersionedRows, snapshots: SnapshotCache
    ) -> None:
        super().__init__(connection, now, row_cache, snapshots)
        self._versions: dict[str, str | None] = {}  # of locked jobs; None: there is no such job
        self._written: set[str] = set()
        #: The version that this transaction gives the rows that it writes.
        self.version = ""

    def lock(self, job_ids: Iterable[str]) -> None:
        """Lock the rows of these jobs, and read those that others have written since they were cached."""
        wanted = [job_id for job_id in job_ids if job_id not in self._versions]
        if not wanted:
            return
        self._versions.update(dict.fromkeys(wanted))
        numbers = {}
        for job_n, job_id, version in self.connection.execute(LOCK_JOBS, (wanted,)):
            self._versions[job_id] = version
            numbers[job_id] = job_n
        stale = [job_id for job_id in wanted if not self._is_cached(job_id)]
        if not stale:
            return
        self._rows.drop(stale, [numbers[job_id] for job_id in stale if job_id in numbers])
        self._unknown.update(stale)  # the change that was missed may have changed the items of a snapshot
        for row in self.connection.execute(FIND_JOBS, (stale,)):
            found = rows.job_from(row[1:])
            self._jobs[found.id] = (row[0], found)

    def _is_cached(self, job_id: str) -> bool:
        version = self._versions[job_id]
        return version is not None and self._rows.versions.get(job_id) == version

    def load(self, items: Collection[tuple[str, int]]) -> None:
        """Read these items, by id of a locked job and index, in one query."""
        missing = []
        for job_id, index in items:
            found = self._jobs.get(job_id) or self._rows.jobs.get(job_id)
            if found is not None and (found[0], index) not in self._rows.items:
                missing.append((found[0], index))
        if missing:
            numbers, indexes = zip(*missing, strict=True)
            for row in self.connection.execute(FIND_ITEMS, (list(numbers), list(indexes))):
                item = rows.item_from(row[0], row[1:])
                self._items[row[0], item.index] = item

    def job(self, job_id: str) -> tuple[int, Job]:
        if job_id not in self._versions:  # found only now; the order of locks is broken, so a deadlock is possible
            self.lock([job_id])
        return super().job(job_id)

    def flush(self) -> None:
        self._written.update(self._stale_jobs)
        super().flush()

    def after_commit(self) -> None:
        super().after_commit()
        for job_id in self._jobs:
            version = self.version if job_id in self._written else self._versions[job_id]
            if version is not None and job_id in self._rows.jobs:
                self._rows.versions[job_id] = version
            else:
                self._rows.versions.pop(job_id, None)
