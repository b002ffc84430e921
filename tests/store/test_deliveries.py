"""Deliveries in a store: created when a job ends, taken when due, finished once, removed with their job."""

from __future__ import annotations

import pytest

from tests.support.clock import Clock
from tests.support.jobs import finish, submitted
from unstuck.errors import JobNotFound
from unstuck.jobs.job import Cancel, Fail, JobError
from unstuck.jobs.timeline import What
from unstuck.store.database_store import DatabaseStore
from unstuck.store.protocol import DeliveryAttempt, DueDeliveries
from unstuck.store.sqlite import SQLiteStore

FAILED = DeliveryAttempt("failed: no; again", trouble="no", pause_s=60.0)
DELIVERED = DeliveryAttempt("delivered, 200")


async def ended(store: DatabaseStore, host: str = "a.example") -> str:
    job_id = await submitted(store, 1, webhook_url=f"https://{host}/hook")
    await store.apply([Cancel(job_id)])
    return job_id


async def take(store: DatabaseStore, limit: int = 100, lanes: int = 4, **busy: int) -> DueDeliveries:
    return await store.take_deliveries(
        limit, lanes, {f"{name}.example": count for name, count in busy.items()}, 20.0
    )


async def test_every_end_of_a_job_with_a_url_creates_a_delivery(store: DatabaseStore) -> None:
    await store.apply([Cancel(await submitted(store, 1))])
    assert await take(store) == DueDeliveries([], None)
    finished = await submitted(store, 1, webhook_url="https://a.example/1")
    assert (await take(store)).taken == []
    (claimed,) = await store.claim(1, 30.0)
    await store.apply([finish(claimed)])
    failed = await submitted(store, 1, webhook_url="https://a.example/2")
    await store.apply([Fail(failed, JobError("no", "no"))])
    cancelled = await ended(store)
    found = (await take(store)).taken
    assert [(one.job_id, one.attempt, one.host) for one in found] == [
        (finished, 1, "a.example"), (failed, 1, "a.example"), (cancelled, 1, "a.example"),
    ]  # fmt: skip


async def test_a_delivery_that_was_taken_and_never_finished_is_due_again(
    store: DatabaseStore, clock: Clock
) -> None:
    job_id = await ended(store)
    (first,) = (await take(store)).taken
    assert await take(store) == DueDeliveries([], 20.0)
    clock.now += 19.0
    assert await take(store) == DueDeliveries([], 1.0)
    clock.now += 1.0
    (second,) = (await take(store)).taken
    assert (second.job_id, second.attempt, second.age_s) == (job_id, 2, 20.0)
    # The first attempt was slow, not dead, and its outcome comes too late.
    assert not await store.finish_attempt(first, FAILED)
    assert await store.finish_attempt(second, DELIVERED)
    assert not await store.finish_attempt(second, FAILED)


async def test_counts_follow_a_delivery(store: DatabaseStore, clock: Clock) -> None:
    async def counts() -> tuple[int, ...]:
        found = (await store.overview()).webhooks
        return found["waiting"], found["failing"], found["given_up"]

    job_id = await ended(store)
    before = (await store.snapshot(job_id)).job
    assert await counts() == (1, 0, 0)
    (one,) = (await take(store)).taken
    assert await store.finish_attempt(one, FAILED)
    assert await counts() == (0, 1, 0)
    assert await take(store) == DueDeliveries([], 60.0)
    clock.now += 60
    (one,) = (await take(store)).taken
    assert await store.finish_attempt(one, DeliveryAttempt("given up: no", trouble="no"))
    assert await counts() == (0, 0, 1)
    assert await take(store) == DueDeliveries([], None)
    told = [(entry.text, entry.attempt) for entry in await store.timeline(job_id) if entry.what is What.WEBHOOK]
    assert told == [("failed: no; again", 1), ("given up: no", 2)]
    # The job itself is final and does not change.
    assert (await store.snapshot(job_id)).job == before


async def test_no_host_gets_more_deliveries_than_lanes(store: DatabaseStore, clock: Clock) -> None:
    slow = [await ended(store, "slow.example") for _ in range(10)]
    clock.now += 1
    other = await ended(store, "other.example")
    found = (await take(store, lanes=4)).taken
    assert [one.job_id for one in found] == [*slow[:4], other]
    assert (await take(store, lanes=4, slow=4)).taken == []
    assert [one.job_id for one in (await take(store, lanes=4, slow=3)).taken] == [slow[4]]
    assert [one.job_id for one in (await take(store, limit=2, lanes=4)).taken] == slow[5:7]


async def test_a_delivery_is_removed_with_its_job(store: DatabaseStore) -> None:
    job_id = await ended(store)
    (one,) = (await take(store)).taken
    await store.remove(job_id)
    with pytest.raises(JobNotFound):
        await store.finish_attempt(one, FAILED)
    assert await take(store) == DueDeliveries([], None)
    assert (await store.overview()).webhooks == {"waiting": 0, "failing": 0, "given_up": 0}


async def test_a_malformed_url_does_not_keep_a_job_from_ending(store: DatabaseStore) -> None:
    job_id = await submitted(store, 1, webhook_url="https://[")
    await store.apply([Cancel(job_id)])
    assert (await store.snapshot(job_id)).job.done
    assert [one.host for one in (await take(store)).taken] == [""]


async def test_setting_the_clock_moves_no_delivery(store_set: SQLiteStore, clock: Clock, steady: Clock) -> None:
    await ended(store_set)
    (one,) = (await take(store_set)).taken
    await store_set.finish_attempt(one, FAILED)
    for jump in (3600.0, -7200.0):
        clock.now += jump
        assert await take(store_set) == DueDeliveries([], 60.0)
    clock.now += 60
    steady.now += 60
    (one,) = (await take(store_set)).taken
    assert one.age_s == 60.0
