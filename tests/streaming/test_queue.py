"""The hub's queue: so many jobs in each loop iteration, no change lost, whatever happens and in which order."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from tests.faults import virtual_time
from tests.streaming.live_jobs import MemoryJobs
from tests.streaming.readers import QUICK, events_in
from unstuck.streaming.config import StreamConfig
from unstuck.streaming.hub import AT_ONCE, GATHER_S, Hub
from unstuck.streaming.viewer import Viewer
from unstuck.streaming.watched_job import IDLE, LOADED, QUEUED, READING, SCHEDULED

JOB = "job"


async def settled(hub: Hub) -> None:
    """Return when the hub has nothing left to do."""
    while any(job.busy for job in hub._registry.jobs.values()):
        await asyncio.sleep(0.01)


class Broadcasts(Hub):
    """Notes at which loop iteration each job was broadcast."""

    def __init__(self, *of: Any) -> None:
        super().__init__(*of)
        self.iteration = 0
        self.seen: list[tuple[int, str]] = []

    def _broadcast(self, job: Any, *what: Any) -> None:
        self.seen.append((self.iteration, job.job_id))
        super()._broadcast(job, *what)


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("wants_items", [True, False])
async def test_a_loop_iteration_serves_a_few_jobs_in_the_order_of_their_changes(
    cached: bool, wants_items: bool
) -> None:
    """500 at once kept the loop from everything else for 150 ms, those above all that waited for one commit."""
    job_ids = [f"{number:03}" for number in range(AT_ONCE * 3 + 1)]
    store = MemoryJobs(*job_ids)
    hub = Broadcasts(store, QUICK)
    for job_id in job_ids:
        await hub.join([job_id], base="", wants_items=wants_items)
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


async def test_a_change_while_the_job_is_read_is_looked_at_again() -> None:
    store = MemoryJobs(JOB)
    hub = Hub(store, QUICK)
    viewer = await hub.join([JOB], base="")
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


async def test_a_change_while_what_was_read_is_queued_is_looked_at_again() -> None:
    store = MemoryJobs(JOB)
    hub = Hub(store, QUICK)
    viewer = await hub.join([JOB], base="")
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


async def test_what_is_found_for_a_new_viewer_is_sent_to_all_if_it_is_newer() -> None:
    """A commit may be seen before the hub is told of it. Were it sent to the new viewer alone, the others would be
    behind what the hub has broadcast, and would get no items of it."""
    store = MemoryJobs(JOB)
    hub = Hub(store, QUICK)
    viewer = await hub.join([JOB], base="")
    await settled(hub)
    viewer.take()
    changed = store.change(JOB)
    await hub.join([JOB], base="")
    await settled(hub)
    assert viewer.newest_seq(JOB) == 2
    store.publish(changed)
    await settled(hub)
    assert [name for name, _ in events_in(viewer.take())] == ["items", "job"]


async def test_changes_before_the_store_is_asked_cost_one_look() -> None:
    store = MemoryJobs(JOB)
    hub = Hub(store, QUICK)
    await hub.join([JOB], base="", wants_items=False)
    await settled(hub)
    before = hub.stats.broadcasts
    for _ in range(10):
        store.commit(JOB)
    assert hub._registry.jobs[JOB].phase is QUEUED
    await settled(hub)
    assert hub.stats.broadcasts == before + 1


async def test_a_job_whose_viewers_left_while_it_was_queued_is_not_looked_at() -> None:
    store = MemoryJobs(JOB)
    hub = Hub(store, QUICK)
    hub.leave(await hub.join([JOB], base=""))
    for _ in range(5):
        await asyncio.sleep(0)
    assert (hub.stats.broadcasts, hub.watched, store.reads) == (0, 0, [])


async def test_the_end_cancels_the_wait_for_the_interval() -> None:
    store = MemoryJobs(JOB)
    hub = Hub(store, StreamConfig(interval_s=3600.0))
    viewer = await hub.join([JOB], base="", ends=True)
    await settled(hub)
    store.commit(JOB)
    job = hub._registry.jobs[JOB]
    assert job.phase is SCHEDULED
    timer = job.timer
    store.commit(JOB)
    assert job.timer is timer, "a change meanwhile needs no other timer"
    store.commit(JOB, done=True)
    assert job.phase is QUEUED
    assert timer is not None
    assert timer.cancelled()
    await settled(hub)
    assert viewer.ended


def test_viewers_that_join_do_not_wait_for_the_interval_but_share_a_look() -> None:
    """A storm of thousands would else cost a look for each, or make them wait."""

    async def play() -> None:
        store = MemoryJobs(JOB)
        hub = Hub(store, StreamConfig(interval_s=3600.0))
        first = await hub.join([JOB], base="")
        await first.wait_ready()
        looks = hub.stats.broadcasts
        loop = asyncio.get_running_loop()
        start = loop.time()
        viewers = [await hub.join([JOB], base="") for _ in range(50)]
        for viewer in viewers:
            await viewer.wait_ready()
        assert loop.time() - start == pytest.approx(GATHER_S)
        assert hub.stats.broadcasts == looks + 1

    virtual_time.run(play())


def test_a_failed_read_is_tried_again_after_a_pause() -> None:
    async def play() -> None:
        store = MemoryJobs(JOB)
        hub = Hub(store, StreamConfig(broadcast_attempts=3, broadcast_pause_s=0.5))
        store.cached.clear()
        store.failures = 2
        await asyncio.sleep(GATHER_S)  # now no interval delays the first attempt
        start = asyncio.get_running_loop().time()
        viewer = await hub.join([JOB], base="")
        await viewer.wait_ready()
        assert asyncio.get_running_loop().time() - start == pytest.approx(1.0)
        assert hub.stats.broadcast_retries == 2
        await settled(hub)
        assert hub._registry.jobs[JOB].failures == 0, "the next failure has all its attempts"

    virtual_time.run(play())


async def test_a_closed_hub_waits_for_no_interval() -> None:
    """When it is over the store would be closed, and the log would say so three times."""
    store = MemoryJobs(JOB)
    hub = Hub(store, StreamConfig(interval_s=3600.0))
    await hub.join([JOB], base="")
    await settled(hub)
    store.commit(JOB)
    timer = hub._registry.jobs[JOB].timer
    assert timer is not None
    await hub.close()
    assert timer.cancelled()


async def test_a_closed_hub_asks_for_nothing_more() -> None:
    store = MemoryJobs("queued", "read")
    hub = Hub(store, QUICK)
    store.cached.clear()
    store.gate.clear()
    await hub.join(["read"], base="")
    while not store.reads:
        await asyncio.sleep(0)
    await hub.join(["queued"], base="")
    await hub.close()
    store.gate.set()
    store.commit("queued", "read")
    for _ in range(10):
        await asyncio.sleep(0)
    assert store.reads == ["read"]
    for viewer in tuple(hub._registry.viewers):
        hub.leave(viewer)
    assert hub.watched == 0


class Play:
    """Random events at a hub, and what must be true after each of them and when all is over."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.store = MemoryJobs(*"abc")
        every = 10**9  # attempts: what was given up is the heartbeat's, and there is none here
        self.config = StreamConfig(interval_s=0.1, broadcast_attempts=every, broadcast_pause_s=0.05)
        self.hub = Hub(self.store, self.config)
        #: Each viewer with the seqs that its jobs had when it joined, and the ones that it was handed.
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
        viewer = await self.hub.join(job_ids, base="", wants_items=self.chance.random() < 0.5)
        self.viewers[viewer] = at_first, {job_id: [] for job_id in job_ids}

    async def leave(self) -> None:
        if self.viewers:
            viewer = self.chance.choice(list(self.viewers))
            del self.viewers[viewer]
            self.hub.leave(viewer)

    async def cache(self) -> None:
        self.store.cached ^= {self.chance.choice("abc")}

    async def gate(self) -> None:
        (self.store.gate.clear if self.chance.random() < 0.5 else self.store.gate.set)()

    async def fail(self) -> None:
        self.store.failures = self.chance.choice((0, 1, 2))

    def check(self) -> None:
        for job in self.hub._registry.jobs.values():
            assert job.subscriptions, "a job without viewers is not watched"
            assert not (job.phase is IDLE and job.dirty), "a change waits for another one"
            assert job.dirty or job.phase not in (SCHEDULED, QUEUED), "a look for nothing"
            assert (job.timer is not None) == (job.phase is SCHEDULED)
            assert (job.task is not None) == (job.phase is READING)
            assert (job.loaded is not None) == (job.phase is LOADED)
            assert (job in self.hub._queue) == (job.phase in (QUEUED, LOADED))
        for viewer, (at_first, handed) in self.viewers.items():
            for job_id, seqs in handed.items():
                newest = viewer.newest_seq(job_id)
                if newest is not None and newest != (seqs or [0])[-1]:
                    assert newest >= at_first[job_id], "older than what was known when the viewer joined"
                    assert not seqs or newest > seqs[-1]
                    seqs.append(newest)


@pytest.mark.parametrize("block", range(4))
def test_no_change_is_lost_whatever_the_order_of_events(block: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL")  # failed reads are logged with their tracebacks
    for seed in range(block * 50, block * 50 + 50):

        async def play(seed: int = seed) -> None:
            await Play(seed).run(60)

        virtual_time.run(play())
