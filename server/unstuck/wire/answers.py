"""The server's other answers: timelines, kinds of work, problems, its own health. PROTOCOL.md section 3."""

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
    what: Annotated[str, Meta(description="A stable word; more may be added.")]
    text: str | None = None
    item: EntryItem | None = None
    attempt: int | None = None
    worker: str | None = None


class Timeline(Answer, frozen=True, kw_only=True):
    """The history of a job, oldest first."""

    entries: list[Entry]
    more: Annotated[bool, Meta(description="There are older entries.")] = False


class Option(Answer, frozen=True, kw_only=True):
    """One option of a kind."""

    name: str
    type: OptionType
    required: bool = False
    default: Annotated[Any, Meta(description="Meaningful only if the option is not required.")] = None
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
    accept: Annotated[
        str, Meta(description='For a file input, such as "image/*" or ".csv,text/csv"; empty: all.')
    ] = ""
    needs_file: bool = True
    limit_s: Annotated[float | None, Meta(description="Time limit for one item (seconds).")] = None
    options: tuple[Option, ...] = ()
    unit: Annotated[str, Meta(description="What one item is called, such as row; empty: file or item.")] = ""
    units: Annotated[str, Meta(description="What several items are called.")] = ""
    unavailable: Annotated[
        str | None, Meta(description="Why it cannot be used on this server, and what to do about it.")
    ] = None


class Limits(Answer, frozen=True, kw_only=True):
    """The limits of a submission."""

    max_files: int
    max_file_bytes: int
    max_job_bytes: int
    max_name_length: Annotated[int, Meta(description="Characters.")]
    item_errors_shown: Annotated[int, Meta(description="The most failed items that a job object names.")]


class Kinds(Answer, frozen=True, kw_only=True):
    """The kinds of work that can be submitted, and the limits."""

    kinds: list[Kind]
    limits: Limits


class Problem(Answer, frozen=True, kw_only=True):
    """An error: RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: Annotated[str, Meta(description="For a person: what is wrong and what to do.")]
    code: Annotated[str, Meta(description="A stable word.")]
    accepted: Annotated[Count | UnsetType, Meta(description="For reports: how many were applied.")] = UNSET
    line: Annotated[
        Annotated[int, Meta(ge=1)] | UnsetType,
        Meta(description="For a stream of reports: the line that was refused."),
    ] = UNSET


class Alive(Answer, frozen=True, kw_only=True):
    """A sign that the process answers."""

    status: str


class Ready(Answer, frozen=True, kw_only=True):
    """The server's readiness to do its work."""

    status: Annotated[str, Meta(description="ok, or unavailable.")]
    troubles: Annotated[list[str], Meta(description="The reasons if it is not ready, in sentences.")]


class WorkerHealth(Answer, frozen=True, kw_only=True):
    """Worker processes. `deaths` and `leases_lapsed` count from the server's start."""

    alive: int
    deaths: int
    leases_lapsed: Annotated[int, Meta(description="Items taken from runners that stopped responding.")]
    elsewhere: Annotated[
        Count, Meta(description="Programs on other machines that asked for work or reported it lately.")
    ] = 0


class QueueHealth(Answer, frozen=True, kw_only=True):
    """Waiting and running items."""

    waiting_items: int
    running_items: int
    oldest_wait_seconds: float | None


class StoredJobs(Answer, frozen=True, kw_only=True):
    """The number of stored jobs, by state and by health."""

    by_state: Mapping[str, int]
    by_health: Mapping[str, int]
    unreadable: Annotated[
        Count,
        Meta(description="Damaged rows that cannot be read in full, since the start; the log names them."),
    ] = 0


class StreamHealth(Answer, frozen=True, kw_only=True):
    """Streams. All but the first two fields count from the server's start."""

    open: int
    jobs_watched: int
    opened: int
    refused: int
    broadcasts: int
    broadcast_retries: int
    broadcast_failures: int
    rescues: Annotated[int, Meta(description="Viewers that a heartbeat found to be behind.")]


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
    polls: Annotated[Mapping[str, int], Meta(description="Polls by the reason that clients gave.")]
