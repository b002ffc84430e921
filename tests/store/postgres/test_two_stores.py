"""Two stores on one database: each change counts once, and neither believes what the other has changed."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import anyio.to_thread

from tests.support.clock import Clock
from tests.support.jobs import finish, submitted
from tests.support.waiting import soon
from unstuck.errors import KeyReused, LeaseLost
from unstuck.jobs.job import Cancel, HealthLimits, Item, Job, Renew, Report, State
from unstuck.store.postgres.store import PostgresStore
from unstuck.store.protocol import Changes, DeliveryAttempt, IdempotencyKey

NOW = "SELECT extract(epoch FROM clock_timestamp())::float8"


async def test_what_the_other_server_changed_is_read_again(
    store: PostgresStore, other: PostgresStore, clock: Clock
) -> None:
    job_id = await submitted(store, 2)
    one, two = await store.claim(2, 30.0)
    lease = Report(job_id, 1, two.item.lease, clock.now, 0.5)
    await store.apply([Renew(job_id, 0, one.item.lease, 30.0), lease])  # both items are cached here
    await other.apply([finish(one)])
    (late, last) = await store.apply([finish(one), finish(two)])
    assert isinstance(late, LeaseLost)
    assert isinstance(last, Job)
    assert (last.state, last.succeeded) == (State.COMPLETED, 2)
    assert (await other.snapshot(job_id)).job == last


async def test_many_writers_at_two_servers_lose_nothing(store: PostgresStore, other: PostgresStore) -> None:
    ids = [await submitted(store, 40) for _ in range(4)]
    claimed = [*await store.claim(80, 30.0, "one"), *await other.claim(80, 30.0, "two")]
    assert len({(one.job_id, one.item.index) for one in claimed}) == 160
    # Each command has a commit of its own, of jobs in any order, and the servers take turns.
    await asyncio.gather(*((store, other)[place % 2].apply([finish(one)]) for place, one in enumerate(claimed)))
    for job_id in ids:
        job = (await store.snapshot(job_id)).job
        assert (job.state, job.succeeded, job.leased, job.waiting) == (State.COMPLETED, 40, 0, 0)
        seqs = {item.seq for item in await other.items(job_id)}
        assert len(seqs) == 40
        assert max(seqs) == job.seq


async def test_claims_at_the_same_time_share_the_items(store: PostgresStore, other: PostgresStore) -> None:
    await submitted(store, 60)
    taken = await asyncio.gather(*(one.claim(5, 30.0) for one in (store, other) * 6))
    indexes = [item.item.index for claimed in taken for item in claimed]
    assert sorted(indexes) == list(range(60))


async def test_commands_for_many_jobs_do_not_wait_in_a_circle(store: PostgresStore, other: PostgresStore) -> None:
    ids = [await submitted(store, 5) for _ in range(30)]
    claimed = await store.claim(150, 30.0)
    renewals = [Renew(one.job_id, one.item.index, one.item.lease, 60.0) for one in claimed]

    async def renew(renewing: PostgresStore, batch: list[Renew]) -> None:
        for _ in range(5):
            outcomes = await renewing.apply(batch)
            assert all(isinstance(outcome, Job) for outcome in outcomes)

    await asyncio.gather(renew(store, renewals), renew(other, renewals[::-1]))
    assert len(ids) == 30


async def test_a_key_names_one_job_at_both_servers(store: PostgresStore, other: PostgresStore) -> None:
    def job() -> Job:
        return Job(id=str(uuid4()), kind="k", name="n", total=1, waiting=1, created_at=1.0)

    items = [Item(index=0, name="a")]
    key = IdempotencyKey("one", "f")
    created = await asyncio.gather(*(one.create(job(), items, key) for one in (store, other) * 4))
    assert len({one.id for one in created}) == 1
    (refusal,) = await asyncio.gather(
        other.create(job(), items, IdempotencyKey("one", "g")), return_exceptions=True
    )
    assert isinstance(refusal, KeyReused)


async def test_a_delivery_is_taken_by_one_server(store: PostgresStore, other: PostgresStore) -> None:
    for number in range(40):
        job_id = await submitted(store, 1, webhook_url=f"https://{number}.example/hook")
        await store.apply([Cancel(job_id)])
    found = await asyncio.gather(*(one.take_deliveries(10, 4, {}, 20.0) for one in (store, other) * 4))
    taken = [delivery for due in found for delivery in due.taken]
    assert len({delivery.job_id for delivery in taken}) == len(taken) == 40
    assert all(delivery.attempt == 1 for delivery in taken)
    assert await other.finish_attempt(taken[0], DeliveryAttempt("delivered"))
    assert not await store.finish_attempt(taken[0], DeliveryAttempt("delivered"))


async def test_leases_of_the_other_server_lapse_by_time_only(
    store: PostgresStore, other: PostgresStore, clock: Clock
) -> None:
    await submitted(store, 2)
    await store.claim(1, 30.0, "one")
    await other.claim(1, 30.0, "two")
    swept = await anyio.to_thread.run_sync(lambda: other.sweep(HealthLimits(), ended="two"))
    assert [index for _, index, _ in swept.lapsed] == [1]
    clock.now += 31.0
    swept = await anyio.to_thread.run_sync(lambda: other.sweep(HealthLimits(), ended="two"))
    assert [index for _, index, _ in swept.lapsed] == [0]


async def test_each_server_hears_what_the_other_changed(store: PostgresStore, other: PostgresStore) -> None:
    told: list[Changes] = []
    other.on_commit(told.append)
    job_id = await submitted(store, 1)
    await soon(lambda: told)
    assert told == [{job_id: (await store.snapshot(job_id)).job}]
    await other.snapshot(job_id)
    assert other.cached_snapshot(job_id) is not None
    await store.apply([Cancel(job_id)])
    await soon(lambda: len(told) == 2)
    assert other.cached_snapshot(job_id) is None
    await store.remove(job_id)
    await soon(lambda: len(told) == 3)
    assert told[-1] == {job_id: None}


async def test_a_commit_of_many_jobs_is_told_in_full(store: PostgresStore, other: PostgresStore) -> None:
    told: set[str] = set()
    other.on_commit(lambda changes: told.update(changes or {}))
    ids = await asyncio.gather(*(submitted(store, 1) for _ in range(450)))
    await soon(lambda: told == set(ids))
    told.clear()
    await store.apply([Cancel(job_id) for job_id in ids])
    await soon(lambda: told == set(ids))


async def test_the_time_is_the_databases(postgres_url: str) -> None:
    store = PostgresStore(postgres_url)
    await store.open()
    job = Job(id=str(uuid4()), kind="k", name="n", total=1, waiting=1, created_at=1.0)
    stored = await store.create(job, [Item(index=0, name="a")])
    (now,) = await store._read(
        lambda c: c.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
    )
    assert 0 <= now - stored.created_at < 60
    await store.close()
