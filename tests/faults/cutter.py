"""Wires before a port: they carry bytes that nobody reads, such as TLS with HTTP/2 inside, and are cut on order.

What is on one connection is struck together, streams and polls alike. Must not know: HTTP, or what is carried.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.faults.wire import HOST, closed, reset


class Cutter:
    """See `before`. `port` is where it listens."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._wires: set[_Wire] = set()
        self._passes = asyncio.Event()
        self._passes.set()
        self.port = 0
        self.carried = 0  # connections, so far

    @staticmethod
    @asynccontextmanager
    async def before(target: int) -> AsyncIterator[Cutter]:
        cutter = Cutter(target)
        server = await asyncio.start_server(cutter._accept, HOST, 0)
        cutter.port = server.sockets[0].getsockname()[1]
        try:
            yield cutter
        finally:
            server.close()
            cutter.let_through()
            wires = set(cutter._wires)
            for wire in wires:
                wire.reset()
            await asyncio.gather(*(wire.over.wait() for wire in wires))

    @property
    def open(self) -> int:
        return len(self._wires)

    def has_carried(self, count: int) -> bool:
        return self.carried >= count

    def hold(self) -> None:
        """A black hole: nothing gets through; what waited arrives when it is over."""
        self._passes.clear()

    def let_through(self) -> None:
        self._passes.set()

    def reset(self) -> None:
        """RST for all that is open."""
        for wire in self._wires:
            wire.reset()

    def lose(self) -> None:
        """What is open is over for the server, as when its kernel has given up; the client hears nothing of it."""
        for wire in self._wires:
            wire.lose()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.carried += 1
        wire = _Wire(reader, writer, self._passes)
        self._wires.add(wire)
        try:
            await wire.carry(self._target)
        except ConnectionError:
            pass  # one side went
        finally:
            await closed(writer)
            self._wires.discard(wire)
            wire.over.set()


class _Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passes: asyncio.Event) -> None:
        self.over = asyncio.Event()
        self._reader, self._writer, self._passes = reader, writer, passes
        self._lost = asyncio.Event()

    def reset(self) -> None:
        reset(self._writer)

    def lose(self) -> None:
        self._lost.set()

    async def carry(self, target: int) -> None:
        """Until one side has closed; what is lost, until the client has."""
        reader, writer = await asyncio.open_connection(HOST, target)
        ways = {
            asyncio.create_task(self._pump(self._reader, writer)),
            asyncio.create_task(self._pump(reader, self._writer)),
            asyncio.create_task(self._lost.wait()),
        }
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            await closed(writer)
        if self._lost.is_set():
            while await self._reader.read(65_536):
                pass
        for way in done:
            way.result()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while some := await source.read(65_536):
            await self._passes.wait()
            sink.write(some)
            await sink.drain()
