"""The hub on a real store: joining, conflation, slow viewers, the end of jobs, retries, shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
import pytest

from tests.streaming.readers import QUICK, Reader, events_in, joined, reading
from tests.support.clock import Clock
from tests.support.jobs import finish, submitted
from tests.support.waiting import soon
from unstuck.errors import StoreUnavailable
from unstuck.jobs.job import Cancel, Job, Report
from unstuck.jobs.snapshot import Snapshot, public
from unstuck.store.sqlite import SQLiteStore
from unstuck.streaming.config import StreamConfig
from unstuck.streaming.hub import Hub
from unstuck.streaming.viewer import Subscription, Viewer


async def test_a_stream_from_its_first_event_to_its_last(store: SQLiteStore, hub: Hub) -> None:
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
    """A store that reads at once but answers only when `answer` is set."""

    def __init__(self, path: Any) -> None:
        super().__init__(path)
        self.reads = 0
        self.answer = asyncio.Event()

    def cached_snapshot(self, job_id: str) -> None:
        return None

    async def snapshot(self, job_id: str) -> Snapshot:
        found = await super().snapshot(job_id)
        self.reads += 1
        await self.answer.wait()
        return found


async def test_a_viewer_never_starts_with_a_stale_snapshot(tmp_path: Any) -> None:
    """A first event is trusted, but a snapshot read before the viewer joined may be older than its last poll."""
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


async def test_an_event_has_the_same_object_as_a_poll(store: SQLiteStore, hub: Hub, clock: Clock) -> None:
    job_id = await submitted(store)
    async with reading(hub, job_id) as reader:
        await soon(lambda: reader.events)
    snapshot = await store.snapshot(job_id)
    assert msgspec.to_builtins(public(snapshot, clock.now, "")) == reader.of("job")[0]


async def test_every_viewer_sees_the_end_whenever_it_joins(store: SQLiteStore, hub: Hub) -> None:
    """No commit during a read is lost, with many jobs and viewers joining all the time."""
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


async def test_a_new_viewer_costs_the_others_nothing(
    store: SQLiteStore, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a thousand viewers that join one after another would cost half a million offers."""
    offered: list[Viewer] = []
    offer = Subscription.offer

    def recorded(to: Subscription, *what: Any) -> Any:
        offered.append(to.viewer)
        return offer(to, *what)

    monkeypatch.setattr(Subscription, "offer", recorded)
    job_id = await submitted(store)
    viewers = [await joined(hub, [job_id])]
    await viewers[0].wait_ready()
    await soon(lambda: not hub._registry.jobs[job_id].busy)
    offered.clear()
    for _ in range(20):
        viewers.append(await joined(hub, [job_id]))
        await viewers[-1].wait_ready()
    assert offered == viewers[1:]
    await store.apply([Cancel(job_id)])
    await soon(lambda: all(viewer.newest_seq(job_id) == 2 for viewer in viewers))


async def test_a_slow_viewer_gets_the_newest_state_and_no_backlog(store: SQLiteStore, hub: Hub) -> None:
    job_id = await submitted(store, 50)
    slow = await joined(hub, [job_id], ends=True)
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


async def test_changes_within_the_interval_are_one_event_but_the_end_is_immediate(store: SQLiteStore) -> None:
    hub = Hub(store, StreamConfig(interval_s=3600.0))
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


async def test_an_old_stream_is_told_to_leave(store: SQLiteStore, hub: Hub) -> None:
    job_id = await submitted(store)
    async with reading(hub, job_id) as reader:
        await soon(lambda: reader.events)
        await hub.heartbeat.send(asyncio.get_running_loop().time() + 600.0)
        await soon(lambda: reader.ended)
    assert reader.events[-1][0] == "leaving"
    assert 0 < reader.events[-1][1]["retry_ms"] <= 3000


async def test_every_viewer_gets_leaving_when_the_server_stops(store: SQLiteStore, hub: Hub) -> None:
    job_id = await submitted(store)
    async with reading(hub, job_id) as early:
        await soon(lambda: early.events)
        hub.announce_leaving("the server is stopping")
        await soon(lambda: early.ended)
        async with reading(hub, job_id) as late:
            await soon(lambda: late.ended)
    assert early.events[-1][0] == late.events[-1][0] == "leaving"


async def test_a_stream_of_all_jobs_shows_new_ones(store: SQLiteStore, hub: Hub) -> None:
    old = await submitted(store)
    async with reading(hub, all_jobs=True) as reader:
        await soon(lambda: reader.of("job"))
        new = await submitted(store)
        await soon(lambda: {job["id"] for job in reader.of("job")} == {old, new})
        await store.apply([Cancel(new)])
        await soon(lambda: reader.of("job")[-1]["done"])
        assert not reader.ended
        await hub.heartbeat.send(0.0)
        await soon(lambda: reader.of("heartbeat"))
        assert set(reader.of("heartbeat")[-1]["jobs"]) == {old, new}
        await hub.heartbeat.send(asyncio.get_running_loop().time() + 61.0)
        await soon(lambda: set(reader.of("heartbeat")[-1]["jobs"]) == {old})


async def test_a_removed_job_sends_gone(store: SQLiteStore, hub: Hub) -> None:
    job_id = await submitted(store)
    await store.apply([Cancel(job_id)])
    async with reading(hub, job_id, ends=False) as reader:
        await soon(lambda: reader.events)
        await store.remove(job_id)
        await soon(lambda: reader.of("gone"))
    assert reader.of("gone") == [{"job_id": job_id, "code": "job_not_found"}]
    assert hub.watched == 0


async def test_a_failing_store_does_not_stop_heartbeats(tmp_path: Any) -> None:
    store = FailingStore(tmp_path / "s.db")
    await store.open()
    hub = Hub(store, QUICK)
    job_id = await submitted(store)
    async with reading(hub, job_id) as reader:
        await soon(lambda: reader.events)
        store.seqs_fail = True
        await hub.heartbeat.send(0.0)
        await soon(lambda: reader.of("heartbeat"))
        # A heartbeat that named a seq would confirm it, and clients would stop polling.
        assert reader.of("heartbeat")[-1]["jobs"] == {}
    await hub.close()
    await store.close()


class FailingStore(SQLiteStore):
    """The real store, but the next `failures` reads fail."""

    failures = 0
    seqs_fail = False

    async def seqs(self, job_ids: Sequence[str]) -> dict[str, int]:
        if self.seqs_fail:
            raise StoreUnavailable("the disk is on fire")
        return await super().seqs(job_ids)

    def cached_snapshot(self, job_id: str) -> None:
        return None

    async def snapshot(self, job_id: str) -> Snapshot:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("the disk is on fire")
        return await super().snapshot(job_id)


@pytest.mark.parametrize(("failures", "given_up"), [(2, 0), (3, 1)])
async def test_a_failed_broadcast_is_logged_counted_and_repeated(
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
        await soon(lambda: hub.stats.broadcast_retries == failures)
        if given_up:
            await soon(lambda: hub.stats.broadcast_failures)
            await hub.heartbeat.send(0.0)  # finds the viewer that is behind
        await soon(lambda: reader.ended)
    assert reader.of("job")[-1]["state"] == "cancelled"
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [record.getMessage() for record in errors] == [
        f"Broadcast failed: job={job_id} attempt={attempt} attempts=3" for attempt in range(1, failures + 1)
    ]
    assert all(record.exc_info for record in errors)
    await hub.close()
    await store.close()


async def test_a_viewer_of_the_progress_is_sent_a_part_between_whole_states(store: SQLiteStore, hub: Hub) -> None:
    job_id = await submitted(store, 1)
    slim = [await joined(hub, [job_id], only_progress=True, ends=True) for _ in range(2)]
    whole = await joined(hub, [job_id], wants_items=False, ends=True)

    async def taken() -> tuple[bytes, dict[str, Any]]:
        pending = [await anext(viewer) for viewer in (*slim, whole)]
        assert pending[0] is pending[1], "it is encoded once for all"
        return pending[0], events_in(pending[2])[0][1]

    first, job = await taken()
    assert events_in(first) == [("job", job)]
    (item,) = await store.claim(1, 30.0)
    await taken()
    await store.apply([Report(job_id, 0, item.item.lease, 1.0, 0.5, "half of it")])
    part, job = await taken()
    ((name, found),) = events_in(part)
    progress = found.pop("progress")
    assert name == "job"
    assert found.items() <= job.items()
    assert progress.items() <= job["progress"].items()
    assert {"id", "seq", "state", "done", "health", "poll_after_ms"} <= found.keys()
    assert {"total", "processed", "percent", "eta_seconds"} <= progress.keys()
    assert len(part) < len(first) / 3
    await store.apply([finish(item)])
    last, job = await taken()
    assert events_in(last) == [("job", job)]
    assert job["done"] is True
