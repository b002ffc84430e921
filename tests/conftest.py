"""What many tests need: waiting for something, a real store, a real server in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from unstuck.store.sqlite import SQLiteStore

#: Far beyond what anything here takes; a test that waits so long has failed.
PATIENCE_S = 30.0


def eventually(check: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """The first true value of `check()`; fails after `patience_s`."""
    end = time.monotonic() + patience_s
    while True:
        if value := check():
            return value
        assert time.monotonic() < end, f"not within {patience_s} s: {check}"
        time.sleep(0.02)


async def soon(check: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """As `eventually`, without blocking the loop."""
    end = time.monotonic() + patience_s
    while True:
        if value := check():
            return value
        assert time.monotonic() < end, f"not within {patience_s} s: {check}"
        await asyncio.sleep(0.01)


class Clock:
    """A clock that moves only when told."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


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
    """As the server has it; a module whose `store` it shall be says `store = store_in_real_time`."""
    one = SQLiteStore(tmp_path / "unstuck.db", steady=time.monotonic)
    await one.open()
    yield one
    await one.close()


class Server:
    """`unstuck serve` in a process of its own, on a free port."""

    #: The module that is run; another one takes the same arguments.
    program = "unstuck"
    #: What the command is run under, such as prlimit.
    under: tuple[str, ...] = ()

    def __init__(self, data: Path, *arguments: str, environ: dict[str, str] | None = None) -> None:
        self.data = data
        self.log = data.with_name(f"{data.name}.log")
        self._arguments = arguments
        self._environ = environ or {}
        self.process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> Server:
        environ = {name: text for name, text in os.environ.items() if not name.startswith("UNSTUCK_")}
        command = [sys.executable, "-m", self.program, "serve", "--port", "0", "--data", str(self.data)]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*self.under, *command, *self._arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**environ, **self._environ, "COLUMNS": "200"},
            )
        assert self.process.stdout is not None
        said = ""
        for line in self.process.stdout:
            said += line
            if found := re.search(r"serves (https?://\S+)", line):
                self.url = found.group(1)
            if "curl" in line:
                return self
        raise AssertionError(f"the server did not start:\n{said}\n{self.log.read_text()}")

    def stop(self, sig: int = signal.SIGTERM) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(sig)
        try:
            return self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()
            self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()

    # -- what a client does

    def submit(self, kind: str, files: dict[str, bytes] | None = None, **fields: Any) -> dict[str, Any]:
        """A job; with `files` as a form, without as JSON."""
        if files is None:
            answer = httpx.post(f"{self.url}/api/jobs", json={"kind": kind, **fields}, timeout=60)
        else:
            form = {name: json.dumps(v) if isinstance(v, dict) else str(v) for name, v in fields.items()}
            parts = [("files", (name, content)) for name, content in files.items()]
            answer = httpx.post(f"{self.url}/api/jobs", data={"kind": kind, **form}, files=parts, timeout=60)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def get(self, path: str) -> Any:
        answer = httpx.get(f"{self.url}{path}", timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def job(self, job_id: str) -> dict[str, Any]:
        return dict(self.get(f"/api/jobs/{job_id}"))

    def until(self, job_id: str, check: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            job = self.job(job_id)
            return job if check(job) else None

        return dict(eventually(look))

    def until_done(self, job_id: str) -> dict[str, Any]:
        return self.until(job_id, lambda job: bool(job["done"]))

    def items(self, job_id: str) -> list[dict[str, Any]]:
        return list(self.get(f"/api/jobs/{job_id}/items?limit=1000")["items"])


StartServer = Callable[..., Server]


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
