"""Time passes for jobs in a store: leases lapse, items pause, health changes, clocks are set."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from tests.support.clock import Clock
from tests.support.jobs import finish, submitted
from tests.support.waiting import soon
from unstuck.errors import JobFinished, LeaseLost
from unstuck.jobs.external import ExternalReport
from unstuck.jobs.job import Cancel, HealthLimits, ItemState, Job, JobError, Release, Renew, Report
from unstuck.jobs.timeline import What
from unstuck.store import claims, rows
from unstuck.store.clock import as_read_then
from unstuck.store.database_store import DatabaseStore
from unstuck.store.protocol import SweepResult
from unstuck.store.sqlite import SQLiteStore
from unstuck.store.transaction import Work


async def sweep(store: DatabaseStore, *held: Renew, ended: str | None = None, **limits: Any) -> SweepResult:
    return await asyncio.to_thread(store.sweep, HealthLimits(**limits), held, ended=ended)


async def test_an_expired_lease_gives_the_item_to_another_runner(store: DatabaseStore, clock: Clock) -> None:
    job_id = await submitted(store, 2)
    begun, waiting = await store.claim(2, 30.0, "first")
    await store.apply([Report(job_id, 0, begun.item.lease, clock.now, 0.5)])
    clock.now += 29
    assert (await sweep(store)).lapsed == []
    clock.now += 2
    assert list((await sweep(store)).lapsed) == [(job_id, 0, 1), (job_id, 1, 1)]
    again = await store.claim(2, 30.0, "second")
    assert [(one.item.index, one.item.lease, one.item.attempt) for one in again] == [(0, 2, 2), (1, 2, 1)]
    # The old runner comes back too late: it is refused and changes nothing.
    late = await store.apply([finish(begun), finish(waiting), Renew(job_id, 0, begun.item.lease, 30.0)])
    assert [type(one) for one in late] == [LeaseLost] * 3
    assert (await store.snapshot(job_id)).job.processed == 0


async def test_leases_renewed_in_the_same_sweep_are_kept(store: DatabaseStore, clock: Clock) -> None:
    """A server that was suspended for a while renews first, and so loses nothing."""
    job_id = await submitted(store, 1)
    (claimed,) = await store.claim(1, 30.0)
    clock.now += 3600
    swept = await sweep(store, Renew(job_id, 0, claimed.item.lease, 30.0))
    assert swept.lapsed == []
    (kept,) = await store.apply([finish(claimed)])
    assert isinstance(kept, Job)
    assert kept.done


async def test_a_job_is_submitted_by_the_clock_of_the_store(store: DatabaseStore, clock: Clock) -> None:
    """The clock of the server that took it may be another one; its deadline is as far away."""
    clock.now += 100
    job_id = await submitted(store, created_at=7_000.0, deadline_at=7_060.0)
    job = (await store.snapshot(job_id)).job
    assert (job.created_at, job.deadline_at) == (clock.now, clock.now + 60)
    assert (await store.timeline(job_id))[0].at == clock.now


async def test_a_server_among_others_takes_back_its_own_leases_only(store: DatabaseStore, clock: Clock) -> None:
    job_id = await submitted(store, 4, max_attempts=2)
    await store.claim(1, 30.0)
    await store.claim(2, 60.0, "one of others")
    await store.claim(1, 60.0, "us")
    await store.apply([Report(job_id, index, 1, clock.now) for index in range(4)])
    clock.now += 31
    start = partial(claims.sweep, limits=HealthLimits(), held=(), ended="us", alone=False)
    assert list((await store._write(Work(start))).lapsed) == [(job_id, 0, 1), (job_id, 3, 1)]
    ends = {entry.index: entry.text for entry in await store.timeline(job_id) if entry.what == What.ATTEMPT_FAILED}
    assert ends == {0: f"Attempt 1 failed: {claims.LEASE_RAN_OUT}", 3: f"Attempt 1 failed: {claims.SERVER_ENDED}"}


async def test_an_item_pauses_before_its_next_attempt_without_delaying_others(
    store: DatabaseStore, clock: Clock
) -> None:
    first, second = await submitted(store, 1), await submitted(store, 1)
    (claimed,) = await store.claim(1, 30.0)
    failed = finish(claimed, ItemState.FAILED, JobError("busy", "not now", transient=True), pause_s=5.0)
    await store.apply([failed])
    assert [one.job_id for one in await store.claim(9, 30.0)] == [second]
    clock.now += 5
    assert [(one.job_id, one.item.attempt) for one in await store.claim(9, 30.0)] == [(first, 2)]


async def test_health_is_part_of_the_job_and_raises_its_seq(store: DatabaseStore, clock: Clock) -> None:
    changed: list[str] = []
    store.on_commit(lambda jobs: changed.extend(job.health for job in (jobs or {}).values() if job is not None))
    job_id = await submitted(store, 2)

    async def after(seconds: float) -> tuple[str, int]:
        clock.now += seconds
        await sweep(store)
        job = (await store.snapshot(job_id)).job
        return job.health, job.seq

    assert await after(599) == ("ok", 1)
    assert await after(2) == ("waiting_long", 2)
    (claimed, _) = await store.claim(2, 10_000.0)
    assert await after(0) == ("ok", 3)
    assert await after(21) == ("unresponsive", 4)
    await store.apply([Renew(job_id, 0, claimed.item.lease, 10_000.0)])
    assert await after(0) == ("ok", 5)
    clock.now += 290
    await store.apply([Renew(job_id, 0, claimed.item.lease, 10_000.0)])
    assert await after(0) == ("stalled", 6)
    await store.apply([Report(job_id, 0, claimed.item.lease, clock.now, 0.5)])
    assert await after(0) == ("ok", 7)
    await soon(lambda: changed == ["ok", "waiting_long", "ok", "unresponsive", "ok", "stalled", "ok"])
    told = [entry.text for entry in await store.timeline(job_id) if entry.what is What.HEALTH]
    assert told == changed[1:]


async def test_a_job_without_workers_is_waiting_and_not_stalled(store: DatabaseStore, clock: Clock) -> None:
    job_id = await submitted(store, 1)
    (claimed,) = await store.claim(1, 10_000.0)
    clock.now += 301
    await store.apply([Renew(job_id, 0, claimed.item.lease, 10_000.0)])

    async def now() -> str:
        await sweep(store)
        return (await store.snapshot(job_id)).job.health

    assert await now() == "stalled"
    await store.apply([Release(job_id, 0, claimed.item.lease)])
    assert await now() == "ok"
    clock.now += 601
    assert await now() == "waiting_long"


async def test_a_rescue_takes_the_leased_items_of_the_job_only(store: DatabaseStore, clock: Clock) -> None:
    job_id = await submitted(store, 4)
    other = await submitted(store, 1, priority=-1)
    done, begun, unbegun = await store.claim(3, 30.0, "host/1")
    await store.claim(2, 30.0, "host/2")
    await store.apply([finish(done), Report(job_id, 1, begun.item.lease, clock.now, 0.5)])
    before = (await store.snapshot(other)).job
    assert await store.rescue(job_id, "It hangs.") == 3
    items = await store.items(job_id)
    assert [(item.state, item.attempt, item.lease_until) for item in items] == [
        ("succeeded", 1, None), ("pending", 1, None), ("pending", 0, None), ("pending", 0, None)
    ]  # fmt: skip
    assert items[1].message == "Attempt 1 failed: It hangs."
    late = await store.apply([finish(begun), finish(unbegun)])
    assert [type(one) for one in late] == [LeaseLost] * 2
    assert (await store.snapshot(other)).job == before
    assert await store.rescue(job_id, "Again.") == 0
    told = [entry.text for entry in await store.timeline(job_id) if entry.what is What.RESCUED]
    assert told == ["It hangs."]
    await store.apply([Cancel(job_id)])
    with pytest.raises(JobFinished):
        await store.rescue(job_id, "Too late.")


async def test_a_deadline_and_the_queue_limit_end_a_job(store: DatabaseStore, clock: Clock) -> None:
    late = await submitted(store, 2, deadline_at=clock.now + 60)
    await store.claim(1, 10_000.0)
    waits = await submitted(store, 1)
    clock.now += 61
    await sweep(store, expiry_s=60.0)
    ended = (await store.snapshot(waits)).job
    assert (ended.state, ended.error and ended.error.code) == ("failed", "expired_in_queue")
    stopping = (await store.snapshot(late)).job
    assert (stopping.state, stopping.stopping, stopping.waiting) == ("running", True, 0)
    assert stopping.error is not None
    assert stopping.error.code == "deadline_exceeded"


@pytest.mark.parametrize("reports", [0, 1])
async def test_external_work_ends_when_its_reporter_is_lost(
    store: DatabaseStore, clock: Clock, reports: int
) -> None:
    outside = await submitted(store, 2, external=True, created_at=clock.now)
    for _ in range(reports):
        clock.now += 50
        await store.report(outside, [ExternalReport(processed=1)])
    own = await submitted(store, 1, created_at=clock.now)
    clock.now += 100
    await sweep(store, reporter_lost_s=100.0)
    assert not (await store.snapshot(outside)).job.done
    clock.now += 1
    await sweep(store)
    assert not (await store.snapshot(outside)).job.done, "only if there is such a limit"
    await sweep(store, reporter_lost_s=100.0)
    ended = (await store.snapshot(outside)).job
    assert (ended.state, ended.error and ended.error.code) == ("failed", "reporter_lost")
    assert ended.total == ended.succeeded + ended.cancelled
    assert not (await store.snapshot(own)).job.done
    late = await store.report(outside, [ExternalReport(processed=2)])
    assert isinstance(late.refusal, JobFinished)


async def test_limits_of_single_jobs_and_totals_that_are_kept_are_found(
    store: DatabaseStore, clock: Clock
) -> None:
    lost = await submitted(store, 2, external=True, created_at=clock.now, lost_after_s=30.0)
    kept = await submitted(store, 0, external=True, created_at=clock.now, counted=True, open_end=True)
    for job_id in (lost, kept):
        await store.report(job_id, [ExternalReport(processed=0, total=2 if job_id == lost else 0)])
    clock.now += 9
    await sweep(store, reporter_lost_s=100.0)
    assert not (await store.snapshot(kept)).job.done
    clock.now += 1
    await sweep(store)
    assert (await store.snapshot(kept)).job.state == "completed"
    clock.now += 21
    await sweep(store)
    ended = (await store.snapshot(lost)).job
    assert (ended.state, ended.error and ended.error.code) == ("failed", "reporter_lost")


@pytest.mark.parametrize(
    ("steps", "then"),
    [
        ((), 900.0),
        (((500.0, 300.0),), 900.0),  # set before
        (((2_000.0, 1_500.0),), -600.0),  # set forward since then
        (((1_000.0, 400.0), (2_000.0, -400.0)), 1_300.0),  # while it was wrong
        (((1_400.0, 400.0), (2_000.0, -400.0)), 900.0),  # set forward and back again
        (((950.0, -100.0),), 1_000.0),  # set back since then
        (((1_000.0, 200.0), (1_500.0, 300.0)), 400.0),
    ],
)
def test_the_clock_as_it_was(steps: tuple[tuple[float, float], ...], then: float) -> None:
    assert as_read_then(900.0, reversed(steps)) == then


async def test_setting_the_clock_ends_no_lease_and_no_pause(
    store_set: SQLiteStore, clock: Clock, steady: Clock
) -> None:
    job_id = await submitted(store_set, 2, deadline_at=clock.now + 7200)
    (claimed,) = await store_set.claim(1, 30.0)
    for jump in (3600.0, -7200.0):
        clock.now += jump + 10
        steady.now += 10
        assert (await sweep(store_set)).lapsed == []
        job = (await store_set.snapshot(job_id)).job
        assert (job.health, job.error) == ("ok", None)
    item = await store_set.item(job_id, 0)
    assert item is not None
    assert item.lease_until == pytest.approx(clock.now + 10)
    clock.now += 11
    steady.now += 11
    assert list((await sweep(store_set)).lapsed) == [(job_id, 0, 1)]
    clock.now += 3600 * 4  # the deadline is a wall-clock time that was promised, so here the clock decides
    await sweep(store_set)
    error = (await store_set.snapshot(job_id)).job.error
    assert error is not None
    assert error.code == "deadline_exceeded"
    assert claimed.item.lease == 1


async def test_the_timeline_records_unusual_events(store: DatabaseStore, clock: Clock) -> None:
    job_id = await submitted(store, 3)
    one, two, _ = await store.claim(3, 30.0, "host/1")
    busy = JobError("busy", "not now", transient=True)
    bad = JobError("bad", "no good")
    await store.apply([finish(one, ItemState.FAILED, busy), finish(two, ItemState.FAILED, bad)])
    clock.now += 31
    await sweep(store)
    await store.apply([Cancel(job_id)])
    entries = [entry for entry in await store.timeline(job_id) if entry.what is not What.ITEM_STARTED]
    lines = [(entry.what, entry.index, entry.text, entry.worker) for entry in entries]
    assert lines == [
        ("submitted", None, None, None),
        ("state", None, "running", None),
        ("attempt_failed", 0, "Attempt 1 failed: not now", "host/1"),
        ("item_failed", 1, "no good", "host/1"),
        ("given_back", 2, None, "host/1"),
        ("cancel_requested", None, None, None),
        ("state", None, "cancelled", None),
    ]


async def test_the_timeline_stays_short_if_everything_fails(store: DatabaseStore) -> None:
    job_id = await submitted(store, rows.ITEM_ENTRIES_KEPT + 50)
    claimed = await store.claim(rows.ITEM_ENTRIES_KEPT + 50, 30.0)
    await store.apply([finish(one, ItemState.FAILED, JobError("bad", "no good")) for one in claimed])
    entries = await store.timeline(job_id)
    assert sum(entry.index is not None for entry in entries) == rows.ITEM_ENTRIES_KEPT
    assert [entry.text for entry in entries if entry.what is What.STATE] == ["running", "failed"]


async def test_setting_the_clock_keeps_the_age_of_a_cancel_request(
    store_set: SQLiteStore, clock: Clock, steady: Clock
) -> None:
    job_id = await submitted(store_set, 1)
    await store_set.claim(1, 30.0)
    await store_set.apply([Cancel(job_id)])
    assert (await store_set.snapshot(job_id)).job.cancel_requested_at == clock.now
    clock.now += 3600 + 10
    steady.now += 10
    await sweep(store_set)
    assert (await store_set.snapshot(job_id)).job.cancel_requested_at == pytest.approx(clock.now - 10)
