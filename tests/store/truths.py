"""Checks that must hold for any reading of a job, and for two readings, whatever happened in between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unstuck.jobs.job import ITEM_FINAL, Item, ItemState, Job


@dataclass(frozen=True)
class Seen:
    """A job as it was read at one moment."""

    job: Job
    items: tuple[Item, ...]
    shown: dict[str, Any]


def follows(before: Seen, after: Seen) -> None:
    assert after.job.seq >= before.job.seq
    if before.job.done:
        assert (after.job, after.items) == (before.job, before.items), "final stays final"
    for was, item in zip(before.items, after.items, strict=True):
        assert item.lease >= was.lease
        if was.state in ITEM_FINAL:
            assert item == was, "an item's end and result are final"
        elif item.state is not was.state:
            assert item.seq > was.seq


def counts_equal_the_items(one: Seen) -> None:
    """Check the counts of a job against its items; a job that is only counted has none."""
    job, items = one.job, one.items
    if job.counted:
        assert job.waiting + job.processed + job.cancelled == job.total
        assert not items
        return
    for state in ITEM_FINAL:
        assert getattr(job, state.value) == sum(item.state is state for item in items)
    held = [item.state is ItemState.RUNNING if job.external else item.lease_until is not None for item in items]
    assert job.leased == sum(held)
    assert job.waiting == sum(i.state is ItemState.PENDING and i.lease_until is None for i in items)
    assert job.total == len(items)
    assert job.done == (job.waiting == 0 and job.leased == 0)
