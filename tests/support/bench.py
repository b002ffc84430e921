"""A job that changes through `decide` alone, without a store.

It must not know SQLite, clocks or processes.
Next: unstuck/jobs/decide.py.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from unstuck.jobs.decide import Change, decide
from unstuck.jobs.job import Claim, Command, Finish, Item, ItemState, Job, JobError

BROKEN = JobError("exception", "ValueError: no")
PASSING = JobError("worker_lost", "crashed", transient=True)


def job_of(total: int, **more: Any) -> Job:
    return Job(id="j", kind="k", name="n", total=total, waiting=total, created_at=0.0, **more)


class Bench:
    """A job and its items, kept as a store would keep them."""

    def __init__(self, total: int, **more: Any) -> None:
        self.job = job_of(total, **more)
        self.items = [Item(index=index, name=f"{index}.csv") for index in range(total)]
        self.now = 100.0

    def take(self, command: Command) -> Change:
        index = getattr(command, "index", None)
        change = decide(self.job, command, self.now, None if index is None else self.items[index])
        self.job = change.job
        if change.item is not None:
            self.items[change.item.index] = change.item
        if change.cancels_waiting:
            self.items = [
                replace(item, state=ItemState.CANCELLED)
                if item.state is ItemState.PENDING and item.lease_until is None
                else item
                for item in self.items
            ]
        return change

    def claim(self, index: int) -> None:
        self.take(Claim("j", index, 30.0))

    def finish(self, index: int, state: str = "succeeded", error: JobError | None = None) -> None:
        lease = self.items[index].lease
        self.take(Finish("j", index, lease, ItemState(state), self.now, error=error))

    def work(self, index: int, state: str = "succeeded", error: JobError | None = None) -> None:
        self.claim(index)
        self.finish(index, state, error)
