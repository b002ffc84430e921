"""The Store protocol: what the server asks of a database, in a dozen verbs of its own trade.

A store keeps jobs and items durably and lets them change only through `decide`. It knows nothing of HTTP,
viewers or processes. `now` is always the store's own clock.
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

#: Called in the event loop's thread after each commit, with the jobs that visibly changed, or None for one
#: that was removed. A hint: who needs the truth reads it.
CommitListener = Callable[[Mapping[str, Job | None]], None]
#: What became of one command: the job after it, or why it was refused.
Outcome = Job | UnstuckError


#: No job in particular.
NO_BATCHES: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class WorkItem:
    """An item in a runner's hands, with what is needed to work on it; `limit_s` is how long it may take."""

    job_id: str
    kind: str
    options: Mapping[str, Any]
    item: Item
    limit_s: float | None = None


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What became of the leases that were to be renewed, and which items (job, index) were taken away."""

    renewed: Sequence[Outcome]
    lapsed: Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class ReportResult:
    """How many of the reports were taken, and why the next one was refused (None: all were taken)."""

    accepted: int
    refusal: UnstuckError | None = None


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A submission that may come twice: its Idempotency-Key, and a fingerprint of what was submitted."""

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list; `healths` name only those that are not done. With `finished_before` (epoch seconds)
    those that ended before it, the oldest end first; `finished_after` continues after an end and its cursor."""

    states: Sequence[str] = ()
    kind: str | None = None
    healths: Sequence[str] = ()
    finished_before: float | None = None
    finished_after: tuple[float, int] = (float("-inf"), 0)


@dataclass(frozen=True, slots=True)
class Delivery:
    """The end of a job on its way to whoever wants to be told. `attempt` counts from 1, `age_s` from the end."""

    job_id: str
    url: str
    host: str
    attempt: int
    age_s: float


@dataclass(frozen=True, slots=True)
class DueDeliveries:
    """Deliveries in one's hands, and in how many seconds the next one is due (None: there is none)."""

    taken: Sequence[Delivery]
    next_in_s: float | None


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """What came of an attempt at a delivery, in words; it is tried again after `pause_s`, or over (None), and then
    `trouble` is why it was given up, None that it was delivered."""

    text: str
    trouble: str | None = None
    pause_s: float | None = None


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole store in numbers, for the health endpoint."""

    by_state: Mapping[str, int] = field(default_factory=dict)
    by_health: Mapping[str, int] = field(default_factory=dict)
    waiting_items: int = 0
    leased_items: int = 0
    oldest_wait_s: float | None = None
    webhooks: Mapping[str, int] = field(default_factory=dict)


class WorkQueue(Protocol):
    """The part of a Store that a runner needs; see there."""

    def on_commit(self, listener: CommitListener) -> None: ...

    async def claim(
        self, limit: int, lease_s: float, worker: str | None = None, short: Mapping[str, int] = NO_BATCHES
    ) -> list[WorkItem]: ...

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]: ...

    def sweep(self, limits: HealthLimits, held: Sequence[Renew] = ()) -> SweepResult: ...


class Store(Protocol):
    """Every method may raise StoreUnavailable; then nothing was changed."""

    @property
    def trouble(self) -> str | None:
        """Why the last write failed, or None."""

    async def open(self) -> None:
        """Make or check the database; CannotStart says what is wrong with it."""

    async def close(self) -> None:
        """Commit what is under way, and let go of the database."""

    def on_commit(self, listener: CommitListener) -> None:
        """From now on call `wake` after every commit that viewers can see."""

    async def create(
        self,
        job: Job,
        items: Iterable[Item],
        idempotency_key: IdempotencyKey | None = None,
        most: int | None = None,
    ) -> Job:
        """Keep a new job with its items, durably. If `once` was seen before, that first job is the answer,
        and KeyReused if something else had been submitted under its key. QueueFull where `most` jobs are not
        done already."""

    async def has_room(self, most: int, key: str | None = None) -> bool:
        """Whether fewer than `most` jobs are not done, or a job was submitted under `key` before."""

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        """Decide and commit the commands in order, together with whatever else waits to be written."""

    async def report(self, job_id: str, reports: Sequence[ExternalReport]) -> ReportResult:
        """Take reports of work that runs elsewhere, in order, and commit them; JobNotFound."""

    async def claim(
        self, limit: int, lease_s: float, worker: str | None = None, short: Mapping[str, int] = NO_BATCHES
    ) -> list[WorkItem]:
        """Take up to `limit` items in the name of `worker`, the highest priority first, fairly between jobs. Of a
        job that got a share and whose items are `short`, so many, if these are more."""

    def sweep(self, limits: HealthLimits, held: Sequence[Renew] = (), *, everything: bool = False) -> SweepResult:
        """Do what is due by the passing of time: renew the leases that are `held`, take items away whose lease
        has run out, let jobs look at their deadlines and their health. With `everything` no lease counts: they
        are of a server that ended. For a thread that is not the loop's: it blocks until all is committed."""

    async def rescue(self, job_id: str, why: str) -> int:
        """Take all items from whoever holds them, for another attempt; how many. JobNotFound, JobFinished."""

    async def timeline(self, job_id: str, limit: int | None = None) -> list[Entry]:
        """What is known of the job's life, oldest first, with `limit` the newest of it; JobNotFound."""

    def cached_snapshot(self, job_id: str) -> Snapshot | None:
        """As `snapshot` would find it now, where that is in memory; None: it has to be read, or there is no such
        job."""

    async def snapshot(self, job_id: str) -> Snapshot:
        """The newest truth about a job; JobNotFound."""

    async def items(
        self,
        job_id: str,
        *,
        states: Sequence[str] = (),
        after_seq: int | None = None,
        after_index: int = -1,
        limit: int = 100,
    ) -> list[Item]:
        """Items after `after_index`, in order; with `after_seq`: after (seq, index), by seq; JobNotFound."""

    async def item(self, job_id: str, index: int) -> Item | None:
        """One item, or None; JobNotFound."""

    async def indexes_of(self, job_id: str, names: Sequence[str]) -> list[tuple[str, int]]:
        """Name and index of each item that has one of these names; JobNotFound."""

    async def jobs(self, wanted: JobFilter, *, before: int | None, limit: int) -> list[tuple[int, Snapshot]]:
        """Jobs, newest first, each with its cursor; `before` continues after such a cursor."""

    async def live_ids(self, finished_within_s: float) -> list[str]:
        """The ids of the jobs that are not done, or were done just now."""

    async def remove(self, job_id: str) -> None:
        """Forget a finished job; JobNotFound, JobNotDone."""

    async def seqs(self, job_ids: Sequence[str]) -> dict[str, int]:
        """The seq of each of these jobs that exists, in one query."""

    async def take_deliveries(
        self, limit: int, lanes: int, busy: Mapping[str, int], hold_s: float
    ) -> DueDeliveries:
        """Take up to `limit` webhooks that are due, for `hold_s` seconds, so that no host has more than `lanes`
        under way; `busy` says how many of each host are."""

    async def finish_attempt(self, delivery: Delivery, outcome: DeliveryAttempt) -> bool:
        """Keep what came of it; False if it is in other hands meanwhile. JobNotFound."""

    async def overview(self) -> Overview:
        """Counts for the health endpoint."""

    async def check_writable(self) -> None:
        """Write something small, durably; raises StoreUnavailable with the reason if that fails."""


class LiveJobs(Protocol):
    """The part of a Store that the hub and its heartbeat use: jobs as they are now, and as they change."""

    def on_commit(self, listener: CommitListener) -> None: ...

    def cached_snapshot(self, job_id: str) -> Snapshot | None: ...

    async def snapshot(self, job_id: str) -> Snapshot: ...

    async def items(
        self,
        job_id: str,
        *,
        states: Sequence[str] = (),
        after_seq: int | None = None,
        after_index: int = -1,
        limit: int = 100,
    ) -> list[Item]: ...

    async def live_ids(self, finished_within_s: float) -> list[str]: ...

    async def seqs(self, job_ids: Sequence[str]) -> dict[str, int]: ...
