"""The job object and the item object of PROTOCOL.md section 2, their pages, and the words that their fields hold.

What makes it a job (or an item) is required; the rest has defaults, for answers of a server that says less (a text
is then empty).
Knows no rule; those are in jobs/.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType, field

from unstuck.wire.mapping import Answer, Count, Time


class State(StrEnum):
    """Of a job."""

    __hash__ = str.__hash__  # Enum's own is in Python, and states are looked up all the time

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    COMPLETED_WITH_ERRORS = "completed_with_errors"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ItemState(StrEnum):
    """Of an item."""

    __hash__ = str.__hash__

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class Health(StrEnum):
    """Of a job that is not done: whether it goes on as it should."""

    OK = "ok"
    WAITING_LONG = "waiting_long"  # queued past its limit
    STALLED = "stalled"  # its worker is alive, without progress
    UNRESPONSIVE = "unresponsive"  # no sign of its worker


# A later server may have another word, which its readers take as it is: so these are texts.
StateWord = Annotated[str, Meta(extra_json_schema={"enum": list(State)})]
ItemStateWord = Annotated[str, Meta(extra_json_schema={"enum": list(ItemState)})]
HealthWord = Annotated[str, Meta(extra_json_schema={"enum": list(Health)})]


class JobError(Answer, frozen=True):
    """Why a job or an item failed."""

    code: Annotated[str, Meta(description="A stable word, such as worker_lost.")]
    message: Annotated[str, Meta(description="For a person.")]
    transient: Annotated[bool, Meta(description="Another attempt may succeed.")] = False


class Progress(Answer, frozen=True, kw_only=True):
    """How far a job is. Counts are items; null where a number is not known."""

    total: int | None = None
    processed: Annotated[Count, Meta(description="Succeeded, failed and skipped together.")] = 0
    succeeded: Count = 0
    failed: Count = 0
    skipped: Count = 0
    percent: Annotated[
        float | None, Meta(description="Never falls within an attempt; 100 only when the job is done.")
    ] = None
    rate_per_second: Annotated[
        float | None, Meta(description="Items a second: now, or on average once the job is done.")
    ] = None
    eta_seconds: Annotated[float | None, Meta(description="Seconds until the end, estimated.")] = None
    stage: str | None = None
    message: str | None = None
    current: Annotated[list[str], Meta(description="Names of the first items that run.")] = field(
        default_factory=list
    )


class ItemError(Answer, frozen=True, kw_only=True):
    """A failed item, as its job names it."""

    index: Count
    name: str
    code: str
    message: str | None = None


class Links(Answer, frozen=True, kw_only=True):
    """Paths of what belongs to a job."""

    self: str = ""
    events: str = ""
    items: str = ""
    timeline: str = ""
    cancel: str = ""
    retry: Annotated[str | None, Meta(description="Null until the job is done.")] = None
    results: Annotated[str | None, Meta(description="Null until the job is done.")] = None


class Job(Answer, frozen=True, kw_only=True):
    """The whole public truth of a job, numbered by its `seq`."""

    id: Annotated[str, Meta(extra_json_schema={"format": "uuid"})]
    seq: Annotated[Count, Meta(description="Raised by every visible change of the job or its items; never falls.")]
    kind: Annotated[str, Meta(description="The registered kind of work.")] = ""
    name: Annotated[str, Meta(description="A label for people.")] = ""
    state: StateWord = ""
    done: Annotated[bool, Meta(description="True exactly in a final state, and never false again.")]
    cancel_requested: Annotated[
        bool, Meta(description="The state stays `running` until the work has really stopped.")
    ] = False
    cancel_requested_at: Time | None = None
    health: Annotated[HealthWord | None, Meta(description="Null when done.")] = None
    attempt: int = 1
    max_attempts: int = 1
    priority: Annotated[int, Meta(description="Higher goes first.")] = 0
    external: Annotated[bool, Meta(description="The work runs elsewhere and is reported over HTTP.")] = False
    progress: Progress = field(default_factory=Progress)
    error: Annotated[JobError | None, Meta(description="Of the job as a whole.")] = None
    item_errors: Annotated[list[ItemError], Meta(description="The first failed items.")] = field(
        default_factory=list
    )
    retry_of: Annotated[str | None, Meta(description="The id of the job that this one retries.")] = None
    created_at: Time = ""
    started_at: Time | None = None
    progress_at: Annotated[Time | None, Meta(description="When something last got done.")] = None
    heartbeat_at: Annotated[Time | None, Meta(description="The last sign of life of the work.")] = None
    finished_at: Time | None = None
    deadline_at: Annotated[Time | None, Meta(description="Fails if it is not done by then.")] = None
    expires_at: Annotated[
        Time | None, Meta(description="From then on it is removed with its files; null: it is kept.")
    ] = None
    server_time: Annotated[Time, Meta(description="When this object was made.")] = ""
    poll_after_ms: Annotated[
        int | None, Meta(description="Milliseconds to wait before the next poll; null when done.")
    ] = None
    links: Links = field(default_factory=Links)


class ItemLinks(Answer, frozen=True, kw_only=True):
    """Paths of what belongs to an item."""

    result: Annotated[str, Meta(description="The result file.")]


class Item(Answer, frozen=True, kw_only=True):
    """One file, or one named part, of a job."""

    index: Annotated[Count, Meta(description="From 0.")]
    name: str
    state: ItemStateWord
    seq: Annotated[Count, Meta(description="The job's seq at the item's last change.")] = 0
    size: Annotated[int | None, Meta(description="Bytes of the input file.")] = None
    progress: Annotated[float | None, Meta(description="0 to 1.")] = None
    message: str | None = None
    error: JobError | None = None
    result: Annotated[Mapping[str, Any] | None, Meta(description="Small JSON.")] = None
    attempt: Count = 0
    worker: Annotated[str | None, Meta(description="The name of the worker that took it last.")] = None
    lease_until: Annotated[Time | None, Meta(description="Until when a worker holds it.")] = None
    started_at: Time | None = None
    finished_at: Time | None = None
    links: Annotated[ItemLinks | UnsetType, Meta(description="Only where there is a file to download.")] = UNSET

    @property
    def result_link(self) -> str | None:
        """The path of the result file, where there is one."""
        return None if self.links is UNSET else self.links.result


class Jobs(Answer, frozen=True, kw_only=True):
    """A page of jobs, the newest first unless they were asked for by their end."""

    jobs: list[Job]
    next: Annotated[str | None, Meta(description="The cursor of the following page.")] = None


class Items(Answer, frozen=True, kw_only=True):
    """A page of a job's items."""

    items: list[Item]
    next: Annotated[str | None, Meta(description="The cursor of the following page.")] = None
