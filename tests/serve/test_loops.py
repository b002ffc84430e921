"""Each background loop of a running server breaks once: health and metrics show it, and the server recovers."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette

from tests.support.waiting import PATIENCE_S, soon
from tests.webhooks.receiver import SECRET, Receiver
from unstuck.app import create_app
from unstuck.connections.waiting import Waiting
from unstuck.files.retention import Retention
from unstuck.runner.leases import LeaseKeeper
from unstuck.runner.prefetch import Prefetch
from unstuck.runner.runner import Runner
from unstuck.runner.write_buffer import WriteBuffer
from unstuck.serve import Server, _with_connection, listen
from unstuck.settings import Settings
from unstuck.store.writer import Writer
from unstuck.streaming.heartbeat import Heartbeat
from unstuck.streaming.host import HostServer
from unstuck.supervision.supervisor import Supervisor
from unstuck.webhooks.dispatcher import Dispatcher

#: For each loop, a method that it calls when a job is submitted and watched, or shortly after.
BREAKS: dict[str, tuple[type, str]] = {
    "connections": (Waiting, "close_overdue"),
    "first heartbeat": (Heartbeat, "_first_heartbeat"),
    "heartbeat": (Heartbeat, "tick"),
    "host": (HostServer, "is_stopping"),
    "leases": (LeaseKeeper, "_sweep"),
    "memory": (Server, "_viewers"),
    "prefetch": (Prefetch, "_claim"),
    "retention": (Retention, "expire"),
    "store writer": (Writer, "_serve"),
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


class Running:
    """A server in this process, with a client."""

    def __init__(self, app: Starlette, http: httpx.AsyncClient, receiver: Receiver) -> None:
        self.app = app
        self.supervisor: Supervisor = app.state.services.supervisor
        self.http = http
        self._receiver = receiver

    async def ready(self) -> tuple[int, list[str]]:
        answer = await self.http.get("/api/health/ready")
        return answer.status_code, answer.json()["troubles"]

    async def health(self) -> Any:
        return (await self.http.get("/api/health")).json()

    async def metric(self, name: str) -> float:
        lines = (await self.http.get("/metrics")).text.splitlines()
        return next(float(line.removeprefix(f"{name} ")) for line in lines if line.startswith(f"{name} "))

    async def complete_a_job(self) -> None:
        """Submit a job, again if refused, as a client does; wait until it completes and its webhook arrives."""
        order = {"kind": "rehearsal", "total": 3, "options": {"seconds": 0}, "webhook_url": self._receiver.url()}
        while (answer := await self.http.post("/api/jobs", json=order)).status_code >= 500:
            await asyncio.sleep(0.02)
        job = answer.json()
        while not job["done"]:
            await asyncio.sleep(0.02)
            if (answer := await self.http.get(job["links"]["self"])).status_code < 500:
                job = answer.json()
        assert job["state"] == "completed", job
        await soon(lambda: f"msg_{job['id']}" in {one.headers["webhook-id"] for one in self._receiver.received})

    async def watch_until(self, check: Callable[[], bool]) -> None:
        """Open streams, one after another, until `check()` holds.

        One may not be enough: a viewer that a tick reaches first gets no first heartbeat.
        """
        while not check():
            await self.receive_heartbeats(1)

    async def receive_heartbeats(self, count: int) -> None:
        """Receive `count` heartbeats on a new stream."""
        async with self.http.stream("GET", "/api/events/stream") as answer:
            async for line in answer.aiter_lines():
                count -= line == "event: heartbeat"
                if not count:
                    return
        raise AssertionError("the stream ended")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@asynccontextmanager
async def serving(tmp_path: Path, receiver: Receiver, **more: Any) -> AsyncIterator[Running]:
    usual = {
        "data": str(tmp_path), "port": 0, "workers": 1, "heartbeat_s": 1.0, "retention_s": 5.0,
        "retry_pause_s": 0.01, "webhook_secret": SECRET, "webhook_allow_private": 1,
    }  # fmt: skip
    settings = Settings(**{**usual, **more})
    app = create_app(settings)
    listener = listen(settings)
    ready = asyncio.Event()
    config = uvicorn.Config(
        _with_connection(app),
        http="httptools",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = Server(config, app, ready.set, Waiting(100))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with listener:
        async with asyncio.TaskGroup() as group, httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as http:
            group.create_task(server.serve([listener]))
            await ready.wait()
            await soon(lambda: server.started)
            try:
                yield Running(app, http, receiver)
            finally:
                server.should_exit = True


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
    async with asyncio.timeout(2 * PATIENCE_S), serving(tmp_path, receiver) as server:
        assert await server.ready() == (200, [])
        broken.now()
        async with asyncio.TaskGroup() as clients:
            clients.create_task(server.complete_a_job())
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
        await server.complete_a_job()
        await server.receive_heartbeats(3)
        await soon(lambda: broken.calls > 1)
    (record,) = [one for one in caplog.records if one.name == "unstuck.supervision"]
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith(f"Loop failed, starting it again: loop='{name}' pause_s=")
    assert record.exc_info is not None
    assert f"Unexpected: {BREAKS[name][1]}" in caplog.text
