"""A job, its items, their states, and the commands that change them, as plain values.

Times are epoch seconds, durations are seconds, counts are items. These values must not know how
commands change them.
See also: decide.py (applies commands), ../wire/job.py (the same objects as clients see them).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from unstuck.jobs.rate import Meter
from unstuck.wire import Health as Health  # the rules use the wire's words
from unstuck.wire import ItemState as ItemState
from unstuck.wire import JobError as JobError
from unstuck.wire import State as State
from unstuck.wire.mapping import MOST as MOST

#: The final states of a job and of an item.
FINAL = frozenset({State.COMPLETED, State.COMPLETED_WITH_ERRORS, State.FAILED, State.CANCELLED})
ITEM_FINAL = frozenset({ItemState.SUCCEEDED, ItemState.FAILED, ItemState.SKIPPED, ItemState.CANCELLED})
# The values that a stored field may have. Nothing checks them while the server works: the rules keep within them.
Count = Annotated[int, Meta(ge=0, le=MOST)]
Seq = Annotated[int, Meta(ge=1, le=MOST)]
Rank = Annotated[int, Meta(ge=-MOST, le=MOST)]
Part = Annotated[float, Meta(ge=0.0, le=float(MOST))]
Percent = Annotated[float, Meta(ge=0.0, le=100.0)]
Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]

#: The code of the error of a job or an item whose record in the store cannot be read in full.
UNREADABLE = "unreadable"

#: A UUID in its usual spelling; UUID() would also read braces, urn: and missing hyphens.
_JOB_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def is_job_id(text: str) -> bool:
    """Return whether this is a job's id, in lower case as it is stored."""
    return _JOB_ID.fullmatch(text) is not None


class Job(msgspec.Struct, frozen=True, array_like=True):
    """A submitted job.

    `partial` is the sum of the running items' fractions, `percent` the highest percentage shown so far.
    `item_limit_s` is the time limit for one item, `deadline_at` the time by which the job must be done.
    `external`: its work runs elsewhere and is reported to this server. `counted`: its items have no names and are
    only counted. `open_end`: the number of items is not known yet, so `total` is the number counted so far.
    `unit` and `units` are what one item and several are called; jobs of older servers have none.
    `lost_after_s`: external work fails after so long without a report; None: the server's limit holds.
    As an array it is a row of the store.
    """

    id: str
    kind: str
    name: str
    total: Count
    waiting: Count
    created_at: float
    options: Mapping[str, Any] = {}
    state: State = State.QUEUED
    health: Health = Health.OK
    seq: Seq = 1
    priority: Rank = 0
    attempt: Count = 1
    max_attempts: Count = 3
    max_errors: Count | None = None
    item_limit_s: Part | None = None
    deadline_at: float | None = None
    webhook_url: str | None = None
    retry_of: str | None = None
    external: bool = False
    counted: bool = False
    open_end: bool = False
    leased: Count = 0
    succeeded: Count = 0
    failed: Count = 0
    skipped: Count = 0
    cancelled: Count = 0
    partial: Part = 0.0
    percent: Percent | None = 0.0
    meter: Meter = Meter()
    cancel_requested: bool = False
    cancel_requested_at: float | None = None
    error: JobError | None = None
    stage: str | None = None
    message: str | None = None
    started_at: float | None = None
    progress_at: float | None = None
    heartbeat_at: float | None = None
    finished_at: float | None = None
    unit: str | None = None
    units: str | None = None
    lost_after_s: Part | None = None

    @property
    def done(self) -> bool:
        return self.state in FINAL

    @property
    def processed(self) -> int:
        return self.succeeded + self.failed + self.skipped

    @property
    def known_total(self) -> int | None:
        return None if self.open_end else self.total

    @property
    def stopping(self) -> bool:
        """True if the job will end early: nothing more is claimed, and running items are to stop."""
        return not self.done and (self.cancel_requested or self.error is not None)


def submitted_at(job: Job, now: float) -> Job:
    """Return the job as submitted at `now`; its deadline stays as far away."""
    deadline_at = None if job.deadline_at is None else job.deadline_at + (now - job.created_at)
    return replace(job, created_at=now, deadline_at=deadline_at)


class Item(msgspec.Struct, frozen=True, array_like=True):
    """One file, or one named part, of a job.

    `file` and `result_file` are the file names of the stored input and result. `worker` is the worker that took
    the item last. The item cannot be claimed before `not_before`.
    """

    index: Count
    name: str
    size: Count | None = None
    file: str | None = None
    state: ItemState = ItemState.PENDING
    seq: Seq = 1
    lease: Count = 0
    lease_until: float | None = None
    not_before: float | None = None
    worker: str | None = None
    attempt: Count = 0
    progress: Fraction | None = None
    message: str | None = None
    error: JobError | None = None
    result: Any = None
    result_file: str | None = None
    started_at: float | None = None
    finished_at: float | None = None


class HealthLimits(msgspec.Struct, frozen=True):
    """The limits (seconds) on waiting and silence after which an unfinished job is no longer `ok`.

    A job that is not started within `expiry_s` fails; with None it waits for ever. A reporter of external work may
    be silent for longer than a runner (`reporter_silent_s`), has `reporter_grace_s` to confirm a cancel, and
    `total_grace_s` to raise a total that is reached. After `reporter_lost_s` of silence its job fails, unless the
    job has a limit of its own; with None it waits for ever. Silence counts only while this server could hear a
    report, which is for `listening_s` so far.
    """

    waiting_long_s: float = 600.0
    stalled_s: float = 300.0
    unresponsive_s: float = 20.0
    reporter_silent_s: float = 60.0
    reporter_grace_s: float = 30.0
    reporter_lost_s: float | None = None
    total_grace_s: float = 10.0
    listening_s: float = math.inf
    expiry_s: float | None = None


class Renew(msgspec.Struct, frozen=True):
    """Extend the lease of an item to `lease_s` seconds from now."""

    job_id: str
    index: int
    lease: int
    lease_s: float


class Report(msgspec.Struct, frozen=True):
    """Record that the item runs and that `fraction` of it (0 to 1; None: not known) is done."""

    job_id: str
    index: int
    lease: int
    started_at: float
    fraction: float | None = None
    message: str | None = None


class Finish(msgspec.Struct, frozen=True):
    """End the item. A transient error asks for another attempt after `pause_s` seconds, if one is left."""

    job_id: str
    index: int
    lease: int
    state: ItemState
    started_at: float
    error: JobError | None = None
    message: str | None = None
    result: Any = None
    result_file: str | None = None
    pause_s: float = 0.0


class Release(msgspec.Struct, frozen=True):
    """Return the item to the queue, through no fault of the item: the attempt does not count."""

    job_id: str
    index: int
    lease: int


class Lapse(msgspec.Struct, frozen=True):
    """Take the item from its runner because the lease expired or, with `forced`, on request."""

    job_id: str
    index: int
    lease: int
    why: str
    forced: bool = False


class Cancel(msgspec.Struct, frozen=True):
    """Ask the job to end."""

    job_id: str


class Fail(msgspec.Struct, frozen=True):
    """End the job as failed, on request or because of a limit."""

    job_id: str
    error: JobError


class CheckHealth(msgspec.Struct, frozen=True):
    """Check the job's limits and health, now that time has passed."""

    job_id: str
    limits: HealthLimits


ItemCommand = Renew | Report | Finish | Release | Lapse
JobCommand = Cancel | Fail | CheckHealth
Command = ItemCommand | JobCommand
