"""The hub's queue: a few jobs in each loop iteration, and no change lost, whatever the order of events."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from tests.faults import virtual_time
from tests.streaming.live_jobs import MemoryJobs
from tests.streaming.readers import QUICK, events_in, joined, left
from unstuck.streaming.config import StreamConfig
from unstuck.streaming.hub import AT_ONCE, GATHER_S, Hub
from unstuck.streaming.viewer import Viewer
from unstuck.streaming.watched_job import IDLE, LOADED, QUEUED, READING, SCHEDULED

JOB = "job"


async def settled(hub: Hub) -> None:
    """Wait until the hub has nothing left to do."""
    while any(job.busy for job in hub._registry.jobs.values()):
        await asyncio.sleep(0.01)


class Broadcasts(Hub):
    """A hub that records the loop iteration of each broadcast."""

    def __init__(self, *of: Any) -> None:
        super().__init__(*of)
        self.iteration = 0
        self.seen: list[tuple[int, str]] = []

    def _broadcast(self, job: Any, *what: Any) -> None:
        self.seen.append((self.iteration, job.job_id))
        super()._broadcast(job, *what)


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("wants_items", [True, False])
async def test_an_iteration_serves_a_few_jobs_in_the_order_of_their_changes(
    cached: bool, wants_items: bool
) -> None:
    """Serving 500 jobs at once, as when one commit releases them all, blocked the loop for 150 ms."""
    job_ids = [f"{number:03}" for number in range(AT_ONCE * 3 + 1)]
    store = MemoryJobs(*job_ids)
    hub = Broadcasts(store, QUICK)
    for job_id in job_ids:
        await joined(hub, [job_id], wants_items=wants_items)
    await settled(hub)
    hub.seen.clear()
    if not cached:
        store.cached.clear()
    store.gate.clear()
    store.commit(*job_ids)
    while len(hub.seen) < len(job_ids):
        await asyncio.sleep(0)
        hub.iteration += 1
        if hub.iteration == 10:
            store.gate.set()  # all reads answer together
    assert [job_id for _, job_id in hub.seen] == job_ids
    iterations = [iteration for iteration, _ in hub.seen]
    assert max(iterations.count(one) for one in iterations) == AT_ONCE


async def test_a_job_that_changes_during_its_read_is_read_again() -> None:
    store = MemoryJobs(JOB)
    hub = Hub(store, QUICK)
    viewer = await joined(hub, [JOB])
    await settled(hub)
    store.cached.clear()
    store.gate.clear()
    store.commit(JOB)
    while not store.reads:
        await asyncio.sleep(0)
    job = hub._registry.jobs[JOB]
    assert (job.phase, job.dirty) == (READING, False)
    store.commit(JOB)
    assert (job.phase, job.dirty) == (READING, True)
    store.gate.set()
    await settled(hub)
    assert store.reads == [JOB, JOB]
    assert viewer.newest_seq(JOB) == 3


async def test_a_job_that_changes_after_its_read_is_read_again() -> None:
    store = MemoryJobs(JOB)
    hub = Hub(store, QUICK)
    viewer = await joined(hub, [JOB])
    await settled(hub)
    store.cached.clear()
    store.commit(JOB)
    job = hub._registry.jobs[JOB]
    while job.phase is not LOADED:
        await asyncio.sleep(0)
    store.commit(JOB)
    assert (job.phase, job.dirty) == (LOADED, True)
    await settled(hub)
    assert store.reads == [JOB, JOB]
    assert viewer.newest_seq(JOB) == 3


async def test_a_newer_snapshot_read_for_a_new_viewer_is_sent_to_all() -> None:
    """A read may see a commit before the hub is notified of it.

    If it were sent to the new viewer alone, the others would be behind what the hub has broadcast, and would get
    none of its items.
    """
    store = MemoryJobs(JOB)
    hub = Hub(store, QUICK)
    viewer = await joined(hub, [JOB])
    await settled(hub)
    viewer.take()
    changed = store.change(JOB)
    await joined(hub, [JOB])
    await settled(hub)
    assert viewer.newest_seq(JOB) == 2
    store.publish(changed)
    await settled(hub)
    assert [name for name, _ in events_in(viewer.take())] == ["items", "job"]


async def test_changes_before_a_broadcast_cost_one_broadcast() -> None:
    store = MemoryJobs(JOB)
    hub = Hub(store, QUICK)
    await joined(hub, [JOB], wants_items=False)
    await settled(hub)
    before = hub.stats.broadcasts
    for _ in range(10):
        store.commit(JOB)
    assert hub._registry.jobs[JOB].phase is QUEUED
    await settled(hub)
    assert hub.stats.broadcasts == before + 1


async def test_a_queued_job_whose_viewers_have_left_is_not_read() -> None:
    store = MemoryJobs(JOB)
    hub = Hub(store, QUICK)
    left(await joined(hub, [JOB]))
    for _ in range(5):
        await asyncio.sleep(0)
    assert (hub.stats.broadcasts, hub.watched, store.reads) == (0, 0, [])


async def test_the_end_of_a_job_does_not_wait_for_the_interval() -> None:
    store = MemoryJobs(JOB)
    hub = Hub(store, StreamConfig(interval_s=3600.0))
    viewer = await joined(hub, [JOB], ends=True)
    await settled(hub)
    store.commit(JOB)
    job = hub._registry.jobs[JOB]
    assert job.phase is SCHEDULED
    timer = job.timer
    store.commit(JOB)
    assert job.timer is timer, "a second change needs no other timer"
    store.commit(JOB, done=True)
    assert job.phase is QUEUED
    assert timer is not None
    assert timer.cancelled()
    await settled(hub)
    assert viewer.ended


def test_new_viewers_do_not_wait_for_the_interval_but_share_a_broadcast() -> None:
    """Otherwise a storm of thousands would cost a broadcast for each, or make them wait."""

    async def play() -> None:
        store = MemoryJobs(JOB)
        hub = Hub(store, StreamConfig(interval_s=3600.0))
        first = await joined(hub, [JOB])
        await first.wait_ready()
        broadcasts = hub.stats.broadcasts
        loop = asyncio.get_running_loop()
        start = loop.time()
        viewers = [await joined(hub, [JOB]) for _ in range(50)]
        for viewer in viewers:
            await viewer.wait_ready()
        assert loop.time() - start == pytest.approx(GATHER_S)
        assert hub.stats.broadcasts == broadcasts + 1

    virtual_time.run(play())


def test_a_failed_read_is_repeated_after_a_pause() -> None:
    async def play() -> None:
        store = MemoryJobs(JOB)
        hub = Hub(store, StreamConfig(broadcast_attempts=3, broadcast_pause_s=0.5))
        store.cached.clear()
        store.failures = 2
        await asyncio.sleep(GATHER_S)  # so that no interval delays the first attempt
        start = asyncio.get_running_loop().time()
        viewer = await joined(hub, [JOB])
        await viewer.wait_ready()
        assert asyncio.get_running_loop().time() - start == pytest.approx(1.0)
        assert hub.stats.broadcast_retries == 2
        await settled(hub)
        assert hub._registry.jobs[JOB].failures == 0, "the next failure gets all attempts again"

    virtual_time.run(play())


async def test_closing_the_hub_cancels_its_timers() -> None:
    """Otherwise the store would be closed when the interval ends, and three errors would be logged."""
    store = MemoryJobs(JOB)
    hub = Hub(store, StreamConfig(interval_s=3600.0))
    await joined(hub, [JOB])
    await settled(hub)
    store.commit(JOB)
    timer = hub._registry.jobs[JOB].timer
    assert timer is not None
    await hub.close()
    assert timer.cancelled()


async def test_a_closed_hub_reads_no_more() -> None:
    store = MemoryJobs("queued", "read")
    hub = Hub(store, QUICK)
    store.cached.clear()
    store.gate.clear()
    await joined(hub, ["read"])
    while not store.reads:
        await asyncio.sleep(0)
    await joined(hub, ["queued"])
    await hub.close()
    store.gate.set()
    store.commit("queued", "read")
    for _ in range(10):
        await asyncio.sleep(0)
    assert store.reads == ["read"]
    for viewer in tuple(hub._registry.viewers):
        left(viewer)
    assert hub.watched == 0


class Play:
    """Random events at a hub, and checks after each of them and at the end."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.store = MemoryJobs(*"abc")
        endless = 10**9  # attempts, because there is no heartbeat here to repair a broadcast that was given up
        self.config = StreamConfig(interval_s=0.1, broadcast_attempts=endless, broadcast_pause_s=0.05)
        self.hub = Hub(self.store, self.config)
        #: {viewer: (the seqs of its jobs when it joined, the seqs that it has been sent)}
        self.viewers: dict[Viewer, tuple[dict[str, int], dict[str, list[int]]]] = {}

    async def run(self, events: int) -> None:
        steps = [self.commit, self.commit, self.join, self.leave, self.cache, self.gate, self.fail]
        for _ in range(events):
            await self.chance.choice(steps)()
            for _ in range(self.chance.choice((0, 0, 1, 2, 3))):
                await asyncio.sleep(0)
                self.check()
            if self.chance.random() < 0.2:
                await asyncio.sleep(self.chance.choice((0.005, 0.05, 0.15)))
            self.check()
        self.store.gate.set()
        self.store.failures = 0
        await settled(self.hub)
        self.check()
        for viewer, (at_first, _) in self.viewers.items():
            for job_id in at_first:
                assert viewer.newest_seq(job_id) == self.store.jobs[job_id].seq, "a change was lost"
        assert set(self.hub._registry.jobs) == {one for first, _ in self.viewers.values() for one in first}

    async def commit(self) -> None:
        self.store.commit(*self.chance.sample("abc", self.chance.randint(1, 3)))

    async def join(self) -> None:
        job_ids = self.chance.sample("abc", self.chance.randint(1, 2))
        at_first = {job_id: self.store.jobs[job_id].seq for job_id in job_ids}
        viewer = await joined(self.hub, job_ids, wants_items=self.chance.random() < 0.5)
        self.viewers[viewer] = at_first, {job_id: [] for job_id in job_ids}

    async def leave(self) -> None:
        if self.viewers:
            viewer = self.chance.choice(list(self.viewers))
            del self.viewers[viewer]
            left(viewer)

    async def cache(self) -> None:
        self.store.cached ^= {self.chance.choice("abc")}

    async def gate(self) -> None:
        (self.store.gate.clear if self.chance.random() < 0.5 else self.store.gate.set)()

    async def fail(self) -> None:
        self.store.failures = self.chance.choice((0, 1, 2))

    def check(self) -> None:
        for job in self.hub._registry.jobs.values():
            assert job.subscriptions, "a job without viewers is not watched"
            assert not (job.phase is IDLE and job.dirty), "an idle job is dirty"
            assert job.dirty or job.phase not in (SCHEDULED, QUEUED), "a broadcast without a change"
            assert (job.timer is not None) == (job.phase is SCHEDULED)
            assert (job.task is not None) == (job.phase is READING)
            assert (job.loaded is not None) == (job.phase is LOADED)
            assert (job in self.hub._queue) == (job.phase in (QUEUED, LOADED))
        for viewer, (at_first, sent) in self.viewers.items():
            for job_id, seqs in sent.items():
                newest = viewer.newest_seq(job_id)
                if newest is not None and newest != (seqs or [0])[-1]:
                    assert newest >= at_first[job_id], "older than the job was when the viewer joined"
                    assert not seqs or newest > seqs[-1]
                    seqs.append(newest)


@pytest.mark.parametrize("block", range(4))
def test_no_change_is_lost_whatever_the_order_of_events(block: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL")  # failed reads are logged with their tracebacks
    for seed in range(block * 50, block * 50 + 50):

        async def play(seed: int = seed) -> None:
            await Play(seed).run(60)

        virtual_time.run(play())
