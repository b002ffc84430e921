"""A cache of snapshots as of the last commit, so that repeated requests for a job cost no read.

It decides when a snapshot in memory is what a read would return. A read adds a snapshot, unless a commit concerned
the job in the meantime; then the writer updates it with each commit, before any listener is called. During a
commit only a read knows whether it is visible, so lookups of its jobs miss. Jobs changed in bulk by SQL and
finished jobs are dropped. When the cache is full, the oldest entry is dropped. Each heartbeat compares the cache
with the database.
It must not know SQL. The writer's thread, the readers' threads and the event loop share it; `get` takes no lock.
See also: sqlite.py (looks here before it reads), transaction.py (says what a commit changed).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec

from unstuck.jobs.job import Item, Job
from unstuck.jobs.snapshot import Snapshot, next_snapshot

#: The most bytes kept, as estimated here: 8,192 jobs of `JOB_BYTES`.
MOST_BYTES = 32 * 2**20
#: The estimated size of a job's fields, with text of the usual length.
JOB_BYTES = 4_096
#: A larger snapshot is not cached: each of its twenty failed items may hold a result of 64 KiB.
HEAVIEST = 128 * 2**10

_encoder = msgspec.json.Encoder()


class _Kept:
    """The entry of one job; its snapshot is None while it is being read."""

    __slots__ = ("snapshot", "weight")

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None
        self.weight = 0


class SnapshotCache:
    """Snapshots by job id, of MOST_BYTES in all."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        self._bytes = 0
        self._committing: Collection[str] = ()
        self._lock = threading.Lock()

    def get(self, job_id: str) -> Snapshot | None:
        """Return what a read would find now, or None if only a read can tell."""
        if job_id in self._committing:  # checked first: the entry is up to date as soon as this is false
            return None
        kept = self._kept.get(job_id)
        return None if kept is None else kept.snapshot

    def is_committing(self, job_id: str) -> bool:
        """Return whether a commit in progress concerns this job; after it, `get` may find the job."""
        return job_id in self._committing and job_id in self._kept

    def load(self, job_id: str, read: Callable[[], Snapshot]) -> Snapshot:
        """Call `read`, keep and return its result. It must see everything committed before the call."""
        with self._lock:
            place = self._kept.setdefault(job_id, _Kept())
        found = None
        try:
            found = read()
            return found
        finally:
            with self._lock:
                # The entry is gone if a commit concerned the job meanwhile: the read may have missed it.
                if self._kept.get(job_id) is place and place.snapshot is None:
                    self._put(job_id, place, found)

    def begin_commit(self, job_ids: Collection[str]) -> None:
        """Mark the start of a commit that may change these jobs; `end_commit` or `clear` marks its end."""
        self._committing = job_ids

    def end_commit(
        self, jobs: Iterable[Job], item_changes: Mapping[str, Mapping[int, Item]], unknown: Iterable[str]
    ) -> None:
        """Update the jobs that were committed, and drop the `unknown` ones.

        `item_changes` holds, by job, the items that entered or left the states that a snapshot names.
        """
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
        """Drop the entries whose seq differs from the database's; most of these jobs only changed meanwhile."""
        with self._lock:
            for job_id in job_ids:
                kept = self._kept.get(job_id)
                if kept is not None and kept.snapshot and kept.snapshot.job.seq != seqs.get(job_id):
                    self._drop(job_id)

    def drop(self, job_ids: Iterable[str]) -> None:
        """Drop these jobs, including those that are being read."""
        with self._lock:
            for job_id in job_ids:
                self._drop(job_id)

    def clear(self) -> None:
        """Drop everything, including entries that are being read."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0
        self._committing = ()

    def _put(self, job_id: str, kept: _Kept, snapshot: Snapshot | None) -> None:
        weight = 0 if snapshot is None else _weight(snapshot)
        # Finished jobs are seldom requested: ten thousand of them would waste memory.
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
