"""The nouns: a job, its items, their states, and the commands that may change them.

Plain values without behaviour; what a command makes of a job is decided in decide.py and nowhere else.
Times are epoch seconds, durations seconds, counts items.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from unstuck.jobs.rate import Meter
from unstuck.wire import Health as Health  # the words of the wire, which the rules go by
from unstuck.wire import ItemState as ItemState
from unstuck.wire import JobError as JobError
from unstuck.wire import State as State

#: The states of a job, and of an item, that nothing follows.
FINAL = frozenset({State.COMPLETED, State.COMPLETED_WITH_ERRORS, State.FAILED, State.CANCELLED})
ITEM_FINAL = frozenset({ItemState.SUCCEEDED, ItemState.FAILED, ItemState.SKIPPED, ItemState.CANCELLED})


class Job(msgspec.Struct, frozen=True):
    """What somebody asked for. Times are epoch seconds, counts are items, `partial` is the sum of the
    fractions of the items that run, `percent` the highest that was shown; `item_limit_s` is how long an item
    may be worked on (seconds), `deadline_at` when all has to be over. `external`: its work runs elsewhere, and is
    reported to us; `counted`: nobody named its items, they are only counted; `open_end`: how many there will be
    is not known, so `total` is what was counted so far."""

    id: str
    kind: str
    name: str
    total: int
    waiting: int
    created_at: float
    options: Mapping[str, Any] = {}
    state: State = State.QUEUED
    health: Health = Health.OK
    seq: int = 1
    priority: int = 0
    attempt: int = 1
    max_attempts: int = 3
    max_errors: int | None = None
    item_limit_s: float | None = None
    deadline_at: float | None = None
    webhook_url: str | None = None
    retry_of: str | None = None
    external: bool = False
    counted: bool = False
    open_end: bool = False
    leased: int = 0
    succeeded: int = 0
    failed: int = 0
    skipped: int = 0
    cancelled: int = 0
    partial: float = 0.0
    percent: float | None = 0.0
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
        """It will end early: nothing more is claimed, and what runs is to be stopped."""
        return not self.done and (self.cancel_requested or self.error is not None)


class Item(msgspec.Struct, frozen=True):
    """One file of a job. `file` is the stored input's file name, `result_file` the stored result's; `worker`
    is who took it last, and nobody may take it before `not_before`."""

    index: int
    name: str
    size: int | None = None
    file: str | None = None
    state: ItemState = ItemState.PENDING
    seq: int = 1
    lease: int = 0
    lease_until: float | None = None
    not_before: float | None = None
    worker: str | None = None
    attempt: int = 0
    progress: float | None = None
    message: str | None = None
    error: JobError | None = None
    result: Mapping[str, Any] | None = None
    result_file: str | None = None
    started_at: float | None = None
    finished_at: float | None = None


class HealthLimits(msgspec.Struct, frozen=True):
    """When a job that is not done stops being `ok`; seconds. `expiry_s`: a job that nobody took up by then has
    failed; None: it waits for ever. A reporter of work elsewhere may be silent for longer than a runner of ours
    (`reporter_silent_s`); who was asked to stop has `reporter_grace_s` to say that he did."""

    waiting_long_s: float = 600.0
    stalled_s: float = 300.0
    unresponsive_s: float = 20.0
    reporter_silent_s: float = 60.0
    reporter_grace_s: float = 30.0
    expiry_s: float | None = None


class Claim(msgspec.Struct, frozen=True):
    """A runner takes a waiting item for `lease_s` seconds. `worker` is its name, for people."""

    job_id: str
    index: int
    lease_s: float
    worker: str | None = None


class Renew(msgspec.Struct, frozen=True):
    """The runner lives, and keeps its item for another `lease_s` seconds."""

    job_id: str
    index: int
    lease: int
    lease_s: float


class Report(msgspec.Struct, frozen=True):
    """The item runs; `fraction` of it (0..1, or None: not known) is done."""

    job_id: str
    index: int
    lease: int
    started_at: float
    fraction: float | None = None
    message: str | None = None


class Finish(msgspec.Struct, frozen=True):
    """The item ended. A transient error asks for another attempt, while there is one left, after `pause_s`."""

    job_id: str
    index: int
    lease: int
    state: ItemState
    started_at: float
    error: JobError | None = None
    message: str | None = None
    result: Mapping[str, Any] | None = None
    result_file: str | None = None
    pause_s: float = 0.0


class Release(msgspec.Struct, frozen=True):
    """The runner gives the item back unworked, through no fault of the item's."""

    job_id: str
    index: int
    lease: int


class Lapse(msgspec.Struct, frozen=True):
    """The runner is given up on, since its lease ran out, or, with `forced`, since somebody says so."""

    job_id: str
    index: int
    lease: int
    why: str
    forced: bool = False


class Cancel(msgspec.Struct, frozen=True):
    """Somebody wants the job to end."""

    job_id: str


class Fail(msgspec.Struct, frozen=True):
    """Somebody, or a limit, ends the job as failed."""

    job_id: str
    error: JobError


class CheckHealth(msgspec.Struct, frozen=True):
    """Time has passed: see whether a limit was reached, and how the job is."""

    job_id: str
    limits: HealthLimits


ItemCommand = Claim | Renew | Report | Finish | Release | Lapse
JobCommand = Cancel | Fail | CheckHealth
Command = ItemCommand | JobCommand
