"""The job and item objects of PROTOCOL.md section 2, their pages, and the words that their fields hold.

The fields that make an object a job or an item are required. The others have defaults (empty for text), for
servers that send less.
It must not know the rules of a job's life; those are in jobs/.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType, field

from unstuck.wire.mapping import Answer, Count, Time


class State(StrEnum):
    """The state of a job."""

    __hash__ = str.__hash__  # Enum's own is Python code, and states are looked up all the time

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    COMPLETED_WITH_ERRORS = "completed_with_errors"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ItemState(StrEnum):
    """The state of an item."""

    __hash__ = str.__hash__

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class Health(StrEnum):
    """The health of an unfinished job."""

    OK = "ok"
    WAITING_LONG = "waiting_long"  # it was queued for longer than the limit
    STALLED = "stalled"  # its worker is alive but makes no progress
    UNRESPONSIVE = "unresponsive"  # its worker gives no sign of life


# Plain strings, because a later server may send other words, which readers accept as they are.
StateWord = Annotated[str, Meta(extra_json_schema={"enum": list(State)})]
ItemStateWord = Annotated[str, Meta(extra_json_schema={"enum": list(ItemState)})]
HealthWord = Annotated[str, Meta(extra_json_schema={"enum": list(Health)})]


class JobError(Answer, frozen=True):
    """The reason why a job or an item failed."""

    code: Annotated[str, Meta(description="A stable word, such as worker_lost.")]
    message: Annotated[str, Meta(description="For a person.")]
    transient: Annotated[bool, Meta(description="Another attempt may succeed.")] = False


class BarProgress(Answer, frozen=True, kw_only=True):
    """The numbers of a job's progress. Counts are items; null means not known."""

    total: int | None = None
    processed: Annotated[Count, Meta(description="Succeeded, failed and skipped together.")] = 0
    succeeded: Count = 0
    failed: Count = 0
    skipped: Count = 0
    percent: Annotated[
        float | None, Meta(description="Never falls within an attempt; 100 only when the job is done.")
    ] = None
    rate_per_second: Annotated[
        float | None, Meta(description="Items per second: the current rate, or the average once the job is done.")
    ] = None
    eta_seconds: Annotated[float | None, Meta(description="Estimated seconds until the end.")] = None


class Progress(BarProgress, frozen=True, kw_only=True):
    """The progress of a job: its numbers and its words."""

    stage: str | None = None
    message: Annotated[
        str | None,
        Meta(description="The newest words of any running item, or those reported about external work."),
    ] = None
    current: Annotated[list[str], Meta(description="Names of the first running items.")] = field(
        default_factory=list
    )


class ItemError(Answer, frozen=True, kw_only=True):
    """A failed item, as its job names it."""

    index: Count
    name: str
    code: str
    message: str | None = None


class Links(Answer, frozen=True, kw_only=True):
    """Paths of a job's resources."""

    self: str = ""
    events: str = ""
    items: str = ""
    timeline: str = ""
    cancel: str = ""
    retry: Annotated[str | None, Meta(description="Null until the job is done.")] = None
    results: Annotated[str | None, Meta(description="Null until the job is done.")] = None


class Job(Answer, frozen=True, kw_only=True):
    """The complete public state of a job, numbered by its `seq`."""

    id: Annotated[str, Meta(extra_json_schema={"format": "uuid"})]
    seq: Annotated[
        Count, Meta(description="Rises with every visible change of the job or its items; never falls.")
    ]
    kind: Annotated[str, Meta(description="The registered kind of work.")] = ""
    name: Annotated[str, Meta(description="A label for people.")] = ""
    unit: Annotated[
        str | UnsetType,
        Meta(description="What one item is called, such as row; not sent for old jobs."),
    ] = UNSET
    units: Annotated[str | UnsetType, Meta(description="What several items are called.")] = UNSET
    state: StateWord = ""
    done: Annotated[bool, Meta(description="True in a final state only, and never false again.")]
    cancel_requested: Annotated[
        bool, Meta(description="The state stays `running` until the work has actually stopped.")
    ] = False
    cancel_requested_at: Time | None = None
    health: Annotated[HealthWord | None, Meta(description="Null when done.")] = None
    attempt: int = 1
    max_attempts: int = 1
    priority: Annotated[int, Meta(description="Higher priorities go first.")] = 0
    external: Annotated[bool, Meta(description="The work runs elsewhere and is reported over HTTP.")] = False
    lost_after_s: Annotated[
        float | UnsetType,
        Meta(description="External work fails after this many seconds without a report. Sent only if submitted."),
    ] = UNSET
    progress: Progress = field(default_factory=Progress)
    error: Annotated[JobError | None, Meta(description="The error of the job as a whole.")] = None
    item_errors: Annotated[list[ItemError], Meta(description="The first failed items.")] = field(
        default_factory=list
    )
    retry_of: Annotated[str | None, Meta(description="The id of the job that this one retries.")] = None
    created_at: Time = ""
    started_at: Time | None = None
    progress_at: Annotated[Time | None, Meta(description="When the work last made progress.")] = None
    heartbeat_at: Annotated[Time | None, Meta(description="When the work last gave a sign of life.")] = None
    finished_at: Time | None = None
    deadline_at: Annotated[Time | None, Meta(description="The job fails if it is not done by then.")] = None
    expires_at: Annotated[
        Time | None,
        Meta(description="The job and its files are removed at this time or later; null: they are kept."),
    ] = None
    server_time: Annotated[Time, Meta(description="When this object was created.")] = ""
    poll_after_ms: Annotated[
        int | None, Meta(description="Milliseconds to wait before the next poll; null when done.")
    ] = None
    links: Links = field(default_factory=Links)


class JobProgress(Answer, frozen=True, kw_only=True):
    """The part of an unfinished job that a progress bar needs, under the names of the job object."""

    id: Annotated[str, Meta(extra_json_schema={"format": "uuid"})]
    seq: Count
    state: StateWord
    done: bool
    cancel_requested: bool
    health: HealthWord | None
    progress: BarProgress
    poll_after_ms: int | None


class ItemLinks(Answer, frozen=True, kw_only=True):
    """Paths of an item's resources."""

    result: Annotated[str, Meta(description="The result file.")]


class Item(Answer, frozen=True, kw_only=True):
    """One file, or one named part, of a job."""

    index: Annotated[Count, Meta(description="From 0.")]
    name: str
    state: ItemStateWord
    seq: Annotated[Count, Meta(description="The job's seq at the item's last change.")] = 0
    size: Annotated[int | None, Meta(description="Size of the input file (bytes).")] = None
    progress: Annotated[float | None, Meta(description="0 to 1.")] = None
    message: str | None = None
    error: JobError | None = None
    result: Annotated[Any, Meta(description="A small JSON value; null if there is none.")] = None
    attempt: Count = 0
    worker: Annotated[str | None, Meta(description="The name of the worker that took the item last.")] = None
    lease_until: Annotated[Time | None, Meta(description="When the worker's lease on the item ends.")] = None
    started_at: Time | None = None
    finished_at: Time | None = None
    links: Annotated[ItemLinks | UnsetType, Meta(description="Sent only if there is a file to download.")] = UNSET

    @property
    def result_link(self) -> str | None:
        """The path of the result file, or None."""
        return None if self.links is UNSET else self.links.result


class Jobs(Answer, frozen=True, kw_only=True):
    """A page of jobs: newest first, or by end time if they were requested that way."""

    jobs: list[Job]
    next: Annotated[str | None, Meta(description="The cursor of the next page.")] = None


class Items(Answer, frozen=True, kw_only=True):
    """A page of a job's items."""

    items: list[Item]
    next: Annotated[str | None, Meta(description="The cursor of the next page.")] = None
