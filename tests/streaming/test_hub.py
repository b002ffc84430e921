"""The hub over a real store: joining, conflation, slow readers, the end, retries, farewells."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from tests.streaming.readers import QUICK, Reader, events_in, reading
from tests.support.clock import Clock
from tests.support.jobs import finish, submitted
from tests.support.waiting import soon
from unstuck.errors import StoreUnavailable
from unstuck.jobs.job import Cancel, Job, Report
from unstuck.jobs.snapshot import Snapshot, public
from unstuck.store.sqlite import SQLiteStore
from unstuck.streaming.config import Pace
from unstuck.streaming.hub import Hub
from unstuck.streaming.viewer import Seat, Viewer


async def test_from_the_first_event_to_the_last(store: SQLiteStore, hub: Hub) -> None:
    job_id = await submitted(store)
    async with reading(hub, job_id) as reader:
        await soon(lambda: reader.events)
        assert reader.events[0][0] == "job"
        for one in await store.claim(3, 30.0):
            await store.apply([finish(one)])
        await soon(lambda: reader.ended)
    seqs = [job["seq"] for job in reader.of("job")]
    assert seqs == sorted(set(seqs))
    assert reader.events[-1][0] == "job"
    assert reader.events[-1][1]["done"] is True
    shown = {item["index"] for event in reader.of("items") for item in event["items"]}
    assert shown == {0, 1, 2}
    assert hub.streams == hub.watched == 0


class LateStore(SQLiteStore):
    """What it has read, it keeps to itself until it is told to."""

    def __init__(self, path: Any) -> None:
        super().__init__(path)
        self.reads = 0
        self.answer = asyncio.Event()

    def look(self, job_id: str) -> None:
        return None

    async def snapshot(self, job_id: str) -> Snapshot:
        found = await super().snapshot(job_id)
        self.reads += 1
        await self.answer.wait()
        return found


async def test_a_viewer_never_starts_with_a_stale_snapshot(tmp_path: Any) -> None:
    """A snapshot read before it joined may be older than what a poll told it, and a first event is believed."""
    store = LateStore(tmp_path / "s.db")
    await store.open()
    hub = Hub(store, QUICK)
    job_id = await submitted(store)
    async with reading(hub, job_id) as early:
        await soon(lambda: store.reads == 1)
        await store.apply([Cancel(job_id)])
        async with reading(hub, job_id) as late:
            store.answer.set()
            await soon(lambda: early.ended and late.ended)
    assert [job["state"] for job in late.of("job")] == ["cancelled"]
    await hub.close()
    await store.close()


async def test_the_very_same_object_as_a_poll(store: SQLiteStore, hub: Hub, clock: Clock) -> None:
    job_id = await submitted(store)
    async with reading(hub, job_id) as reader:
        await soon(lambda: reader.events)
    snapshot = await store.snapshot(job_id)
    assert json.loads(json.dumps(public(snapshot, clock.now, ""))) == reader.of("job")[0]


async def test_every_viewer_sees_the_end_whatever_the_moment_of_joining(store: SQLiteStore, hub: Hub) -> None:
    """Wakes that pass during a read must not be lost: many jobs, viewers that join all the time."""
    for _ in range(20):
        job_id = await submitted(store, 5)
        readers: list[Reader] = []

        async def watch(job_id: str = job_id, readers: list[Reader] = readers) -> None:
            async with reading(hub, job_id) as reader:
                readers.append(reader)
                await soon(lambda: reader.ended)

        async with asyncio.TaskGroup() as group:
            for one in await store.claim(5, 30.0):
                for _ in range(4):
                    group.create_task(watch())
                group.create_task(store.apply([finish(one)]))
                await asyncio.sleep(0)
        assert len(readers) == 20
        assert all(reader.of("job")[-1]["done"] for reader in readers)


async def test_a_viewer_that_joins_costs_the_others_nothing(
    store: SQLiteStore, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a thousand who come one after the other cost half a million looks."""
    shown: list[Viewer] = []
    show = Seat.show

    def noted(seat: Seat, *what: Any) -> Any:
        shown.append(seat.viewer)
        return show(seat, *what)

    monkeypatch.setattr(Seat, "show", noted)
    job_id = await submitted(store)
    viewers = [await hub.join([job_id], base="")]
    await viewers[0].something()
    await soon(lambda: not hub._audience.watches[job_id].busy)
    shown.clear()
    for _ in range(20):
        viewers.append(await hub.join([job_id], base=""))
        await viewers[-1].something()
    assert shown == viewers[1:]
    await store.apply([Cancel(job_id)])
    await soon(lambda: all(viewer.holds(job_id) == 2 for viewer in viewers))


async def test_a_slow_reader_gets_the_newest_truth_and_no_backlog(store: SQLiteStore, hub: Hub) -> None:
    job_id = await submitted(store, 50)
    slow = await hub.join([job_id], base="", ends=True)
    async with reading(hub, job_id) as quick:
        first = events_in(await anext(slow))
        assert [name for name, _ in first] == ["job"]
        for one in await store.claim(50, 30.0):
            (job,) = await store.apply([finish(one)])
            assert isinstance(job, Job)
            await soon(partial(quick.has_seen, job.seq))
        rest = events_in(await anext(slow))
        assert [name for name, _ in rest] == ["items", "job"]
        assert rest[0][1] == {"job_id": job_id, "seq": rest[1][1]["seq"], "items": [], "more": True}
        assert rest[1][1]["done"] is True
        with pytest.raises(StopAsyncIteration):
            await anext(slow)


async def test_changes_within_the_interval_are_one_event_but_the_end_is_at_once(store: SQLiteStore) -> None:
    hub = Hub(store, Pace(interval_s=3600.0))
    job_id = await submitted(store, 2)
    async with reading(hub, job_id) as reader:
        await soon(lambda: reader.events)
        one, two = await store.claim(2, 30.0)
        for fraction in (0.1, 0.2, 0.3):
            await store.apply([Report(job_id, 0, one.item.lease, 1.0, fraction)])
        await store.apply([finish(one), finish(two)])
        await soon(lambda: reader.ended)
    assert len(reader.of("job")) == 2
    await hub.close()


async def test_a_closed_hub_looks_for_nothing_more(store: SQLiteStore) -> None:
    """What waits for its interval would find a closed store, and say so three times in the log."""
    hub = Hub(store, Pace(interval_s=3600.0))
    job_id = await submitted(store)
    async with reading(hub, job_id) as reader:
        watch = hub._audience.watches[job_id]
        await soon(lambda: reader.events and not watch.busy)
        await store.claim(1, 30.0)
        await soon(lambda: watch.timer is not None)
        due = watch.timer
        await hub.close()
        assert due is not None
        assert due.cancelled()


async def test_an_old_stream_is_sent_away(store: SQLiteStore, hub: Hub) -> None:
    job_id = await submitted(store)
    async with reading(hub, job_id) as reader:
        await soon(lambda: reader.events)
        await hub.beats.beat(asyncio.get_running_loop().time() + 600.0)
        await soon(lambda: reader.ended)
    assert reader.events[-1][0] == "leaving"
    assert 0 < reader.events[-1][1]["retry_ms"] <= 3000


async def test_at_the_end_every_viewer_gets_a_farewell(store: SQLiteStore, hub: Hub) -> None:
    job_id = await submitted(store)
    async with reading(hub, job_id) as early:
        await soon(lambda: early.events)
        hub.leave("the server is stopping")
        await soon(lambda: early.ended)
        async with reading(hub, job_id) as late:
            await soon(lambda: late.ended)
    assert early.events[-1][0] == late.events[-1][0] == "leaving"


async def test_a_stream_of_all_jobs_hears_of_new_ones(store: SQLiteStore, hub: Hub) -> None:
    old = await submitted(store)
    async with reading(hub, all_jobs=True) as reader:
        await soon(lambda: reader.of("job"))
        new = await submitted(store)
        await soon(lambda: {job["id"] for job in reader.of("job")} == {old, new})
        await store.apply([Cancel(new)])
        await soon(lambda: reader.of("job")[-1]["done"])
        assert not reader.ended
        await hub.beats.beat(0.0)
        await soon(lambda: reader.of("heartbeat"))
        assert set(reader.of("heartbeat")[-1]["jobs"]) == {old, new}
        await hub.beats.beat(asyncio.get_running_loop().time() + 61.0)
        await soon(lambda: set(reader.of("heartbeat")[-1]["jobs"]) == {old})


async def test_a_removed_job_is_gone(store: SQLiteStore, hub: Hub) -> None:
    job_id = await submitted(store)
    await store.apply([Cancel(job_id)])
    async with reading(hub, job_id, ends=False) as reader:
        await soon(lambda: reader.events)
        await store.remove(job_id)
        await soon(lambda: reader.of("gone"))
    assert reader.of("gone") == [{"job_id": job_id, "code": "job_not_found"}]
    assert hub.watched == 0


async def test_a_store_that_does_not_answer_stops_no_heartbeat(tmp_path: Any) -> None:
    store = FailingStore(tmp_path / "s.db")
    await store.open()
    hub = Hub(store, QUICK)
    job_id = await submitted(store)
    async with reading(hub, job_id) as reader:
        await soon(lambda: reader.events)
        store.seqs_fail = True
        await hub.beats.beat(0.0)
        await soon(lambda: reader.of("heartbeat"))
        # A beat that named a seq would confirm it, and nobody would ask any more.
        assert reader.of("heartbeat")[-1]["jobs"] == {}
    await hub.close()
    await store.close()


class FailingStore(SQLiteStore):
    """The real store, whose reads fail as often as the test says."""

    failures = 0
    seqs_fail = False

    async def seqs(self, job_ids: Sequence[str]) -> dict[str, int]:
        if self.seqs_fail:
            raise StoreUnavailable("the disk is on fire")
        return await super().seqs(job_ids)

    def look(self, job_id: str) -> None:
        return None

    async def snapshot(self, job_id: str) -> Snapshot:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("the disk is on fire")
        return await super().snapshot(job_id)


@pytest.mark.parametrize(("failures", "given_up"), [(2, 0), (3, 1)])
async def test_a_failed_broadcast_is_logged_counted_and_made_good(
    tmp_path: Any, failures: int, given_up: int, caplog: pytest.LogCaptureFixture
) -> None:
    store = FailingStore(tmp_path / "s.db")
    await store.open()
    hub = Hub(store, QUICK)
    job_id = await submitted(store)
    async with reading(hub, job_id) as reader:
        await soon(lambda: reader.events)
        store.failures = failures
        await store.apply([Cancel(job_id)])
        await soon(lambda: hub.counts.broadcast_retries == failures)
        if given_up:
            await soon(lambda: hub.counts.broadcast_failures)
            await hub.beats.beat(0.0)  # the heartbeat finds who lacks it
        await soon(lambda: reader.ended)
    assert reader.of("job")[-1]["state"] == "cancelled"
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == failures
    assert all(record.exc_info for record in errors)
    await hub.close()
    await store.close()
