"""The bodies that clients send: their fields, and the values that each may have.

It must not know what else is refused, or with which message: api/ decides that.
See also: PROTOCOL.md sections 3 and 9.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from unstuck.wire.mapping import MOST

#: The longest deadline and time limit (seconds): ten years.
LONGEST_S = 10 * 366 * 86_400.0

#: The shortest time without a report after which external work may fail (seconds).
LEAST_LOST_S = 1.0

Seconds = Annotated[float, Meta(gt=0, le=LONGEST_S)]
#: A count that JavaScript and a column of the store can hold.
Count = Annotated[int, Meta(ge=0, le=MOST)]
#: The same lengths as for the server's own kinds (characters).
Text = Annotated[str, Meta(max_length=500)]
ErrorText = Annotated[str, Meta(max_length=2_500)]
#: What an item is called.
Unit = Annotated[str, Meta(min_length=1, max_length=40)]


class Submission(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A job to submit."""

    kind: str
    name: str | None = None
    options: dict[str, Any] = {}
    priority: Annotated[int, Meta(ge=-1_000_000, le=1_000_000)] = 0
    max_attempts: Annotated[int, Meta(ge=1, le=100)] | None = None
    max_errors: Count | None = None
    deadline_seconds: Seconds | None = None
    item_limit_seconds: Seconds | None = None
    webhook_url: str | None = None
    external: bool = False
    lost_after_s: Annotated[
        float | None,
        Meta(
            description="External work only: it fails after this many seconds without a report.",
            extra_json_schema={"minimum": LEAST_LOST_S, "maximum": LONGEST_S},
        ),
    ] = None
    items: list[str] | None = None
    total: Annotated[int, Meta(ge=1)] | None = None  # at most as many as the settings allow
    unit: Unit | None = None
    units: Unit | None = None


class Error(msgspec.Struct, forbid_unknown_fields=True):
    """The reason why something failed."""

    message: ErrorText
    code: Annotated[str, Meta(pattern="^[a-z0-9_]{1,60}$")] = "failed"
    transient: bool = False


class ReportedItem(msgspec.Struct, forbid_unknown_fields=True):
    """One item of a report."""

    index: Count | None = None
    name: str | None = None
    state: Literal["running", "succeeded", "failed", "skipped", "cancelled", "canceled"] = "running"
    progress: Annotated[float, Meta(ge=0, le=1)] | None = None
    message: Text | None = None
    error: Error | ErrorText | None = None
    # Decoded later, after its length was checked.
    result: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)


class Report(msgspec.Struct, forbid_unknown_fields=True):
    """A report about external work."""

    items: list[ReportedItem] = []
    processed: Count | None = None
    failed: Count | None = None
    skipped: Count | None = None
    total: Count | None = None
    stage: Annotated[str, Meta(max_length=200)] | None = None
    message: Text | None = None
    state: Literal["completed", "completed_with_errors", "failed", "cancelled", "canceled"] | None = None
    error: Error | ErrorText | None = None


class RetryRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The items to run again: those that failed or were cancelled, or all."""

    only: Literal["failed", "all"] = "failed"


class FailRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The reason for ending a job as failed."""

    why: str
