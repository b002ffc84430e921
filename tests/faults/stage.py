"""What all scenes share: a browser, a folder, servers, and a way to ask them past every proxy.

Starting a server with its workers costs a second of the processor, so one that was left in good order serves
the next scene too. Must not know: what is played.
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
#: A server that is killed loses the items in its hands until their lease has run out; this keeps tests short.
LEASE_S = "3"
#: As good as none: nothing is watched for so long.
NO_BEATS_S = 86_400


@dataclass(frozen=True, slots=True)
class Need:
    """Which server a scene needs."""

    heartbeat_s: float = 15.0
    breakable: bool = False


class BreakableServer(Server):
    """See breakable.py."""

    program = "tests.faults.breakable"

    def start(self) -> Server:
        self.mend()
        self._environ = {**self._environ, VARIABLE: str(self._breakage)}
        return super().start()

    def break_(self, what: Breakage) -> None:
        beside = self._breakage.with_suffix(".new")
        beside.write_text(what)
        beside.replace(self._breakage)  # never seen half written

    def mend(self) -> None:
        self._breakage.unlink(missing_ok=True)

    @property
    def _breakage(self) -> Path:
        return self.data.with_suffix(".breakage")


class Stage:
    """See the module, and `raised`."""

    def __init__(self, browser: Browser, folder: Path, http: httpx.AsyncClient) -> None:
        self.browser = browser
        self.http = http
        self._folder = folder
        self._started: list[Server] = []
        self._idle: dict[Need, list[Server]] = {}

    @staticmethod
    @asynccontextmanager
    async def raised(folder: Path) -> AsyncIterator[Stage]:
        # A connection for each request: one that idled may be closed by the server while it is used again.
        limits = httpx.Limits(max_keepalive_connections=0)
        async with Browser.launched() as browser, httpx.AsyncClient(timeout=30, limits=limits) as http:
            stage = Stage(browser, folder, http)
            try:
                yield stage
            finally:
                await asyncio.gather(*(asyncio.to_thread(server.stop) for server in stage._started))

    @asynccontextmanager
    async def with_own_browser(self, *options: str) -> AsyncIterator[Stage]:
        """The same one with a browser that nobody else uses, started with these options."""
        async with Browser.launched(*options) as browser:
            stage = copy(self)
            stage.browser = browser
            yield stage

    @asynccontextmanager
    async def server(self, need: Need) -> AsyncIterator[Server]:
        idle = self._idle.setdefault(need, [])
        server = idle.pop() if idle else await self._start(need)
        yield server
        idle.append(server)  # not where the scene broke: it may have left work behind

    async def _start(self, need: Need) -> Server:
        make = BreakableServer if need.breakable else Server
        server = make(
            self._folder / f"server-{len(self._started) + 1}",
            "--workers", "2", "--port", str(free_port()),  # the same one when it is started again
            environ={"UNSTUCK_LEASE_S": LEASE_S, "UNSTUCK_HEARTBEAT_S": str(need.heartbeat_s)},
        )  # fmt: skip
        self._started.append(server)
        await asyncio.to_thread(server.start)
        return server


def free_port() -> int:
    """One below those that systems give to outgoing connections, so that it stays free while nobody listens."""
    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as one, suppress(OSError):
            one.bind((HOST, port))
            return port
