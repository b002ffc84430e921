"""A cached snapshot always equals what a read would find, and the cache is bounded."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace

from tests.support.clock import Clock
from tests.support.jobs import submitted
from unstuck.errors import JobNotFound, UnstuckError
from unstuck.jobs.external import ExternalReport, ItemReport
from unstuck.jobs.job import Cancel, Fail, Finish, Item, ItemState, Job, JobError, Release, Report, State
from unstuck.jobs.snapshot import ITEM_ERRORS_SHOWN, RUNNING_KNOWN, Snapshot
from unstuck.store import queries
from unstuck.store.protocol import JobFilter
from unstuck.store.snapshot_cache import HEAVIEST, JOB_BYTES, MOST_BYTES, SnapshotCache
from unstuck.store.sqlite import SQLiteStore
from unstuck.store.transaction import Transaction, Work

BROKEN = JobError("exception", "ValueError: no")


async def read(store: SQLiteStore, job_id: str) -> Snapshot:
    """Read the snapshot from the database, bypassing the cache."""
    return await store._read(lambda connection: queries.snapshot(connection, *queries.job(connection, job_id)))


async def test_a_second_lookup_reads_nothing_and_follows_commits(
    store: SQLiteStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await submitted(store, 3)
    await store.snapshot(job_id)

    async def no_read(*_: Any) -> None:
        raise AssertionError("the snapshot is cached")

    monkeypatch.setattr(store, "_read", no_read)
    one, two = await store.claim(2, 30.0)
    await store.apply([Report(job_id, 0, one.item.lease, clock.now), Report(job_id, 1, two.item.lease, clock.now)])
    assert (await store.snapshot(job_id)).running == ((0, "0.csv"), (1, "1.csv"))
    (job,) = await store.apply([Finish(job_id, 0, one.item.lease, ItemState.FAILED, clock.now, error=BROKEN)])
    found = await store.snapshot(job_id)
    assert (found.job, found.running) == (job, ((1, "1.csv"),))
    assert [item.error for item in found.item_errors] == [BROKEN]
    await store.apply([Cancel(job_id), Release(job_id, 1, two.item.lease)])
    with pytest.raises(AssertionError):  # a finished job is not kept
        await store.snapshot(job_id)
    monkeypatch.undo()
    assert (await store.snapshot(job_id)).job.done
    assert await store.snapshot(job_id) == await read(store, job_id)
    await store.remove(job_id)
    with pytest.raises(JobNotFound):
        await store.snapshot(job_id)


@pytest.mark.parametrize("seed", range(6))
async def test_more_running_and_failed_items_than_are_kept(store: SQLiteStore, seed: int) -> None:
    """Items begin and end in any order; each snapshot equals a read, and many need none."""
    chance, cached, most = random.Random(seed), 0, 0
    total = RUNNING_KNOWN + 80
    job_id = await submitted(store, external=True, total=total)
    for _ in range(200):
        some = chance.sample(range(total), chance.randrange(1, 6))
        states = chance.choices((ItemState.RUNNING, ItemState.FAILED), (8, 1), k=len(some))
        items = [
            ItemReport(index, state, error=BROKEN if state is ItemState.FAILED else None)
            for index, state in zip(some, states, strict=True)
        ]
        processed = chance.randrange(total // 4) if chance.random() < 0.1 else None
        await store.report(
            job_id, [ExternalReport((one,)) for one in items] + [ExternalReport(processed=processed)]
        )
        cached += store._snapshots.get(job_id) is not None
        assert await store.snapshot(job_id) == await read(store, job_id)
        most = max(most, (await store.snapshot(job_id)).job.leased)
    last = await store.snapshot(job_id)
    assert len(last.item_errors) == ITEM_ERRORS_SHOWN
    assert most > RUNNING_KNOWN
    assert cached > 50
    assert (await store.report(job_id, [ExternalReport(processed=total)])).refusal is None
    assert await store.snapshot(job_id) == await read(store, job_id)


@pytest.mark.parametrize("ends", ["cancelled by its reporter", "failed by an operator"])
async def test_items_that_sql_ends_are_not_running(store: SQLiteStore, ends: str) -> None:
    job_id = await submitted(store, external=True, total=3)
    await store.report(job_id, [ExternalReport((ItemReport(1),))])
    assert (await store.snapshot(job_id)).running == ((1, "1.csv"),)
    if ends.startswith("failed"):
        await store.apply([Fail(job_id, BROKEN)])
    else:
        await store.apply([Cancel(job_id)])
        await store.report(job_id, [ExternalReport(state=State.CANCELLED)])
    found = await store.snapshot(job_id)
    assert found.job.done
    assert found.running == ()
    assert found == await read(store, job_id)


async def test_lookups_during_commits_are_never_older_than_acknowledged_changes(
    store: SQLiteStore, clock: Clock
) -> None:
    job_ids = [await submitted(store, 4) for _ in range(3)]
    claimed = await store.claim(12, 1e9)
    acknowledged = dict.fromkeys(job_ids, 0)
    going = True

    async def change(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(60):
            one = chance.choice(claimed)
            report = Report(one.job_id, one.item.index, one.item.lease, clock.now, chance.random())
            for outcome in await store.apply([report]):
                assert not isinstance(outcome, UnstuckError)
                acknowledged[outcome.id] = max(acknowledged[outcome.id], outcome.seq)
            if chance.random() < 0.3:
                store._snapshots.clear()  # so that reads keep happening during commits

    async def look() -> None:
        held = dict.fromkeys(job_ids, 0)
        while going:
            for job_id in job_ids:
                least = max(acknowledged[job_id], held[job_id])
                held[job_id] = (await store.snapshot(job_id)).job.seq
                assert held[job_id] >= least
            await asyncio.sleep(0)

    looking = [asyncio.create_task(look()) for _ in range(3)]
    await asyncio.gather(*(change(seed) for seed in range(6)))
    going = False
    await asyncio.gather(*looking)
    for job_id in job_ids:
        assert await store.snapshot(job_id) == await read(store, job_id)


async def test_a_failed_commit_leaves_nothing_behind(store: SQLiteStore, clock: Clock) -> None:
    job_id = await submitted(store, 1)
    before = await store.snapshot(job_id)

    def broken(transaction: Transaction) -> None:
        transaction.apply(Cancel(job_id))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store._write(Work(broken))
    assert await store.snapshot(job_id) == before
    assert store._snapshots.get(job_id) == before


async def test_a_foreign_write_is_noticed_at_the_next_commit(store: SQLiteStore) -> None:
    job_id = await submitted(store, 1)
    await store.check_writable()
    await store.snapshot(job_id)
    foreign = sqlite3.connect(store.path)
    with foreign:
        foreign.execute("UPDATE jobs SET seq = 7")
    foreign.close()
    await store.check_writable()
    assert (await store.snapshot(job_id)).job.seq == 7


async def test_setting_the_clock_moves_the_times_shown(store_set: SQLiteStore, clock: Clock) -> None:
    job_id = await submitted(store_set, 1)
    before = await store_set.snapshot(job_id)
    clock.now += 100.0
    await store_set.check_writable()
    found = await store_set.snapshot(job_id)
    assert found.job.created_at == before.job.created_at + 100.0
    assert found == await read(store_set, job_id)


async def test_comparing_seqs_repairs_a_wrong_snapshot(store: SQLiteStore) -> None:
    """The heartbeat's comparison is a safety net for this cache too."""
    job_id = await submitted(store, 1)
    right = await store.snapshot(job_id)
    store._snapshots.end_commit([replace(right.job, seq=5)], {}, ())
    assert (await store.snapshot(job_id)).job.seq == 5
    assert await store.seqs([job_id]) == {job_id: 1}
    assert await store.snapshot(job_id) == right


async def test_a_lookup_waits_for_a_commit_but_not_for_long(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await submitted(store, 1)
    right = await store.snapshot(job_id)
    store._snapshots.begin_commit({job_id})  # as the writer does
    assert await store.snapshot(job_id) == right, "the commit never ends, so the snapshot was read"
    monkeypatch.setattr("unstuck.store.database_store.COMMIT_S", 3600.0)
    looking = asyncio.create_task(store.snapshot(job_id))
    await asyncio.sleep(0)
    assert not looking.done()
    monkeypatch.setattr(store._snapshots, "load", None)
    await store.check_writable()  # ends the commit
    assert await looking == right


def a_job(number: int, **more: Any) -> Job:
    return Job(id=f"{number}", kind="k", name="n", total=1, waiting=1, created_at=1.0, **more)


@pytest.mark.parametrize("meanwhile", ["committed", "unclear", "forgotten"])
def test_a_snapshot_that_changed_during_its_read_is_not_kept(meanwhile: str) -> None:
    cache, old = SnapshotCache(), Snapshot(a_job(1))

    def reading() -> Snapshot:
        if meanwhile == "committed":
            cache.end_commit([a_job(1, seq=2)], {}, ())
        elif meanwhile == "unclear":
            cache.end_commit([], {}, ["1"])
        else:
            cache.clear()
        return old

    assert cache.load("1", reading) is old
    assert cache.get("1") is None
    assert cache.load("1", lambda: old) is cache.get("1") is old


def test_jobs_of_a_commit_in_progress_are_read() -> None:
    """A viewer that has read what the commit wrote must not be shown older data right after."""
    cache = SnapshotCache()
    for number in (1, 2):
        cache.load(f"{number}", partial(Snapshot, a_job(number)))
    cache.begin_commit({"1"})
    newer = Snapshot(a_job(1, seq=2))
    assert cache.get("1") is None
    assert cache.get("2") is not None
    assert cache.load("1", lambda: newer) is newer
    cache.end_commit([newer.job], {}, ())
    assert cache.get("1") == newer


def test_a_failed_read_leaves_nothing_behind() -> None:
    cache = SnapshotCache()

    def broken() -> Snapshot:
        raise JobNotFound("1")

    with pytest.raises(JobNotFound):
        cache.load("1", broken)
    assert cache._kept == {}


def test_the_cache_is_bounded_in_bytes_and_in_number() -> None:
    cache = SnapshotCache()
    heavy = a_job(0, options={"text": "x" * HEAVIEST})
    cache.load("0", lambda: Snapshot(heavy))
    assert cache.get("0") is None
    most = MOST_BYTES // JOB_BYTES
    for number in range(1, most + 100):
        cache.load(f"{number}", partial(Snapshot, a_job(number)))
    assert most * 0.9 < len(cache._kept) <= most
    assert cache.get("1") is None
    assert cache.get(f"{most + 99}") is not None
    # A growing snapshot evicts others, and is dropped itself when it becomes too heavy.
    last, items = f"{most + 99}", {}
    for index in range(HEAVIEST // 10_000 + 1):
        items[index] = Item(index=index, name="x" * 10_000, state=ItemState.FAILED)
        cache.end_commit([a_job(most + 99, seq=index + 2)], {last: items}, ())
        assert cache._bytes <= MOST_BYTES
    assert cache.get(last) is None
    cache.clear()
    assert (cache._bytes, cache._kept) == (0, {})


async def test_the_list_returns_the_same_snapshots(store: SQLiteStore) -> None:
    job_id = await submitted(store, 2)
    await store.claim(1, 30.0)
    ((_, listed),) = await store.jobs(JobFilter(), before=None, limit=10)
    assert listed == await store.snapshot(job_id) == store._snapshots.get(job_id)
