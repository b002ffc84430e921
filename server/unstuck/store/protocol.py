"""The Store protocol, in parts: each room depends on the part that it uses, and a store implements them all.

Decides: what a store promises. Jobs and items are durable and change only through `decide`; a listener or a reader
sees a change after its commit. Every method may raise StoreUnavailable, and then nothing was changed. `now` is
always the store's own clock.
Must not know: SQL, HTTP, viewers, processes.
Read on: sqlite.py implements `Store`; the hub uses LiveJobs, the runner WorkQueue, webhooks DeliveryQueue, and
retention FinishedJobs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

from unstuck.errors import UnstuckError
from unstuck.jobs.external import ExternalReport
from unstuck.jobs.job import Command, HealthLimits, Item, Job, Renew
from unstuck.jobs.snapshot import Snapshot
from unstuck.jobs.timeline import Entry

#: Called in the event loop's thread after each commit, with the jobs that changed visibly, by id; None for a job
#: that was removed. It is a hint: only a read returns the newest state.
CommitListener = Callable[[Mapping[str, Job | None]], None]
#: The result of one command: the job after it, or why it was refused.
Outcome = Job | UnstuckError

#: For `WorkQueue.claim`: no job has short items.
NO_BATCHES: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class WorkItem:
    """A claimed item with what is needed to work on it; `limit_s` is its time limit (seconds)."""

    job_id: str
    kind: str
    options: Mapping[str, Any]
    item: Item
    limit_s: float | None = None


@dataclass(frozen=True, slots=True)
class SweepResult:
    """The outcome of each renewal, and the items (job, index) whose lease ran out."""

    renewed: Sequence[Outcome]
    lapsed: Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class ReportResult:
    """How many reports were applied, and why the next one was refused (None: none was)."""

    accepted: int
    refusal: UnstuckError | None = None


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """The Idempotency-Key of a submission, and a fingerprint of its content."""

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list; `healths` select unfinished ones only. With `finished_before` (epoch seconds): jobs that
    ended before it, the oldest end first; `finished_after` continues after an end and its cursor."""

    states: Sequence[str] = ()
    kind: str | None = None
    healths: Sequence[str] = ()
    finished_before: float | None = None
    finished_after: tuple[float, int] = (float("-inf"), 0)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook to deliver. `attempt` counts from 1; `age_s` is the time since the job's end (seconds)."""

    job_id: str
    url: str
    host: str
    attempt: int
    age_s: float


@dataclass(frozen=True, slots=True)
class DueDeliveries:
    """Deliveries that were taken, and the seconds until the next one is due (None: there is none)."""

    taken: Sequence[Delivery]
    next_in_s: float | None


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """The outcome of an attempt, in words. It is repeated after `pause_s` (seconds); with None it is over, and
    `trouble` says why it was given up (None: it was delivered)."""

    text: str
    trouble: str | None = None
    pause_s: float | None = None


@dataclass(frozen=True, slots=True)
class Overview:
    """Counts over the whole store, for the health endpoint."""

    by_state: Mapping[str, int] = field(default_factory=dict)
    by_health: Mapping[str, int] = field(default_factory=dict)
    waiting_items: int = 0
    leased_items: int = 0
    oldest_wait_s: float | None = None
    webhooks: Mapping[str, int] = field(default_factory=dict)


class JobReader(Protocol):
    """What the parts below have in common: jobs as they are, and a hint when they change."""

    def on_commit(self, listener: CommitListener) -> None:
        """Call `listener` after every commit with a visible change."""

    async def snapshot(self, job_id: str) -> Snapshot:
        """Return the newest state of a job. Raise JobNotFound."""

    async def items(
        self,
        job_id: str,
        *,
        states: Sequence[str] = (),
        after_seq: int | None = None,
        after_index: int = -1,
        limit: int = 100,
    ) -> list[Item]:
        """Return items after `after_index`, by index; with `after_seq` those after (seq, index), by seq. Raise
        JobNotFound."""

    async def seqs(self, job_ids: Sequence[str]) -> dict[str, int]:
        """Return the seq of each of these jobs that exists, in one query."""


class LiveJobs(JobReader, Protocol):
    """What the hub and its heartbeat use: jobs as they are now, and as they change."""

    def cached_snapshot(self, job_id: str) -> Snapshot | None:
        """Return what `snapshot` would, if that is in memory; else None."""

    async def live_ids(self, finished_within_s: float) -> list[str]:
        """Return the ids of unfinished jobs, and of those that finished within this time (seconds)."""


class WorkQueue(Protocol):
    """What a runner uses: items to claim, commands about them, and time."""

    def on_commit(self, listener: CommitListener) -> None:
        """As JobReader.on_commit."""

    async def claim(
        self, limit: int, lease_s: float, worker: str | None = None, short: Mapping[str, int] = NO_BATCHES
    ) -> list[WorkItem]:
        """Claim up to `limit` items in the name of `worker`: the highest priority first, fairly between jobs. A
        job that gets a share and is named in `short` gives as many as it says there, if these are more."""

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        """Decide and commit the commands in order, together with whatever else waits to be written."""

    def sweep(self, limits: HealthLimits, held: Sequence[Renew] = (), *, everything: bool = False) -> SweepResult:
        """Renew the leases `held`, then take away items whose lease has run out, and let jobs check deadlines and
        health. With `everything` all leases end: they are those of a server that is gone. Blocks until all is
        committed; call it from a thread."""


class DeliveryQueue(JobReader, Protocol):
    """What webhooks use: deliveries that are due."""

    async def take_deliveries(
        self, limit: int, lanes: int, busy: Mapping[str, int], hold_s: float
    ) -> DueDeliveries:
        """Take up to `limit` due deliveries for `hold_s` seconds, so that no host has more than `lanes` in
        progress; `busy` counts those of each host."""

    async def finish_attempt(self, delivery: Delivery, outcome: DeliveryAttempt) -> bool:
        """Keep the outcome of an attempt; False if the delivery was taken again meanwhile. Raise JobNotFound."""

    async def overview(self) -> Overview:
        """Return counts over the whole store."""


class FinishedJobs(JobReader, Protocol):
    """What retention uses: finished jobs, and their removal."""

    async def jobs(self, wanted: JobFilter, *, before: int | None, limit: int) -> list[tuple[int, Snapshot]]:
        """Return jobs, newest first, each with its cursor; `before` continues after such a cursor."""

    async def remove(self, job_id: str) -> None:
        """Delete a finished job. Raise JobNotFound, JobNotDone."""


class Store(LiveJobs, WorkQueue, DeliveryQueue, FinishedJobs, Protocol):
    """The whole: what the API and the app use besides."""

    @property
    def trouble(self) -> str | None:
        """Why the last write failed, or None."""

    async def open(self) -> None:
        """Create or check the database. Raise CannotStart, which says what is wrong with it."""

    async def close(self) -> None:
        """Commit what is queued, and let go of the database."""

    async def create(
        self,
        job: Job,
        items: Iterable[Item],
        idempotency_key: IdempotencyKey | None = None,
        most: int | None = None,
    ) -> Job:
        """Store a new job with its items, durably. If the key was used before, return that first job; raise
        KeyReused if its fingerprint differs. Raise QueueFull if `most` jobs are unfinished."""

    async def has_room(self, most: int, key: str | None = None) -> bool:
        """Whether fewer than `most` jobs are unfinished, or a job was submitted under `key` before."""

    async def report(self, job_id: str, reports: Sequence[ExternalReport]) -> ReportResult:
        """Apply reports of external work in order, up to the first refusal, and commit. Raise JobNotFound."""

    async def rescue(self, job_id: str, why: str) -> int:
        """End all leases of a job, for another attempt, and return how many. Raise JobNotFound, JobFinished."""

    async def timeline(self, job_id: str, limit: int | None = None) -> list[Entry]:
        """Return the job's timeline, oldest first; with `limit` the newest entries. Raise JobNotFound."""

    async def item(self, job_id: str, index: int) -> Item | None:
        """Return one item, or None. Raise JobNotFound."""

    async def indexes_of(self, job_id: str, names: Sequence[str]) -> list[tuple[str, int]]:
        """Return name and index of each item with one of these names. Raise JobNotFound."""

    async def check_writable(self) -> None:
        """Write something small, durably."""
