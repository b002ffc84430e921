"""Fixtures for all rooms: a store on a real file, and real servers in their own processes."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import postgres as pg
from tests.support.clock import Clock
from tests.support.server import HTTP, Server, StartServer
from unstuck.store.sqlite import SQLiteStore

# A busy machine is no failure of the code: no example has a time limit.
settings.register_profile("unstuck", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unstuck")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(tmp_path / "unstuck.db", clock=clock)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def store_in_real_time(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    """A store with the server's clocks; a room that works in real time makes it its `store`."""
    store = SQLiteStore(tmp_path / "unstuck.db", steady=time.monotonic)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Start servers, on the test's own data folder unless `data` names another; stop them after the test."""
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
def _end_leftover_jobs(request: pytest.FixtureRequest) -> Iterator[None]:
    """End the jobs that a test leaves on the shared server: pages of later tests would follow them."""
    server: Server | None = request.getfixturevalue("server") if "server" in request.fixturenames else None
    yield
    if server is not None and server.process is not None and server.process.poll() is None:
        for job in server.get("/api/jobs?state=queued&state=running&limit=200")["jobs"]:
            HTTP.post(f"{server.url}/api/jobs/{job['id']}/fail", json={"why": "its test is over"})


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server shared by all tests that leave nothing behind but jobs."""
    server = Server(tmp_path_factory.mktemp("server") / "data", "--workers", "2").start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pg.Cluster]:
    """A PostgreSQL server, shared by all tests and by all processes that pytest-xdist runs them in."""
    pg.require()
    base = tmp_path_factory.getbasetemp()
    with pg.cluster((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "postgres") as cluster:
        yield cluster


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[pg.Cluster]:
    """A PostgreSQL server of this test alone, which may end and crash it."""
    pg.require()
    with pg.cluster(tmp_path / "postgres") as cluster:
        yield cluster


@pytest.fixture
def database(postgres: pg.Cluster) -> Iterator[str]:
    """The name of an empty database for one test; `postgres.url(database)` is its URL."""
    with postgres.database() as name:
        yield name
