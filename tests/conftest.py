"""Fixtures that many rooms share: a store on a real file, and real servers in processes of their own."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.clock import Clock
from tests.support.server import Server, StartServer
from unstuck.store.sqlite import SQLiteStore


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[SQLiteStore]:
    one = SQLiteStore(tmp_path / "unstuck.db", clock=clock)
    await one.open()
    yield one
    await one.close()


@pytest.fixture
async def store_in_real_time(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    """A store with the clocks of the server; a room that works in real time makes it its `store`."""
    one = SQLiteStore(tmp_path / "unstuck.db", steady=time.monotonic)
    await one.open()
    yield one
    await one.close()


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers, each on the test's own data folder unless told otherwise, and ends them."""
    started: list[Server] = []

    def start(*arguments: str, data: str = "data", **environ: str) -> Server:
        variables = {f"UNSTUCK_{name.upper()}": text for name, text in environ.items()}
        server = Server(tmp_path / data, *arguments, environ=variables).start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture(autouse=True)
def _left_as_found(request: pytest.FixtureRequest) -> Iterator[None]:
    """Ends the jobs that a test leaves on the server of all: pages of later tests would go on following them."""
    server: Server | None = request.getfixturevalue("server") if "server" in request.fixturenames else None
    yield
    if server is not None and server.process is not None and server.process.poll() is None:
        for job in server.get("/api/jobs?state=queued&state=running&limit=200")["jobs"]:
            httpx.post(f"{server.url}/api/jobs/{job['id']}/fail", json={"why": "its test is over"}, timeout=60)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that leave it as they found it, but for their jobs."""
    one = Server(tmp_path_factory.mktemp("server") / "data", "--workers", "2").start()
    yield one
    one.stop()
