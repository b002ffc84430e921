"""The bodies that workers on other machines send, and their answers. PROTOCOL.md section 10.

It must not know what a command does to an item; jobs/decide.py does.
See also: requests.py and answers.py (all other bodies), api/work.py (the server's side).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from unstuck.wire.mapping import Answer
from unstuck.wire.mapping import Count as Natural
from unstuck.wire.requests import LONGEST_S, Count, ErrorText, Text

#: The most items of a claim and commands of a report, and the longest wait for work (seconds).
MOST_CLAIMED = 1_000
MOST_COMMANDS = 1_000
LONGEST_WAIT_S = 20.0

Worker = Annotated[str, Meta(min_length=1, max_length=200)]
#: For how long an item has run. Durations, since the clocks of two machines differ.
Running = Annotated[float, Meta(ge=0, le=LONGEST_S)]
Duration = Annotated[float, Meta(ge=0, le=3_600)]


class Work(Answer, frozen=True, kw_only=True):
    """The settings of this server that a worker needs."""

    version: str
    lease_s: Annotated[float, Meta(description="A lease that is not renewed for this long lapses (seconds).")]
    longest_wait_s: Annotated[float, Meta(description="The longest wait of a claim (seconds).")]
    item_limit_s: Annotated[
        float | None, Meta(description="Time limit for an item if neither its job nor its kind has one (seconds).")
    ]
    retry_pause_s: Annotated[float, Meta(description="Pause before a second attempt; then doubled (seconds).")]
    cancel_grace_s: Annotated[float, Meta(description="Time for an item to stop by itself (seconds).")]


class WorkClaim(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A claim of items to work on."""

    kinds: Annotated[list[str], Meta(min_length=1, max_length=1_000)]
    limit: Annotated[int, Meta(ge=1, le=MOST_CLAIMED)] = 1
    wait_s: Annotated[float, Meta(ge=0, le=LONGEST_WAIT_S)] = 0.0
    worker: Worker | None = None
    short: Annotated[
        dict[str, Annotated[int, Meta(ge=0, le=MOST_CLAIMED)]],
        Meta(description="By job with short items: claim at least so many of it.", max_length=1_000),
    ] = {}


class WorkItem(Answer, frozen=True, kw_only=True):
    """A claimed item."""

    job_id: str
    kind: str
    options: Mapping[str, Any]
    index: Natural
    name: str
    size: Natural | None
    lease: Annotated[Natural, Meta(description="The number of the lease; every command names it.")]
    lease_s: Annotated[float, Meta(description="The lease lapses after this many seconds without a renewal.")]
    attempt: int
    limit_s: Annotated[float | None, Meta(description="The job's time limit for one item (seconds).")]
    errors_left: Annotated[int | None, Meta(description="Failures that the job still allows; null: any number.")]
    input: Annotated[str | None, Meta(description="The path of the item's file; null if it has none.")]
    output: Annotated[str, Meta(description="The path to which the result file is PUT.")]


class WorkItems(Answer, frozen=True, kw_only=True):
    """The claimed items; none if there was no work within the wait."""

    items: list[WorkItem]


class _Command(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, tag_field="command"):
    """A command about an item under a lease."""

    job_id: str
    index: Count
    lease: Count


class WorkProgress(_Command, tag="progress"):
    """The item runs, for `running_s` seconds so far."""

    running_s: Running = 0.0
    fraction: Annotated[float, Meta(ge=0, le=1)] | None = None
    message: Text | None = None


class WorkError(msgspec.Struct, forbid_unknown_fields=True):
    """The reason why an item failed. After a transient one there may be another attempt."""

    message: ErrorText
    code: Annotated[str, Meta(min_length=1, max_length=200)] = "failed"
    transient: bool = False


class WorkFinish(_Command, tag="finish"):
    """The item ended, `running_s` seconds after its start."""

    state: Literal["succeeded", "failed", "skipped", "cancelled"]
    running_s: Running = 0.0
    error: WorkError | None = None
    message: Text | None = None
    # Decoded later, after its length was checked.
    result: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    result_file: Annotated[str, Meta(description="The name under which the file was PUT.")] | None = None
    pause_s: Annotated[Duration, Meta(description="Pause before another attempt (seconds).")] = 0.0


class WorkRenew(_Command, tag="renew"):
    """The worker is alive: renew the lease."""


class WorkRelease(_Command, tag="release"):
    """The item goes back to the queue; the attempt does not count."""


class WorkReport(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Commands, applied in order."""

    commands: Annotated[list[WorkProgress | WorkFinish | WorkRenew | WorkRelease], Meta(max_length=MOST_COMMANDS)]
    worker: Worker | None = None


class WorkOutcome(Answer, frozen=True, kw_only=True):
    """The outcome of one command."""

    ok: bool
    stopping: Annotated[bool, Meta(description="The job is being stopped: stop its items.")] = False
    code: Annotated[str | None, Meta(description="Why it was refused: a stable word, such as lease_lost.")] = None
    detail: Annotated[str | None, Meta(description="The same for a person.")] = None


class WorkOutcomes(Answer, frozen=True, kw_only=True):
    """The outcome of each command, in their order."""

    outcomes: list[WorkOutcome]
