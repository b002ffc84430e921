"""Each background loop of a running server breaks once: health and metrics show it, and the server recovers."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.running import serving
from tests.support.waiting import PATIENCE_S, soon
from tests.webhooks.receiver import Receiver
from unstuck.connections.waiting import Waiting
from unstuck.files.retention import Retention
from unstuck.runner.leases import LeaseKeeper
from unstuck.runner.leftovers import Leftovers
from unstuck.runner.prefetch import Prefetch
from unstuck.runner.runner import Runner
from unstuck.runner.write_buffer import WriteBuffer
from unstuck.serve import Server
from unstuck.store.sqlite_writer import SQLiteWriter
from unstuck.streaming.catch_up import CatchUp
from unstuck.streaming.heartbeat import Heartbeat
from unstuck.streaming.host import HostServer
from unstuck.webhooks.dispatcher import Dispatcher

#: For each loop, a method that it calls when a job is submitted and watched, or shortly after.
BREAKS: dict[str, tuple[type, str]] = {
    "catch-up": (CatchUp, "_compare"),
    "connections": (Waiting, "close_overdue"),
    "first heartbeat": (Heartbeat, "_first_heartbeat"),
    "heartbeat": (Heartbeat, "tick"),
    "host": (HostServer, "_look"),
    "leases": (LeaseKeeper, "_sweep"),
    "leftovers": (Leftovers, "remove"),
    "memory": (Server, "_viewers"),
    "prefetch": (Prefetch, "_claim"),
    "retention": (Retention, "expire"),
    "store writer": (SQLiteWriter, "_serve"),
    "webhooks": (Dispatcher, "_start_due"),
    "worker 1": (Runner, "_on_messages"),
    "write buffer": (WriteBuffer, "_write_all"),
}


class Unexpected(Exception):
    """An error that the server itself never raises."""


class BreakOnce:
    """Makes a method raise at its first call after `now()`, and counts the calls since then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        self.calls = -math.inf
        whole = getattr(owner, name)

        def broken(*arguments: Any) -> Any:
            self.calls += 1
            if self.calls == 1:
                raise Unexpected(name)
            return whole(*arguments)

        monkeypatch.setattr(owner, name, broken)

    def now(self) -> None:
        self.calls = 0


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


async def test_every_loop_has_an_entry_in_breaks(tmp_path: Path, receiver: Receiver) -> None:
    async with serving(tmp_path, receiver) as server:
        assert set(server.supervisor.loops) == set(BREAKS)


@pytest.mark.parametrize("name", sorted(BREAKS))
async def test_a_broken_loop_is_reported_and_recovers(
    tmp_path: Path,
    receiver: Receiver,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = BreakOnce(monkeypatch, *BREAKS[name])  # before any object binds the method
    failures = float(name == "leftovers")  # nothing is left over of what succeeds
    async with asyncio.timeout(2 * PATIENCE_S), serving(tmp_path, receiver) as server:
        assert await server.ready() == (200, [])
        broken.now()
        server.app.state.services.hub.on_commit(None)  # as of a store that has lost contact for a while
        async with asyncio.TaskGroup() as clients:
            clients.create_task(server.complete_a_job(failures))
            clients.create_task(server.watch_until(lambda: broken.calls > 0))
            sentence = f'The loop "{name}" broke and '
            told: tuple[int, list[str]] = (200, [])
            while not any(one.startswith(sentence) for one in told[1]):
                await asyncio.sleep(0.01)
                told = await server.ready()
            assert told[0] == 503
            health = await server.health()
            assert health["status"] == "unavailable"
            assert any(one.startswith(sentence) for one in health["troubles"])
            assert await server.metric("unstuck_loops_down") == 1
            while (await server.ready())[0] == 503:
                await asyncio.sleep(0.01)
        assert await server.ready() == (200, [])
        assert (await server.health())["troubles"] == []
        assert await server.metric("unstuck_loops_down") == 0
        for one in BREAKS:
            assert await server.metric(f'unstuck_loop_restarts_total{{loop="{one}"}}') == (one == name)
        await server.complete_a_job(failures)
        await server.receive_heartbeats(3)
        await soon(lambda: broken.calls > 1)
    (record,) = [one for one in caplog.records if one.name == "unstuck.supervision"]
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith(f"Loop failed, starting it again: loop='{name}' pause_s=")
    assert record.exc_info is not None
    assert f"Unexpected: {BREAKS[name][1]}" in caplog.text
