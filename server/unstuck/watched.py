"""One watched job, seen from the hub: its viewers, its bells, and the task that reads for all of them.

Plain state. What is read and handed out, and when, is decided in hub.py.
"""

from __future__ import annotations

import asyncio

from unstuck.viewer import Viewer

#: Something happens with a job that goes on and changed this many seconds ago at most.
LIVELY_S = 60.0


class Watch:
    """One watched job: its viewers, its bells, and the task that reads for all of them."""

    __slots__ = (
        "at_once", "bell", "changed_at", "ended_at", "everybody", "handed_at", "hurry", "job_id", "newcomers",
        "reading", "seq", "task", "viewers",
    )  # fmt: skip

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.changed_at = asyncio.get_running_loop().time()
        self.viewers: set[Viewer] = set()
        self.newcomers: list[Viewer] = []  # nobody has read for them yet
        self.everybody = False  # the next read is for all viewers, not for the newcomers alone
        self.bell = asyncio.Event()  # something changed
        self.hurry = asyncio.Event()  # and it must not wait the whole interval: a new viewer, or
        self.at_once = False  # not at all: the end
        self.seq = 0
        self.handed_at = 0.0
        self.ended_at: float | None = None
        self.reading = False
        self.task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """It is being read, or is about to be."""
        return self.reading or self.bell.is_set()

    def lively(self, now: float) -> bool:
        """Something happens: its viewers hear beats more often."""
        return self.ended_at is None and now - self.changed_at <= LIVELY_S
