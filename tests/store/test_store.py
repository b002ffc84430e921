"""The contract of every store, tested on real databases."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from msgspec import structs

from tests.support.clock import Clock
from tests.support.jobs import finish, submitted
from tests.support.waiting import soon
from unstuck.errors import JobNotDone, JobNotFound, LeaseLost, QueueFull
from unstuck.jobs.job import Cancel, HealthLimits, Item, Job, JobError, Renew, Report, State
from unstuck.store import listings
from unstuck.store.database_store import DatabaseStore
from unstuck.store.protocol import IdempotencyKey, JobFilter
from unstuck.store.sqlite import SQLiteStore


async def test_a_job_is_read_as_it_was_created(store: DatabaseStore) -> None:
    job_id = await submitted(store, 3, priority=5, max_errors=2, options={"a": [1, None]})
    job = (await store.snapshot(job_id)).job
    assert (job.id, job.total, job.priority, job.max_errors) == (job_id, 3, 5, 2)
    assert job.options == {"a": [1, None]}
    assert [item.name for item in await store.items(job_id)] == ["0.csv", "1.csv", "2.csv"]


async def test_any_json_value_is_a_result(store: DatabaseStore) -> None:
    """A text stays a text, even one that reads as JSON; false and 0 are results, and None is none."""
    results = [5, 0, 1.5, "text", "5", "null", "", True, False, [1, [2]], {"a": None}, 2**70, None]
    job_id = await submitted(store, len(results))
    for result, claimed in zip(results, await store.claim(len(results), 30.0), strict=True):
        await store.apply([structs.replace(finish(claimed), result=result)])
    read = [item.result for item in await store.items(job_id)]
    assert [(type(one), one) for one in read] == [(type(one), one) for one in results]


async def test_the_life_of_a_job(store: DatabaseStore, clock: Clock) -> None:
    job_id = await submitted(store, 3)
    claimed = await store.claim(10, 30.0)
    assert [one.item.index for one in claimed] == [0, 1, 2]
    assert await store.claim(10, 30.0) == []
    reports = [Report(job_id, one.item.index, one.item.lease, clock.now, 0.5) for one in claimed]
    await store.apply(reports)
    snapshot = await store.snapshot(job_id)
    assert snapshot.running == ((0, "0.csv"), (1, "1.csv"), (2, "2.csv"))
    assert snapshot.job.percent == 50.0
    broken = JobError("exception", "no")
    outcomes = await store.apply([finish(claimed[0]), finish(claimed[1], "failed", broken), finish(claimed[2])])
    assert isinstance(outcomes[-1], Job)
    assert outcomes[-1].state is State.COMPLETED_WITH_ERRORS
    snapshot = await store.snapshot(job_id)
    assert [item.error for item in snapshot.item_errors] == [broken]
    assert snapshot.job == outcomes[-1]


async def test_a_refused_command_does_not_affect_others(store: DatabaseStore) -> None:
    job_id = await submitted(store, 2)
    one, two = await store.claim(2, 30.0)
    stale = Renew(job_id, 0, one.item.lease + 1, 30.0)
    outcomes = await store.apply([finish(one), stale, finish(two), Cancel(job_id)])
    assert [type(outcome).__name__ for outcome in outcomes] == ["Job", "LeaseLost", "Job", "JobFinished"]
    assert isinstance(outcomes[1], LeaseLost)


async def test_many_writers_share_commits_and_lose_nothing(store: DatabaseStore) -> None:
    job_id = await submitted(store, 200)
    claimed = await store.claim(200, 30.0)
    await asyncio.gather(*(store.apply([finish(one)]) for one in claimed))
    job = (await store.snapshot(job_id)).job
    assert (job.state, job.succeeded) == (State.COMPLETED, 200)
    seqs = [item.seq for item in await store.items(job_id, limit=500)]
    assert len(set(seqs)) == 200
    assert max(seqs) == job.seq


async def test_cancel_ends_all_waiting_items(store: DatabaseStore) -> None:
    job_id = await submitted(store, 50)
    (claimed,) = await store.claim(1, 30.0)
    await store.apply([Cancel(job_id)])
    states = [item.state for item in await store.items(job_id)]
    assert states == ["pending"] + ["cancelled"] * 49
    assert await store.claim(10, 30.0) == []
    await store.apply([finish(claimed, "cancelled")])
    assert (await store.snapshot(job_id)).job.state is State.CANCELLED


async def test_claims_go_by_priority_then_fairly(store: DatabaseStore) -> None:
    large = await submitted(store, 100)
    small = await submitted(store, 3)
    first = await store.claim(4, 30.0)
    assert [one.job_id for one in first].count(small) == 2
    urgent = await submitted(store, 2, priority=1)
    second = await store.claim(4, 30.0)
    assert [one.job_id for one in second].count(urgent) == 2
    assert {one.job_id for one in second} == {urgent, large, small}


async def test_a_claim_leaves_items_of_other_kinds_to_others(store: DatabaseStore) -> None:
    unknown = await submitted(store, 9, kind="of-a-newer-version", priority=9)
    known = await submitted(store, 2, kind="checksum")
    assert {one.job_id for one in await store.claim(9, 30.0, kinds={"checksum", "rehearsal"})} == {known}
    assert await store.claim(9, 30.0, kinds=()) == []
    assert (await store.overview()).waiting_by_kind == {"of-a-newer-version": 1}
    assert {one.job_id for one in await store.claim(9, 30.0)} == {unknown}
    assert (await store.overview()).waiting_by_kind == {}


async def test_listeners_are_called_for_each_visible_commit(store: DatabaseStore) -> None:
    commits: list[Mapping[str, Job | None]] = []
    store.on_commit(lambda changed: commits.append(changed or {}))
    job_id = await submitted(store, 1)
    (claimed,) = await store.claim(1, 30.0)
    await store.apply([Renew(job_id, 0, 1, 30.0)])
    await store.apply([finish(claimed)])
    await store.remove(job_id)
    await soon(lambda: commits and commits[-1] == {job_id: None})
    states = [job and job.state for job in (changed[job_id] for changed in commits)]
    assert states == ["queued", "running", "completed", None]


async def test_items_by_seq_page_over_equal_seqs(store: DatabaseStore) -> None:
    job_id = await submitted(store, 25)
    await store.apply([Cancel(job_id)])  # all items change with one seq
    seen: list[int] = []
    seq, index = 1, 2**53
    while page := await store.items(job_id, after_seq=seq, after_index=index, limit=10):
        seen += [item.index for item in page]
        seq, index = page[-1].seq, page[-1].index
    assert seen == list(range(25))


async def test_lists_are_newest_first_and_can_be_filtered(store: DatabaseStore, clock: Clock) -> None:
    ids = [await submitted(store, 1) for _ in range(5)]
    await store.apply([Cancel(ids[2])])
    page = await store.jobs(JobFilter(), before=None, limit=2)
    rest = await store.jobs(JobFilter(), before=page[-1][0], limit=10)
    assert [one.job.id for _, one in page + rest] == ids[::-1]
    cancelled = await store.jobs(JobFilter(states=["cancelled"]), before=None, limit=10)
    assert [one.job.id for _, one in cancelled] == [ids[2]]
    clock.now += 601
    await asyncio.to_thread(store.sweep, HealthLimits())
    late = await store.jobs(JobFilter(healths=["waiting_long"]), before=None, limit=10)
    assert [one.job.id for _, one in late] == [ids[4], ids[3], ids[1], ids[0]]
    assert set(await store.live_ids(60)) == set(ids) - {ids[2]}


async def test_a_search_by_name_ignores_case_and_continues_where_it_stopped(
    store: DatabaseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings, "SEARCHED", 3)
    names = ["Rechnungen für MÄRZ", "b", "c", "d", "e", "f", "ma\u0308rz again", "100%", "100_"]
    ids = {name: await submitted(store, 1, name=name) for name in names}
    await store.apply([Cancel(ids["b"])])

    async def found(name: str, states: tuple[str, ...] = (), limit: int = 10) -> list[list[str]]:
        pages, before = [], None
        while True:
            page, before = await store.search(name, JobFilter(states), before=before, limit=limit)
            pages.append([one.job.name for _, one in page])
            if before is None:
                return pages

    assert await found("März") == [["ma\u0308rz again"], [], ["Rechnungen für MÄRZ"], []]
    assert await found("märz", limit=1) == [["ma\u0308rz again"], [], ["Rechnungen für MÄRZ"], []]
    assert await found("100_") == [["100_"], [], [], []]  # no pattern, only text
    assert await found("", ("cancelled",)) == [["b"]]
    assert await found("b", ("queued", "running")) == [[], [], []]


async def test_a_list_by_end_starts_with_the_oldest_end(store: DatabaseStore, clock: Clock) -> None:
    ids = [await submitted(store, 1) for _ in range(6)]
    await submitted(store, 1)  # not done
    ends = [ids[3], ids[0], ids[5], ids[1], ids[2]]
    for job_id in ends:
        await store.apply([Cancel(job_id)])
        clock.now += 0.0 if job_id == ids[0] else 10.25  # two ended in one instant
    job_filter = JobFilter(finished_before=clock.now)
    page = await store.jobs(job_filter, before=None, limit=2)
    last_n, last = page[-1]
    assert last.job.finished_at is not None
    await store.remove(last.job.id)  # a listed job may be gone when the next page is requested
    job_filter = replace(job_filter, finished_after=(last.job.finished_at, last_n))
    rest = await store.jobs(job_filter, before=None, limit=10)
    assert [one.job.id for _, one in page + rest] == ends
    assert await store.jobs(replace(job_filter, states=["failed"]), before=None, limit=10) == []
    before = JobFilter(finished_before=last.job.finished_at, states=["cancelled", "failed"])
    assert [one.job.id for _, one in await store.jobs(before, before=None, limit=10)] == [ends[0]]


async def test_remove_takes_finished_jobs_only(store: DatabaseStore) -> None:
    job_id = await submitted(store, 2)
    with pytest.raises(JobNotDone):
        await store.remove(job_id)
    await store.apply([Cancel(job_id)])
    await store.remove(job_id)
    for ask in (store.snapshot(job_id), store.items(job_id), store.remove(job_id)):
        with pytest.raises(JobNotFound):
            await ask
    assert await store.seqs([job_id]) == {}


async def test_seqs_of_many_in_one_query(store: DatabaseStore) -> None:
    ids = [await submitted(store, 1) for _ in range(3)]
    await store.apply([Cancel(ids[1])])
    assert await store.seqs([*ids, str(uuid4())]) == {ids[0]: 1, ids[1]: 2, ids[2]: 1}
    assert await store.seqs([]) == {}


async def test_callers_that_stop_waiting_do_no_harm(store: DatabaseStore) -> None:
    job_id = await submitted(store, 50)
    claimed = await store.claim(50, 30.0)
    asked = [asyncio.ensure_future(store.apply([finish(one)])) for one in claimed]
    await asyncio.sleep(0)
    for one in asked[::2]:
        one.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    await store.check_writable()
    job = (await store.snapshot(job_id)).job
    assert job.succeeded >= 25


async def test_a_full_store_takes_no_new_jobs(store: DatabaseStore) -> None:
    def job(total: int = 1) -> Job:
        return Job(id=str(uuid4()), kind="k", name="n", total=total, waiting=total, created_at=1.0)

    items = [Item(index=0, name="a")]
    assert await store.has_room(2)
    first = await store.create(job(), items, IdempotencyKey("one", "f"), most=2)
    await store.create(job(), items, most=2)
    assert not await store.has_room(2)
    assert not await store.has_room(2, "another")
    assert await store.has_room(2, "one"), "a repeated submission is not refused"
    assert (await store.create(job(), items, IdempotencyKey("one", "f"), most=2)).id == first.id
    with pytest.raises(QueueFull):
        await store.create(job(), items, most=2)
    # Of concurrent submissions in one commit, only as many are taken as there is room for.
    outcomes = await asyncio.gather(
        *(store.create(job(), items, most=5) for _ in range(9)), return_exceptions=True
    )
    assert sum(isinstance(one, QueueFull) for one in outcomes) == 6
    await store.apply([Cancel(first.id)])
    assert await store.has_room(5), "finished jobs take no room"
    await store.create(job(), items, most=5)


async def test_external_jobs_and_others_take_room_apart(store: DatabaseStore) -> None:
    def job(*, external: bool) -> Job:
        return Job(id=str(uuid4()), kind="k", name="n", total=1, waiting=1, created_at=1.0, external=external)

    items = [Item(index=0, name="a")]
    for external in (True, False):
        for _ in range(2):
            await store.create(job(external=external), items, most=2)
        with pytest.raises(QueueFull):
            await store.create(job(external=external), items, most=2)
        assert not await store.has_room(2, external=external)
        assert await store.has_room(2, external=not external) == external


async def test_a_killed_first_start_does_not_prevent_the_next(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    sqlite3.connect(path).execute("PRAGMA journal_mode = WAL").connection.close()
    assert path.stat().st_size > 0, "the file is not empty"
    store = SQLiteStore(path)
    await store.open()
    await submitted(store, 1)
    await store.close()
