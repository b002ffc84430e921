"""Decides what a watched job waits for before its viewers are sent the newest state.

Must not know: the store, the queue, or how long an interval is.
See also: hub.py, which drives the transitions.

A change marks the job dirty. It is served once its interval has passed and its turn in the queue has come. The
mark is cleared just before the store is asked, never afterwards: a change that comes while the answer is on its
way marks the job again, so it is served once more and no change is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from math import inf

from unstuck.jobs.job import Item
from unstuck.jobs.snapshot import Snapshot
from unstuck.streaming.viewer import Subscription

#: A job counts as active if it is not done and changed at most this many seconds ago.
ACTIVE_S = 60.0


class Phase(StrEnum):
    """The phases of a watched job, by what it waits for."""

    IDLE = "idle"  # a change: its viewers have been sent all that is known
    SCHEDULED = "scheduled"  # a timer: the interval since its last event
    QUEUED = "queued"  # its turn: one of the next loop iterations asks the store's memory
    READING = "reading"  # a task that reads the store
    LOADED = "loaded"  # its turn again, with what the task has read
    CLOSED = "closed"  # nothing: it has no viewers any more, or the hub has closed


# The members as globals: in Python 3.11 each `Phase.IDLE` costs a call.
IDLE, SCHEDULED, QUEUED, READING, LOADED, CLOSED = Phase

#: For each phase, the phases that may follow. All other transitions raise.
TRANSITIONS: Mapping[Phase, Collection[Phase]] = {
    IDLE: {SCHEDULED, QUEUED, CLOSED},
    SCHEDULED: {SCHEDULED, QUEUED, CLOSED},  # to an earlier time, or at once: the end is urgent
    QUEUED: {IDLE, READING, CLOSED},
    READING: {LOADED, READING, IDLE, CLOSED},  # a read that failed is tried again, or given up
    LOADED: {IDLE, READING, CLOSED},  # so is a broadcast
    CLOSED: {CLOSED},
}


class WrongTransition(RuntimeError):
    """The hub took a step that `TRANSITIONS` does not allow: a defect."""


#: The viewers for which the store is asked: those that joined since it was last asked, and whether all others too.
Recipients = tuple[Sequence[Subscription], bool]
#: The result of a read: the snapshot (None: there is no such job), the items that changed, and the recipients.
#: Both are plain tuples, since they are made with each change and named ones take five times as long.
Loaded = tuple[Snapshot | None, Sequence[Item], Recipients]


class WatchedJob:
    """A watched job. Only the methods from `mark` to `close` change what it waits for."""

    __slots__ = (
        "broadcast_at",
        "changed_at",
        "dirty",
        "due",
        "ended_at",
        "failures",
        "job_id",
        "loaded",
        "newcomers",
        "phase",
        "seq",
        "subscriptions",
        "task",
        "timer",
        "to_all",
        "urgent",
        "want_items",
    )  # fmt: skip

    def __init__(self, job_id: str, now: float) -> None:
        self.job_id = job_id
        self.subscriptions: set[Subscription] = set()
        self.want_items = 0  # how many of them want items
        # What its viewers were sent last.
        self.seq = 0
        self.broadcast_at = 0.0
        self.changed_at = now
        self.ended_at: float | None = None
        # What it waits for.
        self.phase = IDLE
        self.timer: asyncio.TimerHandle | None = None  # of SCHEDULED
        self.due = inf  # when it fires
        self.task: asyncio.Task[None] | None = None  # of READING
        self.loaded: Loaded | None = None  # of LOADED
        self.failures = 0  # in a row
        # What changed since the store was last asked, and for which viewers it is asked next.
        self.dirty = False
        self.urgent = False  # the next broadcast does not wait for the interval
        self.newcomers: list[Subscription] = []
        self.to_all = False

    @property
    def busy(self) -> bool:
        """Return whether its viewers are about to be sent something newer."""
        return self.phase is not IDLE

    def active(self, now: float) -> bool:
        """Return whether the job is making progress; its viewers then get heartbeats more often."""
        return self.ended_at is None and now - self.changed_at <= ACTIVE_S

    # -- the marks

    def mark(self, *, urgent: bool) -> None:
        """Mark the job as changed: the next broadcast is for all viewers."""
        self.dirty = self.to_all = True
        self.urgent = self.urgent or urgent

    def mark_newcomer(self, subscription: Subscription) -> None:
        """Mark the job as having a new viewer: the next broadcast is for it too."""
        self.dirty = True
        self.newcomers.append(subscription)

    def clear(self) -> Recipients:
        """Clear all marks, just before the store is asked, and return the recipients."""
        recipients = self.newcomers, self.to_all
        self.newcomers = []
        self.dirty = self.urgent = self.to_all = False
        return recipients

    # -- the transitions

    def schedule(self, due: float, timer: asyncio.TimerHandle) -> None:
        """Wait for this timer, which fires at `due`, instead of the previous one."""
        self._enter(SCHEDULED)
        self.due, self.timer = due, timer

    def enqueue(self) -> None:
        """Wait in the queue."""
        self._enter(QUEUED)

    def read(self, task: asyncio.Task[None]) -> None:
        """Wait for this task, which reads the store."""
        self._enter(READING)
        self.loaded, self.task = None, task

    def load(self, loaded: Loaded) -> None:
        """Wait in the queue again, with what the task has read."""
        self._enter(LOADED)
        self.loaded, self.task = loaded, None

    def rest(self) -> None:
        """Wait for the next change: everything was broadcast, or given up."""
        self._enter(IDLE)
        self.loaded = self.task = None
        self.failures = 0

    def close(self) -> None:
        """Wait for nothing more, and cancel a read in progress."""
        self._enter(CLOSED)
        if self.task is not None:
            self.task.cancel()

    def _enter(self, phase: Phase) -> None:
        if phase not in TRANSITIONS[self.phase]:
            raise WrongTransition(f"{self.job_id}: {self.phase} → {phase}")
        if self.timer is not None:
            self.timer.cancel()
            self.timer, self.due = None, inf
        self.phase = phase
