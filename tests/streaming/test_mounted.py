"""Streams work inside a host app, behind middleware that unstuck does not know."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount

from tests.support.events import events
from tests.support.waiting import PATIENCE_S, eventually
from unstuck.app import create_app, running
from unstuck.settings import load


class Stamped(BaseHTTPMiddleware):
    """Middleware that passes every response body through its own queue, as much middleware does."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["X-Host-App"] = "yes"
        return response


@pytest.fixture
def host(tmp_path: Path) -> Iterator[str]:
    progress = create_app(load({"data": str(tmp_path / "data"), "workers": 1}, {}))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with running(progress):
            yield

    app = Starlette(routes=[Mount("/progress", progress)], middleware=[Middleware(Stamped)], lifespan=lifespan)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
    thread.start()
    eventually(lambda: server.started)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/progress"
    server.should_exit = True
    thread.join()
    listener.close()


def test_a_stream_through_foreign_middleware(host: str) -> None:
    asked = {"kind": "rehearsal", "total": 4, "options": {"seconds": 0.3}}
    job = httpx.post(f"{host}/api/jobs", json=asked).json()
    base = host.removesuffix("/progress")
    with httpx.stream("GET", f"{base}{job['links']['events']}", timeout=30) as answer:
        assert answer.headers["x-host-app"] == "yes"
        seen = [data for name, data in events(answer.iter_lines()) if name == "job"]
    assert seen[-1]["state"] == "completed"
    assert seen[-1] == {
        **httpx.get(f"{base}{job['links']['self']}").json(),
        "server_time": seen[-1]["server_time"],
    }


HOST_APP = """
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.routing import Mount

import unstuck

progress = unstuck.create_app()


@asynccontextmanager
async def lifespan(app):
    async with unstuck.running(progress):
        yield


app = Starlette(routes=[Mount("/progress", progress)], lifespan=lifespan)
"""


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/health/live").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize(
    ("options", "asked_to_stop"),
    [((), True), (("--http", "h11", "--loop", "asyncio"), True), (("--reload",), True),
     (("--limit-max-requests", "20"), False)],
    ids=["uvicorn", "h11", "reload", "most requests"],
)  # fmt: skip
def test_a_host_app_stops_while_a_stream_is_open(
    tmp_path: Path, options: tuple[str, ...], asked_to_stop: bool
) -> None:
    """A host server waits for the streams, without end: they must learn of the stop before the lifespan ends."""
    (tmp_path / "host.py").write_text(HOST_APP)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/progress"
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "host:app",
        "--port",
        str(port),
        "--log-level",
        "warning",
        *options,
    ]
    environ = {**os.environ, "UNSTUCK_DATA": str(tmp_path / "data"), "UNSTUCK_WORKERS": "1"}
    with subprocess.Popen(command, cwd=tmp_path, env=environ, start_new_session=True) as server:
        try:
            eventually(lambda: answers(url))
            job = httpx.post(f"{url}/api/jobs", json={"kind": "x", "external": True}).json()
            seen = []
            with httpx.stream("GET", f"{url}/api/jobs/{job['id']}/events", timeout=PATIENCE_S) as answer:
                for name, _ in events(answer.iter_lines()):
                    seen.append(name)
                    assert seen.count("heartbeat") < 4, "the server does not stop"
                    if asked_to_stop and len(seen) == 1:
                        server.send_signal(signal.SIGTERM)
                    while not asked_to_stop and answers(url):
                        pass
            assert seen[-1] == "leaving"
            # uvicorn raises the signal again once it has stopped, so that its caller sees it.
            assert server.wait(PATIENCE_S) in (0, -signal.SIGTERM)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)  # with --reload the server is a child of it
