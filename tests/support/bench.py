"""A job that changes through `decide` alone, without a store.

It must not know SQLite, clocks or processes.
Next: unstuck/jobs/decide.py.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from unstuck.jobs.decide import Change, claim, decide
from unstuck.jobs.job import Command, Finish, Item, ItemState, Job, JobError

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

    def claimable(self) -> list[int]:
        """Return the indexes of the items that a claim may find."""
        return [
            item.index
            for item in self.items
            if item.state is ItemState.PENDING
            and item.lease_until is None
            and (item.not_before is None or item.not_before <= self.now)
        ]

    def claim(self, *indexes: int) -> Change:
        """Claim these items, which a claim may find, as the store's statement does."""
        assert set(self.claimable()).issuperset(indexes)
        claimed = [
            replace(
                item, lease=item.lease + 1, attempt=item.attempt + 1, lease_until=self.now + 30, not_before=None
            )
            for item in map(self.items.__getitem__, indexes)
        ]
        change = claim(self.job, claimed, self.now)
        self.job = change.job
        for item in claimed:
            self.items[item.index] = item
        return change

    def finish(self, index: int, state: str = "succeeded", error: JobError | None = None) -> None:
        lease = self.items[index].lease
        self.take(Finish("j", index, lease, ItemState(state), self.now, error=error))

    def work(self, index: int, state: str = "succeeded", error: JobError | None = None) -> None:
        self.claim(index)
        self.finish(index, state, error)
