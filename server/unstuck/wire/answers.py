"""What else the server answers: timelines, kinds of work, problems, its own health. PROTOCOL.md section 3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from unstuck.wire.mapping import Answer, Count, Time

OptionType = Literal["integer", "number", "boolean", "text", "choice"]


class EntryItem(Answer, frozen=True, kw_only=True):
    """The item that an entry is about."""

    index: Count
    name: str | None = None


class Entry(Answer, frozen=True, kw_only=True):
    """One line of a timeline."""

    at: Time
    what: Annotated[str, Meta(description="A stable word; further ones may come.")]
    text: str | None = None
    item: EntryItem | None = None
    attempt: int | None = None
    worker: str | None = None


class Timeline(Answer, frozen=True, kw_only=True):
    """What happened to a job, oldest first."""

    entries: list[Entry]
    more: Annotated[bool, Meta(description="There are older entries.")] = False


class Option(Answer, frozen=True, kw_only=True):
    """One option of a kind."""

    name: str
    type: OptionType
    required: bool = False
    default: Annotated[Any, Meta(description="Means something only where the option is not required.")] = None
    nullable: bool = False
    choices: tuple[str | int, ...] = ()
    minimum: int | float | None = None
    maximum: int | float | None = None
    description: str = ""


class Kind(Answer, frozen=True, kw_only=True):
    """A kind of work as clients see it."""

    name: str
    title: str
    description: str = ""
    accept: Annotated[str, Meta(description='For a file input: "image/*", ".csv,text/csv"; "": all.')] = ""
    needs_file: bool = True
    limit_s: Annotated[float | None, Meta(description="Longest work on one item (seconds).")] = None
    options: tuple[Option, ...] = ()


class Limits(Answer, frozen=True, kw_only=True):
    """What a submission may have."""

    max_files: int
    max_file_bytes: int
    max_job_bytes: int
    max_name_length: Annotated[int, Meta(description="Characters.")]
    item_errors_shown: Annotated[int, Meta(description="Failed items that a job object names at most.")]


class Kinds(Answer, frozen=True, kw_only=True):
    """What can be submitted here."""

    kinds: list[Kind]
    limits: Limits


class Problem(Answer, frozen=True, kw_only=True):
    """An error: RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: Annotated[str, Meta(description="Tells a person what to do.")]
    code: Annotated[str, Meta(description="A stable word.")]
    accepted: Annotated[Count | UnsetType, Meta(description="Of a stream of reports: how many were kept.")] = UNSET
    line: Annotated[
        Annotated[int, Meta(ge=1)] | UnsetType, Meta(description="… and the line that was refused.")
    ] = UNSET


class Alive(Answer, frozen=True, kw_only=True):
    """The process answers."""

    status: str


class Ready(Answer, frozen=True, kw_only=True):
    """Whether the server can work."""

    status: Annotated[str, Meta(description="ok, or unavailable.")]
    troubles: Annotated[list[str], Meta(description="Why not, in sentences.")]


class WorkerHealth(Answer, frozen=True, kw_only=True):
    """Worker processes; all but `alive` since the server's start."""

    alive: int
    deaths: int
    leases_lapsed: Annotated[int, Meta(description="Items taken from runners that gave no sign of life.")]


class QueueHealth(Answer, frozen=True, kw_only=True):
    """Items that wait, and that run."""

    waiting_items: int
    running_items: int
    oldest_wait_seconds: float | None


class StoredJobs(Answer, frozen=True, kw_only=True):
    """Jobs that are kept."""

    by_state: Mapping[str, int]
    by_health: Mapping[str, int]


class StreamHealth(Answer, frozen=True, kw_only=True):
    """Streams; all but the first two since the server's start."""

    open: int
    jobs_watched: int
    opened: int
    refused: int
    broadcasts: int
    broadcast_retries: int
    broadcast_failures: int
    rescues: Annotated[int, Meta(description="Viewers that a heartbeat found behind.")]


class ServerHealth(Answer, frozen=True, kw_only=True):
    """The server's health in numbers."""

    status: Annotated[str, Meta(description="ok, or unavailable.")]
    version: str
    troubles: list[str]
    workers: WorkerHealth
    queue: QueueHealth
    jobs: StoredJobs
    webhooks: Mapping[str, int]
    streams: StreamHealth
    polls: Annotated[Mapping[str, int], Meta(description="By the reason that they gave.")]
