"""The phases of a watched job: which transitions are allowed, which raise, and what each of them cleans up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import product
from math import inf

import pytest

from unstuck.streaming.viewer import Subscription, Viewer
from unstuck.streaming.watched_job import (
    CLOSED,
    IDLE,
    LOADED,
    QUEUED,
    READING,
    SCHEDULED,
    Phase,
    WatchedJob,
    WrongTransition,
)

ALLOWED = {
    (IDLE, SCHEDULED),
    (IDLE, QUEUED),
    (SCHEDULED, SCHEDULED),
    (SCHEDULED, QUEUED),
    (QUEUED, READING),
    (QUEUED, IDLE),
    (READING, READING),
    (READING, LOADED),
    (READING, IDLE),
    (LOADED, READING),
    (LOADED, IDLE),
    *((phase, CLOSED) for phase in Phase),
}
#: The steps that take a new job to each phase.
STEPS: dict[Phase, list[Phase]] = {
    IDLE: [],
    SCHEDULED: [SCHEDULED],
    QUEUED: [QUEUED],
    READING: [QUEUED, READING],
    LOADED: [QUEUED, READING, LOADED],
    CLOSED: [CLOSED],
}


@pytest.fixture
async def task() -> AsyncIterator[asyncio.Task[None]]:
    sleeping = asyncio.create_task(asyncio.sleep(3600.0))
    yield sleeping
    sleeping.cancel()


def take(job: WatchedJob, phase: Phase, task: asyncio.Task[None]) -> None:
    timer = asyncio.get_running_loop().call_later(3600.0, int)
    steps: dict[Phase, Callable[[], None]] = {
        IDLE: job.rest,
        SCHEDULED: lambda: job.schedule(timer.when(), timer),
        QUEUED: job.enqueue,
        READING: lambda: job.read(task),
        LOADED: lambda: job.load((None, (), ((), True))),
        CLOSED: job.close,
    }
    steps[phase]()


def in_phase(phase: Phase, task: asyncio.Task[None]) -> WatchedJob:
    job = WatchedJob("1", 0.0)
    for step in STEPS[phase]:
        take(job, step, task)
    assert job.phase is phase
    return job


@pytest.mark.parametrize(("before", "after"), list(product(Phase, Phase)), ids=lambda phase: phase.value)
async def test_a_transition_is_allowed_or_raises(before: Phase, after: Phase, task: asyncio.Task[None]) -> None:
    job = in_phase(before, task)
    if (before, after) in ALLOWED:
        take(job, after, task)
        assert job.phase is after
    else:
        with pytest.raises(WrongTransition, match=f"1: {before} → {after}"):
            take(job, after, task)
        assert job.phase is before


@pytest.mark.parametrize("after", [SCHEDULED, QUEUED, CLOSED])
async def test_a_timer_does_not_outlive_its_phase(after: Phase, task: asyncio.Task[None]) -> None:
    job = in_phase(SCHEDULED, task)
    first = job.timer
    assert first is not None
    take(job, after, task)
    assert first.cancelled()
    assert (job.timer is None) == (job.due == inf) == (after is not SCHEDULED)


async def test_closing_a_job_cancels_its_read(task: asyncio.Task[None]) -> None:
    in_phase(READING, task).close()
    await asyncio.wait([task], timeout=30.0)
    assert task.cancelled()


@pytest.mark.parametrize("after", [READING, IDLE])
async def test_a_loaded_snapshot_does_not_outlive_its_phase(after: Phase, task: asyncio.Task[None]) -> None:
    job = in_phase(LOADED, task)
    assert job.loaded is not None
    assert job.task is None
    take(job, after, task)
    assert job.loaded is None


@pytest.mark.parametrize("phase", Phase)
async def test_a_job_is_busy_unless_it_waits_for_a_change(phase: Phase, task: asyncio.Task[None]) -> None:
    assert in_phase(phase, task).busy == (phase is not IDLE)


async def test_marks_accumulate_until_cleared() -> None:
    job = WatchedJob("1", 0.0)
    viewer = Viewer(base="", wants_items=True, ends_with=None, leave_at=0.0, on_leave=lambda _: None)
    newcomer = Subscription(viewer, "1")
    job.mark_newcomer(newcomer)
    assert (job.dirty, job.urgent) == (True, False)
    assert job.clear() == ([newcomer], False)
    job.mark(urgent=True)
    job.mark(urgent=False)
    assert (job.dirty, job.urgent) == (True, True), "the mark stays urgent"
    assert job.clear() == ([], True)
    assert (job.dirty, job.urgent) == (False, False)
    assert job.clear() == ([], False)
