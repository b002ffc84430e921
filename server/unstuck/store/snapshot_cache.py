"""What is shown of jobs that somebody looked at, as of the last commit, so that looking again costs no read.

A read puts a job in, unless a commit concerned the job meanwhile. From then on the writer brings it up to date
with each commit, before anybody is told of it. On which side of a commit that is under way one is, only a read can
tell, so its jobs are not looked up meanwhile: a look finds what a read would find at that moment. What SQL alone
knows is forgotten rather than guessed, and the next look reads; what is done is forgotten too. When it is full,
the oldest goes; each heartbeat's comparison holds it against the database.

The writer's thread, those that read and the loop share it; `look` takes no lock. Knows no SQL.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec

from unstuck.jobs.job import Item, Job
from unstuck.jobs.snapshot import Snapshot, next_snapshot

#: Kept at most, as it is weighed here; with `JOB_BYTES` each, that is 8,192 jobs.
MOST_BYTES = 32 * 2**20
#: What a job weighs at least: its fields, and texts of the usual length.
JOB_BYTES = 4_096
#: What is heavier is read each time: of twenty failed items each may bring a result of 64 KiB.
HEAVIEST = 128 * 2**10

_encoder = msgspec.json.Encoder()


class _Kept:
    """A job that is kept; without a snapshot as long as it is being read."""

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
        """As a read would find it now, or None: read."""
        if job_id in self._committing:  # asked first: once it is not, what is kept is brought up to date
            return None
        kept = self._kept.get(job_id)
        return None if kept is None else kept.snapshot

    def is_committing(self, job_id: str) -> bool:
        """A commit that concerns it is under way; after that a look may find it."""
        return job_id in self._committing and job_id in self._kept

    def load(self, job_id: str, read: Callable[[], Snapshot]) -> Snapshot:
        """What `read` finds, which must see what is committed when it is called, or later."""
        with self._lock:
            place = self._kept.setdefault(job_id, _Kept())
        found = None
        try:
            found = read()
            return found
        finally:
            with self._lock:
                # Gone, if a commit concerned the job: whether that was read is not known.
                if self._kept.get(job_id) is place and place.snapshot is None:
                    self._put(job_id, place, found)

    def begin_commit(self, job_ids: Collection[str]) -> None:
        """A commit begins that changes these jobs, or may; it is over with `committed` or `forget`."""
        self._committing = job_ids

    def end_commit(
        self, jobs: Iterable[Job], moved: Mapping[str, Mapping[int, Item]], unclear: Iterable[str]
    ) -> None:
        """These jobs are so now, and of their items these came to be shown, or are no more. Of those that are
        `unclear` nothing is known: SQL changed what is shown, or they were removed."""
        with self._lock:
            for job_id in unclear:
                self._drop(job_id)
            for job in jobs:
                kept = self._kept.get(job.id)
                if kept is None:
                    continue
                snapshot = kept.snapshot
                if snapshot is None or job.done:
                    self._drop(job.id)
                elif job.id in moved:
                    self._put(job.id, kept, next_snapshot(snapshot, job, moved[job.id].values()))
                elif snapshot.job is not job:
                    kept.snapshot = Snapshot(job, snapshot.running, snapshot.item_errors)
        self._committing = ()

    def drop_outdated(self, job_ids: Collection[str], seqs: Mapping[str, int]) -> None:
        """Whatever differs from what the database says is forgotten; mostly it only moved on meanwhile."""
        with self._lock:
            for job_id in job_ids:
                kept = self._kept.get(job_id)
                if kept is not None and kept.snapshot and kept.snapshot.job.seq != seqs.get(job_id):
                    self._drop(job_id)

    def clear(self) -> None:
        """Everything, and what is being read."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0
        self._committing = ()

    def _put(self, job_id: str, kept: _Kept, snapshot: Snapshot | None) -> None:
        weight = 0 if snapshot is None else _weight(snapshot)
        # What is done is seldom looked at: ten thousand of them would be memory for nothing.
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
