"""The store applies reports of external work."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from tests.store.truths import Seen, counts_equal_the_items
from tests.support.clock import Clock
from tests.support.jobs import submitted
from unstuck.errors import ItemFinished, JobNotFound, NotExternal
from unstuck.jobs.external import ExternalReport, ItemReport
from unstuck.jobs.job import Cancel, HealthLimits, ItemState, State
from unstuck.store.database_store import DatabaseStore

RUNNING, SUCCEEDED, FAILED = ItemState.RUNNING, ItemState.SUCCEEDED, ItemState.FAILED


async def made(store: DatabaseStore, total: int, **more: Any) -> str:
    return await submitted(store, total, **{"external": True, **more})


async def states(store: DatabaseStore, job_id: str) -> list[str]:
    found = Seen((await store.snapshot(job_id)).job, tuple(await store.items(job_id, limit=1000)), {})
    counts_equal_the_items(found)
    return [item.state.value for item in found.items]


def item(index: int, state: ItemState) -> ExternalReport:
    return ExternalReport(items=(ItemReport(index, state),))


async def test_processed_ends_waiting_items_and_completed_ends_the_rest(store: DatabaseStore) -> None:
    job_id = await made(store, 5)
    result = await store.report(job_id, [item(0, RUNNING), item(1, FAILED), ExternalReport(processed=3)])
    assert (result.accepted, result.refusal) == (3, None)
    assert await states(store, job_id) == ["running", "failed", "succeeded", "succeeded", "pending"]
    assert (await store.items(job_id))[2].finished_at == 1_000_000.0
    await store.report(job_id, [ExternalReport(state=State.COMPLETED)])
    assert await states(store, job_id) == ["succeeded", "failed", "succeeded", "succeeded", "succeeded"]
    assert (await store.snapshot(job_id)).job.state is State.COMPLETED_WITH_ERRORS


async def test_reports_before_a_refused_one_are_kept(store: DatabaseStore) -> None:
    job_id = await made(store, 5)
    bad = ExternalReport(items=(ItemReport(1, SUCCEEDED), ItemReport(0, FAILED)), message="no")
    result = await store.report(
        job_id, [item(0, SUCCEEDED), ExternalReport(message="yes"), bad, item(2, SUCCEEDED)]
    )
    assert result.accepted == 2
    assert isinstance(result.refusal, ItemFinished)
    assert await states(store, job_id) == ["succeeded", *["pending"] * 4]
    assert (await store.snapshot(job_id)).job.message == "yes"


async def test_after_the_grace_time_a_cancel_ends_running_items(store: DatabaseStore, clock: Clock) -> None:
    job_id = await made(store, 3)
    await store.report(job_id, [item(0, SUCCEEDED), item(1, RUNNING)])
    await store.apply([Cancel(job_id)])
    assert await states(store, job_id) == ["succeeded", "running", "pending"]
    for passed, done in ((29.0, False), (1.0, True)):
        clock.now += passed
        await asyncio.to_thread(store.sweep, HealthLimits())
        assert (await store.snapshot(job_id)).job.done == done
    assert await states(store, job_id) == ["succeeded", "cancelled", "cancelled"]


async def test_a_restart_does_not_release_items_of_external_work(store: DatabaseStore) -> None:
    job_id = await made(store, 2)
    await store.report(job_id, [item(0, RUNNING)])
    await asyncio.to_thread(lambda: store.sweep(HealthLimits(), ended="an earlier run"))
    assert await states(store, job_id) == ["running", "pending"]
    assert await store.claim(10, 30.0) == []


async def test_silence_is_written_once(store: DatabaseStore, clock: Clock) -> None:
    job_id = await made(store, 2)
    await store.report(job_id, [ExternalReport(processed=1)])
    seqs = []
    for _ in range(3):
        clock.now += 61
        await asyncio.to_thread(store.sweep, HealthLimits())
        snapshot = await store.snapshot(job_id)
        assert snapshot.job.health == "unresponsive"
        seqs.append(snapshot.job.seq)
    assert len(set(seqs)) == 1


async def test_reports_for_other_jobs_are_refused(store: DatabaseStore) -> None:
    job_id = await made(store, 1, external=False)
    assert isinstance((await store.report(job_id, [ExternalReport()])).refusal, NotExternal)
    with pytest.raises(JobNotFound):
        await store.report(str(uuid4()), [ExternalReport()])


async def test_items_are_found_by_name(store: DatabaseStore) -> None:
    job_id = await made(store, 3)
    assert await store.indexes_of(job_id, ["2.csv", "0.csv", "other"]) == [("0.csv", 0), ("2.csv", 2)]
