"""What all scenes share: a browser, a folder, servers, and an HTTP client that bypasses every proxy.

Starting a server with its workers costs a second of CPU, so a server that a scene leaves in good order serves the
next one too. It must not know what is played.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from copy import copy
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.faults.breakable import VARIABLE, Breakage
from tests.faults.devtools import Browser
from tests.faults.wire import HOST
from tests.support.server import Server

ROOT = Path(__file__).parents[2]
#: The items that a killed server held wait until their leases expire; this keeps tests short.
LEASE_S = "3"
#: Effectively no heartbeats: no stream stays open for that long.
NO_HEARTBEATS_S = 3_600


@dataclass(frozen=True, slots=True)
class Need:
    """The kind of server that a scene needs."""

    heartbeat_s: float = 15.0
    breakable: bool = False


class BreakableServer(Server):
    """A server with parts that can be broken; see breakable.py."""

    program = "tests.faults.breakable"

    def start(self) -> Server:
        self.mend()
        self._environ = {**self._environ, VARIABLE: str(self._breakage)}
        return super().start()

    def break_(self, what: Breakage) -> None:
        beside = self._breakage.with_suffix(".new")
        beside.write_text(what)
        beside.replace(self._breakage)  # so it is never read half written

    def mend(self) -> None:
        self._breakage.unlink(missing_ok=True)

    @property
    def _breakage(self) -> Path:
        return self.data.with_suffix(".breakage")


class Stage:
    """A browser, servers to lend and an HTTP client; see `set_up`."""

    def __init__(self, browser: Browser, folder: Path, http: httpx.AsyncClient) -> None:
        self.browser = browser
        self.http = http
        self._folder = folder
        self._started: list[Server] = []
        self._idle: dict[Need, list[Server]] = {}

    @staticmethod
    @asynccontextmanager
    async def set_up(folder: Path) -> AsyncIterator[Stage]:
        # A connection for each request: the server may close an idle one just as it is used again.
        limits = httpx.Limits(max_keepalive_connections=0)
        async with Browser.launched() as browser, httpx.AsyncClient(timeout=30, limits=limits) as http:
            stage = Stage(browser, folder, http)
            try:
                yield stage
            finally:
                await asyncio.gather(*(asyncio.to_thread(server.stop) for server in stage._started))

    @asynccontextmanager
    async def with_own_browser(self, *options: str) -> AsyncIterator[Stage]:
        """Yield a copy of this stage with its own browser, started with these options."""
        async with Browser.launched(*options) as browser:
            stage = copy(self)
            stage.browser = browser
            yield stage

    @asynccontextmanager
    async def server(self, need: Need) -> AsyncIterator[Server]:
        idle = self._idle.setdefault(need, [])
        server = idle.pop() if idle else await self._start(need)
        yield server
        idle.append(server)  # unless the scene failed, in which case it may have left work behind

    async def _start(self, need: Need) -> Server:
        make = BreakableServer if need.breakable else Server
        server = make(
            self._folder / f"server-{len(self._started) + 1}",
            "--workers", "2", "--port", str(free_port()),  # it stays the same across restarts
            environ={"UNSTUCK_LEASE_S": LEASE_S, "UNSTUCK_HEARTBEAT_S": str(need.heartbeat_s)},
        )  # fmt: skip
        self._started.append(server)
        await asyncio.to_thread(server.start)
        return server


def free_port() -> int:
    """Return a free port below the range used for outgoing connections, so that it stays free between restarts."""
    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as one, suppress(OSError):
            one.bind((HOST, port))
            return port
