"""A whole server in this process, with a client, for tests that reach into its parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette

from tests.support.waiting import PATIENCE_S, soon
from tests.webhooks.receiver import SECRET, Receiver
from unstuck.app import create_app
from unstuck.connections.waiting import Waiting
from unstuck.serve import Server, _with_connection, listen
from unstuck.settings import Settings
from unstuck.supervision.supervisor import Supervisor


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

    async def complete_a_job(self, failures: float = 0.0) -> None:
        """Submit a job, again if refused, as a client does; wait until it ends and its webhook arrives."""
        options = {"seconds": 0, "failures": failures}
        order = {"kind": "rehearsal", "total": 3, "options": options, "webhook_url": self._receiver.url()}
        while (answer := await self.http.post("/api/jobs", json=order)).status_code >= 500:
            await asyncio.sleep(0.02)
        job = answer.json()
        while not job["done"]:
            await asyncio.sleep(0.02)
            if (answer := await self.http.get(job["links"]["self"])).status_code < 500:
                job = answer.json()
        assert job["state"] == ("failed" if failures else "completed"), job
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


@asynccontextmanager
async def serving(tmp_path: Path, receiver: Receiver, **more: Any) -> AsyncIterator[Running]:
    """Run a server with short times; `more` are settings."""
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
