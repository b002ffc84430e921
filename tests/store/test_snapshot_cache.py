"""What a look finds in memory is what a read would find, whatever was committed; and what is kept is bounded."""

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
from unstuck.store.transaction import Transaction

BROKEN = JobError("exception", "ValueError: no")


async def read(store: SQLiteStore, job_id: str) -> Snapshot:
    """From the database, past what is in memory."""
    return await store._read(lambda connection: queries.snapshot(connection, *queries.job(connection, job_id)))


async def test_a_second_look_reads_nothing_and_knows_what_was_committed(
    store: SQLiteStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await submitted(store, 3)
    await store.snapshot(job_id)

    async def no_read(*_: Any) -> None:
        raise AssertionError("this is in memory")

    monkeypatch.setattr(store, "_read", no_read)
    one, two = await store.claim(2, 30.0)
    await store.apply([Report(job_id, 0, one.item.lease, clock.now), Report(job_id, 1, two.item.lease, clock.now)])
    assert (await store.snapshot(job_id)).running == ((0, "0.csv"), (1, "1.csv"))
    (job,) = await store.apply([Finish(job_id, 0, one.item.lease, ItemState.FAILED, clock.now, error=BROKEN)])
    found = await store.snapshot(job_id)
    assert (found.job, found.running) == (job, ((1, "1.csv"),))
    assert [item.error for item in found.item_errors] == [BROKEN]
    await store.apply([Cancel(job_id), Release(job_id, 1, two.item.lease)])
    with pytest.raises(AssertionError):  # what is done is not kept
        await store.snapshot(job_id)
    monkeypatch.undo()
    assert (await store.snapshot(job_id)).job.done
    assert await store.snapshot(job_id) == await read(store, job_id)
    await store.remove(job_id)
    with pytest.raises(JobNotFound):
        await store.snapshot(job_id)


@pytest.mark.parametrize("seed", range(6))
async def test_of_more_that_run_and_fail_than_are_known(store: SQLiteStore, seed: int) -> None:
    """Items begin and end in any order; a look is a read each time, and mostly costs none."""
    chance, looked, most = random.Random(seed), 0, 0
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
        looked += store._snapshots.get(job_id) is not None
        assert await store.snapshot(job_id) == await read(store, job_id)
        most = max(most, (await store.snapshot(job_id)).job.leased)
    last = await store.snapshot(job_id)
    assert len(last.item_errors) == ITEM_ERRORS_SHOWN
    assert most > RUNNING_KNOWN
    assert looked > 50
    assert (await store.report(job_id, [ExternalReport(processed=total)])).refusal is None
    assert await store.snapshot(job_id) == await read(store, job_id)


@pytest.mark.parametrize("ends", ["cancelled by its reporter", "failed by an operator"])
async def test_what_sql_ends_runs_no_more(store: SQLiteStore, ends: str) -> None:
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


async def test_looks_beside_commits_are_never_older_than_what_was_acknowledged(
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
                store._snapshots.clear()  # so that reads go on beside the commits all the time

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


async def test_a_commit_that_failed_leaves_nothing_behind(store: SQLiteStore, clock: Clock) -> None:
    job_id = await submitted(store, 1)
    before = await store.snapshot(job_id)

    def broken(transaction: Transaction) -> None:
        transaction.apply(Cancel(job_id))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store._write(broken)
    assert await store.snapshot(job_id) == before
    assert store._snapshots.get(job_id) == before


async def test_a_foreign_write_is_seen_after_the_next_commit(store: SQLiteStore) -> None:
    job_id = await submitted(store, 1)
    await store.check_writable()
    await store.snapshot(job_id)
    foreign = sqlite3.connect(store.path)
    with foreign:
        foreign.execute("UPDATE jobs SET seq = 7")
    foreign.close()
    await store.check_writable()
    assert (await store.snapshot(job_id)).job.seq == 7


async def test_a_clock_that_is_set_moves_what_is_shown(store_set: SQLiteStore, clock: Clock) -> None:
    job_id = await submitted(store_set, 1)
    before = await store_set.snapshot(job_id)
    clock.now += 100.0
    await store_set.check_writable()
    found = await store_set.snapshot(job_id)
    assert found.job.created_at == before.job.created_at + 100.0
    assert found == await read(store_set, job_id)


async def test_the_comparison_mends_what_is_wrong(store: SQLiteStore) -> None:
    """However it came to be: the net under the streams is one under this too."""
    job_id = await submitted(store, 1)
    right = await store.snapshot(job_id)
    store._snapshots.end_commit([replace(right.job, seq=5)], {}, ())
    assert (await store.snapshot(job_id)).job.seq == 5
    assert await store.seqs([job_id]) == {job_id: 1}
    assert await store.snapshot(job_id) == right


async def test_a_look_waits_for_a_commit_but_not_for_long(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await submitted(store, 1)
    right = await store.snapshot(job_id)
    store._snapshots.begin_commit({job_id})  # as the writer says it
    assert await store.snapshot(job_id) == right, "it never ends, so it was read"
    monkeypatch.setattr("unstuck.store.sqlite.COMMIT_S", 3600.0)
    looking = asyncio.create_task(store.snapshot(job_id))
    await asyncio.sleep(0)
    assert not looking.done()
    monkeypatch.setattr(store._snapshots, "load", None)
    await store.check_writable()  # the commit is over
    assert await looking == right


def a_job(number: int, **more: Any) -> Job:
    return Job(id=f"{number}", kind="k", name="n", total=1, waiting=1, created_at=1.0, **more)


@pytest.mark.parametrize("meanwhile", ["committed", "unclear", "forgotten"])
def test_what_changed_while_it_was_read_is_not_kept(meanwhile: str) -> None:
    shown, old = SnapshotCache(), Snapshot(a_job(1))

    def reading() -> Snapshot:
        if meanwhile == "committed":
            shown.end_commit([a_job(1, seq=2)], {}, ())
        elif meanwhile == "unclear":
            shown.end_commit([], {}, ["1"])
        else:
            shown.clear()
        return old

    assert shown.load("1", reading) is old
    assert shown.get("1") is None
    assert shown.load("1", lambda: old) is shown.get("1") is old


def test_while_a_commit_is_under_way_its_jobs_are_read() -> None:
    """Else who has read what it wrote would be told less right after."""
    shown = SnapshotCache()
    for number in (1, 2):
        shown.load(f"{number}", partial(Snapshot, a_job(number)))
    shown.begin_commit({"1"})
    newer = Snapshot(a_job(1, seq=2))
    assert shown.get("1") is None
    assert shown.get("2") is not None
    assert shown.load("1", lambda: newer) is newer
    shown.end_commit([newer.job], {}, ())
    assert shown.get("1") == newer


def test_a_read_that_fails_leaves_no_trace() -> None:
    shown = SnapshotCache()

    def broken() -> Snapshot:
        raise JobNotFound("1")

    with pytest.raises(JobNotFound):
        shown.load("1", broken)
    assert shown._kept == {}


def test_what_is_kept_is_bounded_in_bytes_and_so_in_number() -> None:
    shown = SnapshotCache()
    heavy = a_job(0, options={"text": "x" * HEAVIEST})
    shown.load("0", lambda: Snapshot(heavy))
    assert shown.get("0") is None
    most = MOST_BYTES // JOB_BYTES
    for number in range(1, most + 100):
        shown.load(f"{number}", partial(Snapshot, a_job(number)))
    assert most * 0.9 < len(shown._kept) <= most
    assert shown.get("1") is None
    assert shown.get(f"{most + 99}") is not None
    # One that grows pushes others out, and is itself let go when it is too heavy.
    last, items = f"{most + 99}", {}
    for index in range(HEAVIEST // 10_000 + 1):
        items[index] = Item(index=index, name="x" * 10_000, state=ItemState.FAILED)
        shown.end_commit([a_job(most + 99, seq=index + 2)], {last: items}, ())
        assert shown._bytes <= MOST_BYTES
    assert shown.get(last) is None
    shown.clear()
    assert (shown._bytes, shown._kept) == (0, {})


async def test_the_list_is_read_and_says_the_same(store: SQLiteStore) -> None:
    job_id = await submitted(store, 2)
    await store.claim(1, 30.0)
    ((_, listed),) = await store.jobs(JobFilter(), before=None, limit=10)
    assert listed == await store.snapshot(job_id) == store._snapshots.get(job_id)
