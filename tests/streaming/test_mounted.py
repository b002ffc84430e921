"""Streams work inside a host app, behind middleware that unstuck does not know."""

from __future__ import annotations

import asyncio
import socket
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
from tests.support.waiting import eventually
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
