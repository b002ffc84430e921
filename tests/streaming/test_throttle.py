"""Large audiences: events, returns and polls of each viewer slow down with their size."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from tests.faults.virtual_time import run
from tests.streaming.live_jobs import MemoryJobs
from tests.streaming.readers import events_in
from unstuck.streaming import throttle
from unstuck.streaming.config import StreamConfig
from unstuck.streaming.hub import Hub
from unstuck.streaming.viewer import Viewer

JOB = "1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b"


@pytest.mark.parametrize(
    ("viewers", "seconds"), [(0, 0.1), (1_000, 0.1), (1_900, 0.1), (5_500, 0.5), (10_000, 1.0), (60_000, 1.0)]
)
def test_the_interval_grows_with_the_viewers_of_the_job(viewers: int, seconds: float) -> None:
    assert throttle.interval_s(0.1, viewers) == seconds


def test_an_interval_that_was_set_is_never_shortened() -> None:
    assert throttle.interval_s(30.0, 60_000) == 30.0
    assert throttle.interval_s(0.0, 1_000) == 0.0


@pytest.mark.parametrize(("leaving", "latest"), [(1, 3_000), (3_000, 3_000), (20_000, 20_000), (10**6, 60_000)])
def test_the_more_leave_the_longer_until_all_have_returned(leaving: int, latest: int) -> None:
    assert throttle.return_ms(leaving) == (500, latest)


@pytest.mark.parametrize(("streams", "pause"), [(0, 0), (1_500, 1_500), (10**6, 15_000)])
def test_the_pause_between_polls_grows_with_the_streams_of_the_server(streams: int, pause: int) -> None:
    assert throttle.poll_ms(streams) == pause


async def join(hub: Hub, count: int) -> list[Viewer]:
    viewers = [await hub.join(ExitStack(), [JOB], base="", wants_items=False, ends=True) for _ in range(count)]
    await asyncio.sleep(5)
    return viewers


@pytest.mark.parametrize(("viewers", "events"), [(10, 100), (10_000, 10)])
def test_ten_seconds_of_changes_before_an_audience(viewers: int, events: int) -> None:
    async def play() -> None:
        jobs = MemoryJobs(JOB)
        hub = Hub(jobs, StreamConfig())
        (first, *_) = await join(hub, viewers)
        assert events_in(first.take())[0][1]["poll_after_ms"] == max(5_000, viewers)
        before = hub.stats.broadcasts
        for _ in range(1_000):
            jobs.commit(JOB)
            await asyncio.sleep(0.01)
        assert hub.stats.broadcasts - before == pytest.approx(events, abs=2)
        jobs.commit(JOB, done=True)
        await asyncio.sleep(0.001)
        assert first.ended, "the end does not wait for the interval"
        await hub.close()

    run(play())


@pytest.mark.parametrize(("viewers", "latest"), [(100, 3_000), (8_000, 8_000)])
def test_a_server_that_stops_spreads_the_return_of_its_viewers(viewers: int, latest: int) -> None:
    async def play() -> None:
        hub = Hub(MemoryJobs(JOB), StreamConfig())
        watching = await join(hub, viewers)
        hub.announce_leaving("the server is stopping")
        returns = [events_in(viewer.take())[-1][1]["retry_ms"] for viewer in watching]
        assert min(returns) >= 500
        assert latest * 0.8 < max(returns) <= latest
        await hub.close()

    run(play())
