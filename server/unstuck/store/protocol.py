"""The Store protocol, in parts: each room depends on the part that it uses, and a store implements them all.

A store keeps jobs and items durably and changes them only through `decide`; a listener or a reader sees a change
only after its commit. Every method may raise StoreUnavailable; then nothing was changed, unless its message says
otherwise. The time is always the store's own clock.
It must not know SQL, HTTP, viewers or processes.
See also: sqlite.py (implements `Store`). The hub uses LiveJobs, the runner WorkQueue, webhooks DeliveryQueue, and
retention FinishedJobs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

from unstuck.errors import UnstuckError
from unstuck.jobs.external import ExternalReport
from unstuck.jobs.job import Command, HealthLimits, Item, Job, Renew
from unstuck.jobs.snapshot import Snapshot
from unstuck.jobs.timeline import Entry

#: The jobs that changed visibly, by id, with None for a job that was removed. None instead of all that: it is not
#: known what was missed, because a store that others write to as well has lost contact for a while. Then each
#: listener looks at everything it holds, and nothing that the store remembers is older than this notice.
Changes = Mapping[str, Job | None] | None
#: Called in the event loop's thread after each commit. It is a hint: only a read returns the newest state.
CommitListener = Callable[[Changes], None]
#: The result of one command: the job after it, or why it was refused.
Outcome = Job | UnstuckError

#: For `WorkQueue.claim`: no job has short items.
NO_BATCHES: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class WorkItem:
    """A claimed item with everything needed to work on it; `limit_s` is its time limit (seconds)."""

    job_id: str
    kind: str
    options: Mapping[str, Any]
    item: Item
    limit_s: float | None = None


@dataclass(frozen=True, slots=True)
class SweepResult:
    """The outcome of each renewal, and the items whose lease ended (job, index, number of that lease)."""

    renewed: Sequence[Outcome]
    lapsed: Sequence[tuple[str, int, int]]


@dataclass(frozen=True, slots=True)
class ReportResult:
    """The number of reports applied, and why the next one was refused (None: none was)."""

    accepted: int
    refusal: UnstuckError | None = None


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """The Idempotency-Key of a submission, and a fingerprint of its content."""

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class JobFilter:
    """The jobs to list.

    `healths` selects unfinished jobs only, `id_prefix` those whose id begins with it, `retry_of` the retries of a
    job. `finished_before` (epoch
    seconds) selects jobs that finished before it, earliest first; `finished_after` continues after an end time and
    its cursor.
    """

    states: Sequence[str] = ()
    kind: str | None = None
    healths: Sequence[str] = ()
    id_prefix: str | None = None
    finished_before: float | None = None
    finished_after: tuple[float, int] = (float("-inf"), 0)
    retry_of: str | None = None


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
    """The deliveries taken, and the seconds until the next one is due (None: there is none)."""

    taken: Sequence[Delivery]
    next_in_s: float | None


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """The outcome of a delivery attempt, in words.

    The next attempt follows after `pause_s` (seconds). None: there is no further one, and `trouble` says why the
    delivery was given up (None: it succeeded).
    """

    text: str
    trouble: str | None = None
    pause_s: float | None = None


@dataclass(frozen=True, slots=True)
class Overview:
    """Counts over the whole store, for the health endpoint."""

    by_state: Mapping[str, int] = field(default_factory=dict)
    by_health: Mapping[str, int] = field(default_factory=dict)
    waiting_by_kind: Mapping[str, int] = field(default_factory=dict)  # jobs with items that a runner may claim
    waiting_items: int = 0
    leased_items: int = 0
    oldest_wait_s: float | None = None
    webhooks: Mapping[str, int] = field(default_factory=dict)
    unreadable: int = 0  # rows that could not be read in full, since the process started


class JobReader(Protocol):
    """The common base of the parts below: the state of jobs, and a hint when it changes."""

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
        """Return up to `limit` items in these `states` (none: in any). Raise JobNotFound.

        They are ordered by index and start after `after_index`; with `after_seq` they are ordered by seq and
        index, and start after both.
        """

    async def seqs(self, job_ids: Sequence[str]) -> dict[str, int]:
        """Return the seq of each of these jobs that exists, in one query."""


class LiveJobs(JobReader, Protocol):
    """The part that the hub and its heartbeat use: jobs as they are now, and as they change."""

    def cached_snapshot(self, job_id: str) -> Snapshot | None:
        """Return the newest state of a job if it is in memory, else None."""

    async def live_ids(self, finished_within_s: float) -> list[str]:
        """Return the ids of unfinished jobs, and of jobs finished in the last `finished_within_s` seconds."""


class WorkQueue(Protocol):
    """The part that a runner uses: items to claim, commands about them, and the passing of time."""

    def on_commit(self, listener: CommitListener) -> None:
        """Call `listener` after every commit with a visible change."""

    async def claim(
        self,
        limit: int,
        lease_s: float,
        worker: str | None = None,
        short: Mapping[str, int] = NO_BATCHES,
        kinds: Collection[str] | None = None,
    ) -> list[WorkItem]:
        """Claim up to `limit` items in the name of `worker`: highest priority first, fairly between jobs.

        Items of other kinds than `kinds` (None: of any kind) are left to runners that know them.

        `short` maps job ids to batch sizes, for jobs with short items: a job that gets a share gets at least its
        batch size, even if that exceeds `limit`.
        """

    async def apply(self, commands: Sequence[Command]) -> list[Outcome]:
        """Apply the commands in order and commit them; return the outcome of each.

        Consecutive successes of one job may all be answered with the job as it is after the last of them.
        """

    def sweep(self, limits: HealthLimits, held: Sequence[Renew] = (), *, ended: str | None = None) -> SweepResult:
        """Renew the leases `held`, end the expired ones, then check the deadlines and health of jobs.

        The leases that were claimed in the name of `ended` end too: a server of that name no longer runs. In a
        store that one server has for itself, so do all others. Block until everything is committed, so call this
        from a thread.
        """


class DeliveryQueue(JobReader, Protocol):
    """The part that webhooks use: deliveries that are due."""

    async def take_deliveries(
        self, limit: int, lanes: int, busy: Mapping[str, int], hold_s: float
    ) -> DueDeliveries:
        """Take up to `limit` due deliveries for `hold_s` seconds.

        No host has more than `lanes` in progress at once; `busy` counts those already in progress, by host.
        """

    async def finish_attempt(self, delivery: Delivery, outcome: DeliveryAttempt) -> bool:
        """Record an outcome; return False if the delivery was taken again in the meantime. Raise JobNotFound."""

    async def overview(self) -> Overview:
        """Return counts over the whole store."""


class FinishedJobs(JobReader, Protocol):
    """The part that retention uses: finished jobs, and their removal."""

    async def jobs(self, wanted: JobFilter, *, before: int | None, limit: int) -> list[tuple[int, Snapshot]]:
        """Return jobs, each with its cursor; `before` continues after a cursor. See JobFilter for the order."""

    @property
    def identity(self) -> str:
        """A random word that this store got when it was created, and that no other store has."""

    async def before_steps(self, moment: float) -> float:
        """Return what the clock showed at the instant that is `moment` by today's clock; it may have been set."""

    async def remove(self, job_id: str) -> None:
        """Delete a finished job, and note that its files are to be removed. Raise JobNotFound, JobNotDone."""

    async def removals(self, limit: int) -> list[str]:
        """Return the ids of up to `limit` deleted jobs whose files may still be there."""

    async def finish_removals(self, job_ids: Sequence[str]) -> None:
        """Forget these ids: the files are gone."""


class Store(LiveJobs, WorkQueue, DeliveryQueue, FinishedJobs, Protocol):
    """The whole store, with the methods that only the API and the app use."""

    @property
    def trouble(self) -> str | None:
        """The reason why nothing, or only what is necessary, can be written; None if all is well."""

    @property
    def log_bytes(self) -> int:
        """The size of the log of the database: what was committed and is not yet in the database itself."""

    async def open(self) -> None:
        """Create or check the database. Raise CannotStart if it cannot be used."""

    async def close(self) -> None:
        """Commit queued writes and close the database."""

    async def create(
        self,
        job: Job,
        items: Iterable[Item],
        idempotency_key: IdempotencyKey | None = None,
        most: int | None = None,
    ) -> Job:
        """Store a new job with its items, durably, and return it as submitted at this moment of the store's clock.

        If the key was used before, return the job submitted then, or raise KeyReused if the fingerprint differs.
        Raise QueueFull if `most` jobs are unfinished; external jobs and the others count apart.
        """

    async def has_room(self, most: int, key: str | None = None, *, external: bool = False) -> bool:
        """Return whether fewer than `most` jobs are unfinished, or a job was submitted under `key` before.

        External jobs and the others count apart.
        """

    async def report(self, job_id: str, reports: Sequence[ExternalReport]) -> ReportResult:
        """Apply reports of external work in order, up to the first refusal, and commit. Raise JobNotFound."""

    async def search(
        self, name: str, wanted: JobFilter, *, before: int | None, limit: int
    ) -> tuple[list[tuple[int, Snapshot]], int | None]:
        """Return up to `limit` jobs whose name contains `name`, whatever the case, and a cursor to continue.

        They are jobs of `wanted`, newest first, each with its cursor. One call reads a bounded number of names, so
        it may find fewer than there are, even none; the cursor is None once all have been read. `wanted` has
        neither `healths` nor `finished_before`.
        """

    async def rescue(self, job_id: str, why: str) -> int:
        """End all leases of a job and return how many. Raise JobNotFound, JobFinished, ExternalJob."""

    async def timeline(self, job_id: str, limit: int | None = None) -> list[Entry]:
        """Return the job's timeline, oldest first; with `limit` the newest entries. Raise JobNotFound."""

    async def item(self, job_id: str, index: int) -> Item | None:
        """Return one item, or None. Raise JobNotFound."""

    async def indexes_of(self, job_id: str, names: Sequence[str]) -> list[tuple[str, int]]:
        """Return name and index of each item with one of these names. Raise JobNotFound."""

    async def check_writable(self) -> None:
        """Write one small row durably. Raise StoreUnavailable if that fails, or if a new job would be refused."""
