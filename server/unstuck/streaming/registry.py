"""Who watches what: the viewers, the jobs that they look at, and their seats there.

Plain state. What is handed out, and when, is decided in hub.py; what is said when nothing happens in beats.py.
"""

from __future__ import annotations

import asyncio
from math import inf

from unstuck.streaming.viewer import Subscription, Viewer

#: Something happens with a job that goes on and changed this many seconds ago at most.
ACTIVE_S = 60.0


class WatchedJob:
    """One watched job: who sits before it, and how far it is with telling them."""

    __slots__ = (
        "at_once",
        "broadcast_at",
        "changed_at",
        "due",
        "ended_at",
        "everybody",
        "in_line",
        "job_id",
        "newcomers",
        "reading",
        "rung",
        "seq",
        "subscriptions",
        "timer",
        "want_items",
    )  # fmt: skip

    def __init__(self, job_id: str, now: float) -> None:
        self.job_id = job_id
        self.changed_at = now
        self.subscriptions: set[Subscription] = set()
        self.want_items = 0  # how many of them
        self.newcomers: list[Subscription] = []  # nobody has looked for them yet
        self.everybody = False  # the next look is for all seats, not for the newcomers alone
        self.rung = False  # there is something to look for
        self.at_once = False  # and it must not wait for the interval: the end
        self.timer: asyncio.TimerHandle | None = None  # it waits until it is `due`
        self.due = inf
        self.in_line = False  # it is looked at soon
        self.reading: asyncio.Task[None] | None = None  # looking takes a while
        self.seq = 0
        self.broadcast_at = 0.0
        self.ended_at: float | None = None

    @property
    def busy(self) -> bool:
        """More is on its way to those who sit here."""
        return self.rung or self.reading is not None

    def active(self, now: float) -> bool:
        """Something happens: its viewers hear beats more often."""
        return self.ended_at is None and now - self.changed_at <= ACTIVE_S

    def wait_until(self, due: float, timer: asyncio.TimerHandle | None) -> None:
        """It is looked at then, and not by an earlier arrangement; `inf` and None: when it is told."""
        if self.timer is not None:
            self.timer.cancel()
        self.due, self.timer = due, timer


class Registry:
    """All viewers: those of jobs by name, those of all jobs, and those who heard no beat yet."""

    __slots__ = ("jobs", "new", "of_all_jobs", "viewers")

    def __init__(self) -> None:
        self.viewers: set[Viewer] = set()
        self.of_all_jobs: set[Viewer] = set()
        self.new: set[Viewer] = set()
        self.jobs: dict[str, WatchedJob] = {}

    def subscribe(self, viewer: Viewer, job_id: str, now: float) -> tuple[WatchedJob, Subscription]:
        """A seat for the viewer before this job."""
        watch = self.jobs.get(job_id)
        if watch is None:
            watch = self.jobs[job_id] = WatchedJob(job_id, now)
        subscription = viewer.subscriptions[job_id] = Subscription(viewer, job_id)
        watch.subscriptions.add(subscription)
        watch.want_items += viewer.wants_items
        return watch, subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Its viewer no longer looks at this job; nobody looks at it any more, if he was the last."""
        watch = self.jobs.get(subscription.job_id)
        if watch is None or subscription not in watch.subscriptions:
            return
        watch.subscriptions.discard(subscription)
        watch.want_items -= subscription.viewer.wants_items
        if not watch.subscriptions:
            del self.jobs[subscription.job_id]
            watch.wait_until(inf, None)
            if watch.reading is not None:
                watch.reading.cancel()

    def remove(self, viewer: Viewer) -> None:
        """It left; nothing more is taken out of it."""
        for viewers in (self.viewers, self.of_all_jobs, self.new):
            viewers.discard(viewer)
        for subscription in viewer.subscriptions.values():
            self.unsubscribe(subscription)
        # A ring of viewer and seats would lie in memory until the collector comes.
        viewer.subscriptions.clear()
        viewer.waiting.clear()
