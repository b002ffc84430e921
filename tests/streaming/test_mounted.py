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
from typing import Any, cast

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
from tests.support.waiting import PATIENCE_S, eventually, soon
from unstuck.app import create_app, running
from unstuck.settings import load
from unstuck.streaming.host import HostServer
from unstuck.streaming.hub import Hub


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
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none"))
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


def test_a_server_in_a_thread_stops_while_a_stream_is_open(host: str) -> None:
    """No signal reaches it; the fixture would wait for the stream for ever."""
    job = httpx.post(f"{host}/api/jobs", json={"kind": "x", "external": True}).json()
    thread = threading.Thread(target=lambda: httpx.get(f"{host}/api/jobs/{job['id']}/events", timeout=PATIENCE_S))
    thread.start()
    eventually(lambda: httpx.get(f"{host}/api/health").json()["streams"]["open"] == 1)


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

#: A host with streams, signal handlers and middleware of its own, and two of our apps, one below another app.
BUSY_HOST_APP = """
import asyncio
import signal
from contextlib import asynccontextmanager

from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount, Route

import unstuck

progress = unstuck.create_app()
other = unstuck.create_app(data="other-data", workers=1)


async def own(request):
    async def ticks():
        while True:
            yield "tick"
            await asyncio.sleep(0.1)

    return EventSourceResponse(ticks())


@asynccontextmanager
async def lifespan(app):
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda number, frame: before(number, frame))
    async with unstuck.running(progress), unstuck.running(other):
        yield


below = Starlette(routes=[Mount("/other", other)])
app = Starlette(
    routes=[Mount("/progress", progress), Mount("/below", below), Route("/own", own)],
    middleware=[Middleware(GZipMiddleware), Middleware(CORSMiddleware, allow_origins=["*"])],
    lifespan=lifespan,
)
"""


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/health/live").status_code == 200
    except httpx.TransportError:
        return False


@contextlib.contextmanager
def hosting(tmp_path: Path, source: str, *options: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Serve a host app with uvicorn; yield its address and process."""
    (tmp_path / "host.py").write_text(source)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "uvicorn", "host:app", "--port", str(port), "--log-level", "warning", *options
    ]  # fmt: skip
    environ = {**os.environ, "UNSTUCK_DATA": str(tmp_path / "data"), "UNSTUCK_WORKERS": "1"}
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=tmp_path, env=environ, stderr=log, start_new_session=True)
    with server:
        try:
            eventually(lambda: answers(f"http://127.0.0.1:{port}/progress"))
            yield f"http://127.0.0.1:{port}", server
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)  # with --reload the server is a child of it


def ended(server: subprocess.Popen[bytes], log: Path) -> None:
    """Check that the server ends as it should, and without a trace in its log."""
    # uvicorn raises the signal again once it has stopped, so that its caller sees it.
    assert server.wait(PATIENCE_S) in (0, -signal.SIGTERM)
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize(
    ("options", "asked_to_stop"),
    [((), True), (("--http", "h11", "--loop", "asyncio", "--timeout-graceful-shutdown", "9"), True),
     (("--reload",), True), (("--limit-max-requests", "20"), False)],
    ids=["uvicorn", "h11", "reload", "most requests"],
)  # fmt: skip
def test_a_host_app_stops_while_a_stream_is_open(
    tmp_path: Path, options: tuple[str, ...], asked_to_stop: bool
) -> None:
    """A host server waits for the streams, without end: they must learn of the stop before the lifespan ends."""
    with hosting(tmp_path, HOST_APP, *options) as (base, server):
        url = f"{base}/progress"
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
        ended(server, tmp_path / "log")


def test_a_host_with_streams_and_handlers_of_its_own_stops(tmp_path: Path) -> None:
    """Uvicorn is found although it no longer handles the signals, and the host's own stream ends as without us."""
    with hosting(tmp_path, BUSY_HOST_APP) as (base, server), contextlib.ExitStack() as streams:
        lines = []
        for path in ("/progress/api/events/stream", "/below/other/api/events/stream", "/own"):
            answer = streams.enter_context(httpx.stream("GET", f"{base}{path}", timeout=PATIENCE_S))
            assert "content-encoding" not in answer.headers
            lines.append(answer.iter_lines())
            assert next(lines[-1])
        server.send_signal(signal.SIGTERM)
        for ours in lines[:2]:
            assert [name for name, _ in events(ours)][-1] == "leaving"
        with contextlib.suppress(httpx.RemoteProtocolError):  # how sse-starlette ends a stream
            for count, _ in enumerate(lines[2]):
                assert count < 200, "the host's own stream goes on"
        ended(server, tmp_path / "log")


def test_an_import_changes_nothing_for_the_hosts_own_streams() -> None:
    code = """
from sse_starlette.sse import AppStatus
before = dict(vars(AppStatus))
import unstuck.app, unstuck.serve
unstuck.app.create_app()
assert dict(vars(AppStatus)) == before
"""
    environ = {name: text for name, text in os.environ.items() if not name.startswith("UNSTUCK_")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environ)


class Leaving:
    """A hub that remembers what it announced."""

    leaving: str | None = None

    def announce_leaving(self, reason: str) -> None:
        self.leaving = reason


#: As much of hypercorn as is looked at. Its processes are stopped by no signal.
HYPERCORN = """
import asyncio

async def worker_serve(app_is_up, shutdown, terminated):
    await app_is_up.wait()
    context = type("WorkerContext", (), {"terminated": terminated})
    await shutdown.wait()
"""


async def test_hypercorn_is_seen_stopping() -> None:
    hub, app_is_up, terminated = Leaving(), asyncio.Event(), asyncio.Event()
    hypercorn: dict[str, Any] = {"__name__": "hypercorn.asyncio.run"}
    exec(HYPERCORN, hypercorn)
    server = asyncio.create_task(hypercorn["worker_serve"](app_is_up, asyncio.Event(), terminated))
    host = HostServer(cast("Hub", hub))
    watching = asyncio.create_task(host.watch())
    await soon(lambda: host._is_stopping is not None)
    app_is_up.set()
    await asyncio.sleep(0)
    assert hub.leaving is None
    terminated.set()
    await soon(lambda: hub.leaving == "the server is stopping")
    for task in (watching, server):
        task.cancel()
    await asyncio.wait([watching, server])


@pytest.mark.parametrize("one", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("by_loop", [True, False], ids=["a handler of the loop", "a handler of Python"])
async def test_a_server_that_is_not_known_is_heard_stopping(by_loop: bool, one: signal.Signals) -> None:
    """Granian and hypercorn set such handlers, some of them after the app has started."""
    hub, stopped = Leaving(), asyncio.Event()
    loop = asyncio.get_running_loop()
    original = signal.getsignal(one)
    watching = asyncio.create_task(HostServer(cast("Hub", hub)).watch())
    await asyncio.sleep(0)

    def stop(*_: object) -> None:
        loop.call_soon_threadsafe(stopped.set)

    try:
        if by_loop:
            loop.add_signal_handler(one, stop)
        else:
            signal.signal(one, stop)
        theirs = signal.getsignal(one)
        await soon(lambda: signal.getsignal(one) is not theirs)
        os.kill(os.getpid(), one)
        await asyncio.wait_for(stopped.wait(), PATIENCE_S)
        await soon(lambda: hub.leaving == "the server is stopping")
        watching.cancel()
        await asyncio.wait([watching])
        assert signal.getsignal(one) is theirs
    finally:
        watching.cancel()
        loop.remove_signal_handler(one)
        signal.signal(one, original)
