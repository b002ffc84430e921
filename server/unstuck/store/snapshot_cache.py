"""Snapshots of the jobs that were asked for, as of the last commit, so that asking again costs no read.

Decides: when a snapshot in memory is what a read would return. A read puts it in, unless a commit concerned the
job meanwhile; then the writer updates it with each commit, before any listener hears of it. During a commit only a
read knows whether it is visible, so lookups of its jobs miss. Bulk changes by SQL and finished jobs
are dropped. When the cache is full the oldest entry goes; each heartbeat compares it with the database.
Must not know: SQL. The writer's thread, the readers' and the event loop share it; `get` takes no lock.
Read on: sqlite.py asks it before it reads, transaction.py says what a commit changed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec

from unstuck.jobs.job import Item, Job
from unstuck.jobs.snapshot import Snapshot, next_snapshot

#: Bytes kept at most, as estimated here: 8,192 jobs of `JOB_BYTES`.
MOST_BYTES = 32 * 2**20
#: The estimate for the fields of a job, with texts of the usual length.
JOB_BYTES = 4_096
#: A larger snapshot is read each time: each of its twenty failed items may hold a result of 64 KiB.
HEAVIEST = 128 * 2**10

_encoder = msgspec.json.Encoder()


class _Kept:
    """The entry of one job; its snapshot is None while it is being read."""

    __slots__ = ("snapshot", "weight")

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None
        self.weight = 0


class SnapshotCache:
    """See the module."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        self._bytes = 0
        self._committing: Collection[str] = ()
        self._lock = threading.Lock()

    def get(self, job_id: str) -> Snapshot | None:
        """Return what a read would find now, or None where only a read can tell."""
        if job_id in self._committing:  # checked first: the entry is up to date as soon as this is false
            return None
        kept = self._kept.get(job_id)
        return None if kept is None else kept.snapshot

    def is_committing(self, job_id: str) -> bool:
        """Say whether a commit concerns this job now, after which `get` may find it."""
        return job_id in self._committing and job_id in self._kept

    def load(self, job_id: str, read: Callable[[], Snapshot]) -> Snapshot:
        """Call `read`, which must see all that is committed when it is called, and keep what it returns."""
        with self._lock:
            place = self._kept.setdefault(job_id, _Kept())
        found = None
        try:
            found = read()
            return found
        finally:
            with self._lock:
                # Gone if a commit concerned the job meanwhile: the read may have missed it.
                if self._kept.get(job_id) is place and place.snapshot is None:
                    self._put(job_id, place, found)

    def begin_commit(self, job_ids: Collection[str]) -> None:
        """A commit begins that may change these jobs; `end_commit` or `clear` ends it."""
        self._committing = job_ids

    def end_commit(
        self, jobs: Iterable[Job], item_changes: Mapping[str, Mapping[int, Item]], unknown: Iterable[str]
    ) -> None:
        """Update the jobs that were committed. `item_changes` holds, by job, the items that entered or left the
        states that a snapshot names; the `unknown` jobs are dropped."""
        with self._lock:
            for job_id in unknown:
                self._drop(job_id)
            for job in jobs:
                kept = self._kept.get(job.id)
                if kept is None:
                    continue
                snapshot = kept.snapshot
                if snapshot is None or job.done:
                    self._drop(job.id)
                elif job.id in item_changes:
                    self._put(job.id, kept, next_snapshot(snapshot, job, item_changes[job.id].values()))
                elif snapshot.job is not job:
                    kept.snapshot = Snapshot(job, snapshot.running, snapshot.item_errors)
        self._committing = ()

    def drop_outdated(self, job_ids: Collection[str], seqs: Mapping[str, int]) -> None:
        """Drop the entries whose seq differs from the database's; most of them only moved on meanwhile."""
        with self._lock:
            for job_id in job_ids:
                kept = self._kept.get(job_id)
                if kept is not None and kept.snapshot and kept.snapshot.job.seq != seqs.get(job_id):
                    self._drop(job_id)

    def clear(self) -> None:
        """Drop everything, also what is being read."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0
        self._committing = ()

    def _put(self, job_id: str, kept: _Kept, snapshot: Snapshot | None) -> None:
        weight = 0 if snapshot is None else _weight(snapshot)
        # Finished jobs are seldom asked for: ten thousand of them would waste the memory.
        if snapshot is None or snapshot.job.done or weight > HEAVIEST:
            self._drop(job_id)
            return
        self._bytes += weight - kept.weight
        kept.snapshot, kept.weight = snapshot, weight
        while self._bytes > MOST_BYTES:
            self._drop(next(iter(self._kept)))

    def _drop(self, job_id: str) -> None:
        kept = self._kept.pop(job_id, None)
        if kept is not None:
            self._bytes -= kept.weight


def _weight(snapshot: Snapshot) -> int:
    varies = (snapshot.job.options, snapshot.running, snapshot.item_errors)
    return JOB_BYTES + len(_encoder.encode(varies))
