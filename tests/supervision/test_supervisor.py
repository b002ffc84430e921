"""Loops that break, return or are cancelled: what is logged, when they restart, what health reports."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections.abc import Callable

import pytest

from tests.support.waiting import soon
from unstuck.supervision.backoff import Backoff
from unstuck.supervision.supervisor import Loop, Supervisor, supervising

QUICK = Backoff(0.02, 0.04)
SETTLED_S = 0.1


class Unexpected(Exception):
    """An error that the server itself never raises."""


def told(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "unstuck.supervision"]


class Flaky:
    """A loop body that raises in its first `failures` runs, and then runs until it is cancelled."""

    def __init__(self, failures: int) -> None:
        self.runs = 0
        self.ended = False
        self._failures = failures

    def _begin(self) -> None:
        self.runs += 1
        if self.runs <= self._failures:
            raise Unexpected(f"run {self.runs}")

    async def run(self) -> None:
        self._begin()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended = True

    def run_in_thread(self, ending: threading.Event) -> None:
        self._begin()
        ending.wait()
        self.ended = True


def started(supervisor: Supervisor, flaky: Flaky, thread: bool) -> Loop:
    if thread:
        return supervisor.run_in_thread("flaky", flaky.run_in_thread)
    return supervisor.run("flaky", flaky.run)


@pytest.mark.parametrize("thread", [False, True])
async def test_a_broken_loop_is_logged_counted_and_restarted(
    caplog: pytest.LogCaptureFixture, thread: bool
) -> None:
    flaky = Flaky(1)
    async with supervising(Backoff(0.2, 0.4), SETTLED_S) as supervisor:
        loop = started(supervisor, flaky, thread)
        assert not loop.down
        await soon(lambda: loop.down)
        assert supervisor.down == 1
        assert supervisor.troubles == [loop.trouble]
        assert re.fullmatch(
            r'The loop "flaky" broke and restarts in 0\.\d s; see the log for the reason\.', loop.trouble or ""
        )
        await soon(lambda: flaky.runs == 2)
        assert loop.trouble == 'The loop "flaky" broke and has just been restarted; see the log for the reason.'
        await soon(lambda: not loop.down)
        assert (loop.restarts, supervisor.down) == (1, 0)
        assert not supervisor.troubles
        assert not flaky.ended
    assert flaky.ended
    (record,) = told(caplog)
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith("Loop failed, starting it again: loop='flaky' pause_s=")
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], Unexpected)


@pytest.mark.parametrize("thread", [False, True])
async def test_pauses_grow_with_each_failure_and_start_over_after_a_good_run(
    caplog: pytest.LogCaptureFixture, thread: bool
) -> None:
    flaky = Flaky(3)
    broken = threading.Event()

    def run_in_thread(ending: threading.Event) -> None:
        flaky._begin()
        while not ending.wait(0.005):
            if broken.is_set():
                broken.clear()
                raise Unexpected("after a good run")

    async def run() -> None:
        flaky._begin()
        while not broken.is_set():
            await asyncio.sleep(0.005)
        broken.clear()
        raise Unexpected("after a good run")

    async with supervising(Backoff(0.04, 0.16), SETTLED_S) as supervisor:
        loop = supervisor.run_in_thread("flaky", run_in_thread) if thread else supervisor.run("flaky", run)
        await soon(lambda: flaky.runs == 4)
        began = time.monotonic()
        await soon(lambda: time.monotonic() > began + 0.16)
        broken.set()
        await soon(lambda: loop.restarts == 4)
    pauses = [float(record.args[1]) for record in told(caplog) if isinstance(record.args, tuple)]  # type: ignore[arg-type]
    limits = [0.04, 0.08, 0.16, 0.04]
    assert len(pauses) == len(limits)
    assert all(limit / 2 <= pause <= limit for pause, limit in zip(pauses, limits, strict=True)), pauses


async def test_a_loop_that_returns_is_restarted(caplog: pytest.LogCaptureFixture) -> None:
    runs = 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        if runs > 1:
            await asyncio.Event().wait()

    async with supervising(QUICK, SETTLED_S) as supervisor:
        supervisor.run("short", run)
        await soon(lambda: runs == 2)
    assert "Loop ended by itself, starting it again: loop='short' pause_s=" in caplog.text


async def test_a_cancelled_future_does_not_end_a_loop(caplog: pytest.LogCaptureFixture) -> None:
    """A loop whose awaited future is cancelled was not cancelled itself."""
    waits: list[asyncio.Future[None]] = []

    async def run() -> None:
        waits.append(asyncio.get_running_loop().create_future())
        await waits[-1]

    async with supervising(QUICK, SETTLED_S) as supervisor:
        loop = supervisor.run("waiting", run)
        await soon(lambda: waits)
        waits[0].cancel()
        await soon(lambda: len(waits) == 2)
    assert loop.restarts == 1
    assert len(told(caplog)) == 1


async def swallow(started: Callable[[], None]) -> None:
    started()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return


async def break_at_the_end(started: Callable[[], None]) -> None:
    started()
    try:
        await asyncio.Event().wait()
    finally:
        raise Unexpected("while it was ended")


@pytest.mark.parametrize("body", [swallow, break_at_the_end])
async def test_a_cancellation_ends_a_loop_even_if_it_swallows_it(
    caplog: pytest.LogCaptureFixture, body: Callable[[Callable[[], None]], asyncio.Future[None]]
) -> None:
    runs: list[None] = []
    async with asyncio.timeout(10), supervising(QUICK, SETTLED_S) as supervisor:
        supervisor.run("stubborn", lambda: body(lambda: runs.append(None)))
        await soon(lambda: runs)
    assert len(runs) == 1
    errors = (
        ["Loop failed while it was being stopped: loop='stubborn'"]
        if body.__name__ == break_at_the_end.__name__
        else []
    )
    assert [record.getMessage() for record in told(caplog)] == errors


async def test_a_thread_that_breaks_at_the_end_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    running = threading.Event()

    def run(ending: threading.Event) -> None:
        running.set()
        ending.wait()
        raise SystemExit("in silence, if nothing caught it")

    async with supervising(QUICK, SETTLED_S) as supervisor:
        supervisor.run_in_thread("stubborn", run)
        await soon(running.is_set)
    assert [record.getMessage() for record in told(caplog)] == [
        "Loop failed while it was being stopped: loop='stubborn'"
    ]


@pytest.mark.parametrize("thread", [False, True])
async def test_shutdown_does_not_wait_for_a_pause(thread: bool) -> None:
    flaky = Flaky(1)
    began = time.monotonic()
    async with supervising(Backoff(60.0, 60.0), SETTLED_S) as supervisor:
        loop = started(supervisor, flaky, thread)
        await soon(lambda: loop.down)
    assert time.monotonic() - began < 20.0, "the pause is 30 s at least"
    assert (flaky.runs, loop.restarts) == (1, 0)


async def test_leaving_waits_until_all_loops_have_ended() -> None:
    events: list[str] = []

    async def run() -> None:
        events.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            events.append("ended")

    def run_in_thread(ending: threading.Event) -> None:
        events.append("begun")
        ending.wait()
        time.sleep(0.05)
        events.append("ended")

    async with supervising() as supervisor:
        supervisor.run("slow", run)
        supervisor.run_in_thread("slow thread", run_in_thread)
        await soon(lambda: len(events) == 2)
    assert events == ["begun", "begun", "ended", "ended"]


async def test_a_thread_is_restarted_while_the_event_loop_is_blocked() -> None:
    flaky = Flaky(1)
    async with supervising(QUICK, SETTLED_S) as supervisor:
        supervisor.run_in_thread("flaky", flaky.run_in_thread)
        await soon(lambda: flaky.runs)
        end = time.monotonic() + 20.0
        while flaky.runs < 2 and time.monotonic() < end:
            time.sleep(0.005)  # blocks the event loop on purpose
        assert flaky.runs == 2


async def test_an_error_in_the_block_propagates_and_ends_the_loops() -> None:
    flaky = Flaky(0)

    async def serve() -> None:
        async with supervising() as supervisor:
            supervisor.run("flaky", flaky.run)
            await soon(lambda: flaky.runs)
            raise Unexpected("inside")

    with pytest.raises(Unexpected, match="inside"):
        await serve()
    assert flaky.ended


async def test_a_cancellation_from_outside_ends_the_loops() -> None:
    flaky = Flaky(0)

    async def serve() -> None:
        async with supervising() as supervisor:
            supervisor.run("flaky", flaky.run)
            await asyncio.Event().wait()

    serving = asyncio.create_task(serve())
    await soon(lambda: flaky.runs)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert flaky.ended


async def test_loop_names_are_unique() -> None:
    async with supervising() as supervisor:
        loop = supervisor.run("flaky", Flaky(0).run)
        with pytest.raises(ValueError, match="already a loop 'flaky'"):
            supervisor.watch(Loop("flaky"))
        assert supervisor.loops == {"flaky": loop}
