"""A lapse or a stop while an item is prefetched, sent or running, with real workers and a real store."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.jobs import submitted
from tests.support.waiting import PATIENCE_S, soon
from unstuck.jobs.job import Cancel, Item, Renew
from unstuck.runner import outcome, protocol
from unstuck.runner.assignment import Assignment
from unstuck.runner.claimed_item import ClaimedItem
from unstuck.runner.prefetch import LOOK_S, Prefetch
from unstuck.runner.process import Message, WorkerDiedError, WorkerProcess
from unstuck.runner.registry import ItemRegistry
from unstuck.runner.write_buffer import REST_S, WriteBuffer
from unstuck.store.protocol import WorkItem
from unstuck.store.sqlite import SQLiteStore

APP = str(Path(__file__).with_name("behaviour.py"))
Given = Callable[..., Awaitable[tuple[Assignment, list[ClaimedItem]]]]
run_ids = itertools.count(1)


@pytest.fixture
async def given(tmp_path: Path) -> AsyncIterator[Given]:
    """Start workers on demand, each with an assignment of the named items, the first of them running.

    behaviour.py says what the names mean.
    """
    made: list[Assignment] = []

    async def given(*names: str, grace_s: float = 0.2, limit_s: float | None = None):  # type: ignore[no-untyped-def]
        assignment = Assignment(await WorkerProcess.start(APP, [], 0), grace_s, limit_s)
        made.append(assignment)
        items = assign(assignment, *names)
        await next_message(assignment, protocol.Progress)
        return assignment, items

    yield given
    for assignment in made:
        assignment.close()
        await assignment.process.terminate()


def assign(assignment: Assignment, *names: str) -> list[ClaimedItem]:
    items = [
        ClaimedItem(WorkItem("job", "behave", {}, Item(index=index, name=name, size=0, lease=1)))
        for index, name in enumerate(names)
    ]
    runs = [protocol.Run(id=next(run_ids), kind="behave", name=name, output="unused") for name in names]
    assignment.assign(list(zip(items, runs, strict=True)))
    return items


async def next_message(assignment: Assignment, wanted: type[Message] | None = None) -> Message:
    """Return the next message of this type."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            for message in await assignment.process.read_messages():
                if wanted is None or isinstance(message, wanted):
                    return message


def lapse(item: ClaimedItem) -> None:
    """Lose the item as the lease keeper does after the store has refused a renewal."""
    registry = ItemRegistry(30.0)
    registry.add([item])
    registry.lose([Renew(*item.key, 30.0)])


@asynccontextmanager
async def prefetching(store: SQLiteStore) -> AsyncIterator[tuple[Prefetch, ItemRegistry, WriteBuffer]]:
    items = ItemRegistry(30.0)
    writes = WriteBuffer(store, items, 0.2)
    prefetch = Prefetch(store, items, writes, workers=2, worker="us")
    claiming = asyncio.create_task(prefetch.run())
    try:
        yield prefetch, items, writes
    finally:
        claiming.cancel()
        await soon(claiming.done)


# -- lapses


async def test_a_lost_prefetched_item_is_not_given_out(store: SQLiteStore) -> None:
    async with prefetching(store) as (prefetch, items, _):
        await submitted(store, 4)
        first = await prefetch.next()
        second, third, _ = (item for item in items.held() if item is not first)
        items.lose([Renew(*second.key, 30.0)])
        assert await prefetch.next() is third
        prefetch.put_back([first, second])
        assert await prefetch.next() is first, "a lost item does not come back"


async def test_a_lost_sent_item_costs_no_worker(given: Given) -> None:
    assignment, (_, sent) = await given("stop", "return")
    lapse(sent)
    message = await next_message(assignment, protocol.Returned)
    assert assignment.take_back(message.id) == [], "the item is not given to another worker"
    assert (sent.state, assignment.process.alive) == ("lost", True)


async def test_a_lost_running_item_ends_with_its_worker(given: Given) -> None:
    assignment, (running, sent) = await given("stop", "return")
    lapse(running)
    with pytest.raises(WorkerDiedError):
        await next_message(assignment, protocol.Done)
    assert assignment.close() == (running, [sent])
    assert (running.state, sent.state) == ("lost", "claimed")


async def test_a_lost_item_that_its_worker_reaches_ends_with_it_after_the_grace(given: Given) -> None:
    """The recall came too late; the worker is suspended, so that it answers no recall."""
    assignment, (_, sent) = await given("stop", "stop")
    os.kill(assignment.process.pid, signal.SIGSTOP)
    lapse(sent)
    assignment.finish_current()  # as if the end of the current item had been read
    assert (assignment.current, sent.state) == (sent, "lost"), "the item is not started"
    with pytest.raises(WorkerDiedError):
        await next_message(assignment, protocol.Done)


# -- stops


async def test_prefetched_items_of_a_stopped_job_go_back_to_the_store(store: SQLiteStore) -> None:
    async with prefetching(store) as (prefetch, items, writes):
        job_id = await submitted(store, 4)
        first = await prefetch.next()
        await store.apply([Cancel(job_id)])
        job = (await store.snapshot(job_id)).job
        prefetch.on_commit(job_id, job)
        assert items.held() == [first]
        assert len(items.renewals()) == 4, "renewed until the release is written"
        prefetch.put_back([first])
        assert items.held() == []
        await writes.flush()
        job = (await store.snapshot(job_id)).job
        assert (job.state, job.cancelled) == ("cancelled", 4)


async def test_items_claimed_while_their_job_is_stopped_go_back_to_the_store(store: SQLiteStore) -> None:
    """The stop is noticed before the claim, although the claim was committed first."""
    async with prefetching(store) as (prefetch, items, writes):
        job_id = await submitted(store, 4)
        job = (await store.snapshot(job_id)).job
        claim = store.claim

        async def claim_and_cancel(*args, **more):  # type: ignore[no-untyped-def]
            claimed = await claim(*args, **more)
            await store.apply([Cancel(job_id)])
            prefetch.on_commit(job_id, (await store.snapshot(job_id)).job)
            return claimed

        store.claim = claim_and_cancel  # type: ignore[method-assign]
        waiting = asyncio.create_task(prefetch.next())
        await soon(lambda: items.renewals())
        assert items.held() == []
        await writes.flush()
        job = (await store.snapshot(job_id)).job
        assert (job.state, job.cancelled) == ("cancelled", 4)
        waiting.cancel()


async def test_a_stopped_sent_item_comes_back_unstarted(given: Given) -> None:
    assignment, (running, sent) = await given("stop", "return")
    sent.stop()
    message = await next_message(assignment, protocol.Returned)
    assert assignment.take_back(message.id) == [sent]
    assert (sent.state, sent.stopped, running.state) == ("claimed", True, "running")


async def test_a_stopped_running_item_is_cancelled(given: Given) -> None:
    assignment, (running,) = await given("stop")
    running.stop()
    done = await next_message(assignment, protocol.Done)
    assert isinstance(done, protocol.Done)
    assert outcome.of_done(running, done).state == "cancelled"


async def test_a_running_item_that_does_not_stop_is_stopped_by_force(given: Given) -> None:
    assignment, (running, sent) = await given("grandchild", "return")
    running.stop()
    with pytest.raises(WorkerDiedError) as death:
        await next_message(assignment, protocol.Done)
    current, ahead = assignment.close()
    assert (current, ahead) == (running, [sent])
    assert outcome.of_death(running, str(death.value)).message == "Stopped by force."


async def test_a_stopped_item_that_its_worker_reaches_late_is_stopped_by_force(given: Given) -> None:
    assignment, (_, sent) = await given("stop", "stop", grace_s=0.05)
    os.kill(assignment.process.pid, signal.SIGSTOP)
    sent.stop()
    await asyncio.sleep(0.15)  # three times the grace
    assert assignment.process.alive, "the worker has not reached the item"
    assignment.finish_current()
    with pytest.raises(WorkerDiedError):
        await next_message(assignment, protocol.Done)


async def test_an_ended_item_can_no_longer_be_stopped(given: Given) -> None:
    assignment, (ended,) = await given("stop", grace_s=1.0)
    ended.stop()
    await next_message(assignment, protocol.Done)
    assignment.finish_current()
    (running,) = assign(assignment, "stop")
    ended.stop()
    lapse(ended)
    await asyncio.sleep(1.2)  # past the grace
    await next_message(assignment, protocol.Progress)
    assert (running.state, assignment.process.alive) == ("running", True)


async def test_a_time_limit_counts_for_each_item(given: Given) -> None:
    assignment, (first,) = await given("stop", grace_s=PATIENCE_S, limit_s=0.5)
    await next_message(assignment, protocol.Done)
    assert first.exceeded_limit_s == 0.5
    assignment.finish_current()
    (second,) = assign(assignment, "stop")
    await next_message(assignment, protocol.Done)
    assert second.exceeded_limit_s == 0.5
    assignment.finish_current()
    (third,) = assign(assignment, "none")
    await next_message(assignment, protocol.Done)
    assignment.finish_current()
    await asyncio.sleep(0.6)
    assert third.exceeded_limit_s is None, "the item ended in time"


# -- the end of the runner


async def test_a_cancel_at_the_moment_of_a_timeout_is_not_lost(store: SQLiteStore) -> None:
    """The event loop is blocked until both are due, so that both happen in one iteration."""
    items = ItemRegistry(30.0)
    writes = WriteBuffer(store, items, 0.2)
    prefetch = Prefetch(store, items, writes, workers=2, worker="us")
    writing, claiming = asyncio.create_task(writes.run()), asyncio.create_task(prefetch.run())
    waiting = asyncio.create_task(prefetch.next())
    await asyncio.sleep(0.1)  # prefetch has found nothing to claim
    await writes.wait_written()
    loop = asyncio.get_running_loop()
    loop.call_later(REST_S, writing.cancel)
    loop.call_later(LOOK_S, claiming.cancel)
    time.sleep(LOOK_S + 0.1)
    await soon(lambda: writing.cancelled() and claiming.cancelled())
    waiting.cancel()


@pytest.mark.parametrize("iterations", range(5))
async def test_a_cancel_at_the_moment_of_a_wake_is_not_lost(store: SQLiteStore, iterations: int) -> None:
    """The wake takes a few iterations of the event loop; the cancel falls into each of them in turn."""
    writes = WriteBuffer(store, ItemRegistry(30.0), 0.2)
    writing = asyncio.create_task(writes.run())
    await writes.wait_written()
    await asyncio.sleep(0)  # the buffer waits again
    waking = asyncio.create_task(writes.wait_written())
    for _ in range(iterations):
        await asyncio.sleep(0)
    writing.cancel()
    await soon(writing.cancelled)
    waking.cancel()
