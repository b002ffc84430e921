"""Heartbeats: which streams get one and when, what it contains, and what its comparison of seqs finds."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.streaming.readers import Reader, reading
from tests.support.jobs import submitted
from tests.support.waiting import soon
from unstuck.jobs.job import Cancel
from unstuck.store.sqlite import SQLiteStore
from unstuck.streaming.config import StreamConfig
from unstuck.streaming.hub import Hub
from unstuck.streaming.viewer import Subscription
from unstuck.streaming.watched_job import IDLE


async def heartbeats_at(hub: Hub, reader: Reader, tick: int, after_s: float) -> list[float]:
    """Run this tick as if `after_s` had passed; return the `next_s` of its heartbeats."""
    before = len(reader.of("heartbeat"))
    await hub.heartbeat.tick(tick, asyncio.get_running_loop().time() + after_s)
    await soon(lambda: hub._registry.viewers and all(viewer.empty for viewer in hub._registry.viewers))
    return [heartbeat["next_s"] for heartbeat in reader.of("heartbeat")[before:]]


async def test_a_new_viewer_gets_a_heartbeat_at_once(store: SQLiteStore, hub: Hub) -> None:
    """Otherwise a stream that dies before its first heartbeat would be trusted for the longest interval."""
    one, two = await submitted(store), await submitted(store)
    greeting = asyncio.create_task(hub.heartbeat.greet_new_viewers())
    async with reading(hub, one, two, ends=False) as reader:
        await soon(lambda: reader.of("heartbeat"))
    greeting.cancel()
    assert [name for name, _ in reader.events] == ["job", "job", "heartbeat"]
    assert reader.of("heartbeat")[0]["jobs"] == {one: 1, two: 1}
    assert reader.of("heartbeat")[0]["next_s"] == 5


async def test_heartbeats_are_frequent_while_a_job_is_active(store: SQLiteStore, hub: Hub) -> None:
    job_id = await submitted(store)
    async with reading(hub, job_id) as reader:
        await soon(lambda: reader.events)
        assert await heartbeats_at(hub, reader, 1, 30.0) == [5]
        # After a minute without a change, the promised heartbeat still comes; the ones after it are rarer.
        assert await heartbeats_at(hub, reader, 2, 65.0) == [15]
        assert await heartbeats_at(hub, reader, 4, 70.0) == []
        assert await heartbeats_at(hub, reader, 6, 80.0) == [15]
        await store.claim(1, 30.0)
        await soon(lambda: len(reader.of("job")) == 2)
        assert await heartbeats_at(hub, reader, 7, 1.0) == [5]


async def test_one_active_job_makes_only_its_own_stream_active(store: SQLiteStore, hub: Hub) -> None:
    still, moving = await submitted(store), await submitted(store)
    async with reading(hub, still) as quiet, reading(hub, still, moving, ends=False) as busy:
        await soon(lambda: quiet.events and len(busy.events) == 2)
        await hub.heartbeat.tick(3, asyncio.get_running_loop().time() + 65.0)
        await soon(lambda: quiet.of("heartbeat") and busy.of("heartbeat"))
        hub._registry.jobs[moving].changed_at += 65.0
        assert await heartbeats_at(hub, busy, 4, 65.0) == [5]
        assert len(quiet.of("heartbeat")) == 1
        assert busy.of("heartbeat")[-1]["jobs"] == {still: 1, moving: 1}, "the inactive job is included"


async def test_a_job_that_has_ended_is_not_active(store: SQLiteStore, hub: Hub) -> None:
    job_id = await submitted(store)
    async with reading(hub, job_id, ends=False) as reader:
        await soon(lambda: reader.events)
        assert await heartbeats_at(hub, reader, 1, 1.0) == [5]
        await store.apply([Cancel(job_id)])
        await soon(lambda: len(reader.of("job")) == 2)
        assert await heartbeats_at(hub, reader, 2, 6.0) == [15], "the promised heartbeat comes"
        assert await heartbeats_at(hub, reader, 4, 11.0) == []


async def test_a_lost_change_on_an_active_stream_is_found_at_the_next_tick(
    store: SQLiteStore, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await submitted(store)
    async with reading(hub, job_id) as reader:
        await soon(lambda: reader.events)
        assert await heartbeats_at(hub, reader, 1, 0.0) == [5]
        with monkeypatch.context() as broken:
            broken.setattr(Subscription, "offer", lambda *_: None)
            await store.apply([Cancel(job_id)])
            await soon(lambda: hub._registry.jobs[job_id].seq == 2 and hub._registry.jobs[job_id].phase is IDLE)
        await hub.heartbeat.tick(2, asyncio.get_running_loop().time())
        await soon(lambda: reader.ended)
    assert hub.stats.rescues == 1


async def test_heartbeats_name_the_seqs_that_the_stream_has_sent(store: SQLiteStore, hub: Hub) -> None:
    one, two = await submitted(store), await submitted(store)
    async with reading(hub, one, two, ends=False) as reader:
        await soon(lambda: len(reader.of("job")) == 2)
        await hub.heartbeat.send(0.0)
        await soon(lambda: reader.of("heartbeat"))
        assert reader.of("heartbeat")[0]["jobs"] == {one: 1, two: 1}


async def test_a_heartbeat_sends_a_change_that_a_viewer_has_missed(
    store: SQLiteStore, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The heartbeat notices a broadcast that silently did nothing."""
    job_id = await submitted(store)
    async with reading(hub, job_id) as reader:
        await soon(lambda: reader.events)
        with monkeypatch.context() as broken:
            broken.setattr(Subscription, "offer", lambda *_: None)
            await store.apply([Cancel(job_id)])
            await soon(lambda: hub._registry.jobs[job_id].seq == 2 and hub._registry.jobs[job_id].phase is IDLE)
        assert len(reader.of("job")) == 1
        await hub.heartbeat.send(0.0)
        await soon(lambda: reader.ended)
    assert reader.of("job")[-1]["state"] == "cancelled"
    assert hub.stats.rescues == 1


async def test_a_heartbeat_does_not_name_a_change_that_is_still_queued(store: SQLiteStore) -> None:
    """Otherwise every client of a busy job would poll for a change that it is about to be sent."""
    changed: list[Any] = []
    store.on_commit(changed.append)
    hub = Hub(store, StreamConfig(interval_s=3600.0))
    job_id = await submitted(store)
    await soon(lambda: changed)  # or that commit could mark the job again
    async with reading(hub, job_id) as reader:
        await soon(lambda: reader.events and not hub._registry.jobs[job_id].busy)
        await store.claim(1, 30.0)
        await soon(lambda: hub._registry.jobs[job_id].busy)
        await hub.heartbeat.send(0.0)
        await soon(lambda: reader.of("heartbeat"))
    assert (await store.snapshot(job_id)).job.seq == 2
    assert reader.of("heartbeat")[0]["jobs"] == {job_id: 1}
    assert hub.stats.rescues == 0
    await hub.close()


async def test_a_commit_without_a_notification_is_found_too(store: SQLiteStore, hub: Hub) -> None:
    job_id = await submitted(store)
    async with reading(hub, job_id) as reader:
        await soon(lambda: reader.events)
        store._listeners.clear()
        await store.apply([Cancel(job_id)])
        await hub.heartbeat.send(0.0)
        await soon(lambda: reader.ended)
    assert reader.of("job")[-1]["done"]
