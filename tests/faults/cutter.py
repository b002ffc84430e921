"""Forwards TCP connections to a port without looking inside (such as HTTP/2 over TLS), and breaks them on demand.

Everything on one connection breaks together, streams and polls alike. It must not know HTTP, or what it forwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.faults.wire import HOST, closed, reset


class Cutter:
    """A forwarder that listens on `port`; see `in_front_of`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._wires: set[_Wire] = set()
        self._passes = asyncio.Event()
        self._passes.set()
        self.port = 0
        self.carried = 0  # connections so far

    @staticmethod
    @asynccontextmanager
    async def in_front_of(target: int) -> AsyncIterator[Cutter]:
        """Forward to this port of the loopback interface."""
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
            await asyncio.gather(*(wire.ended.wait() for wire in wires))

    @property
    def open(self) -> int:
        return len(self._wires)

    def has_carried(self, count: int) -> bool:
        return self.carried >= count

    def hold(self) -> None:
        """Let nothing through until `let_through`; what was held back then arrives."""
        self._passes.clear()

    def let_through(self) -> None:
        self._passes.set()

    def reset(self) -> None:
        """Send RST on every open connection."""
        for wire in self._wires:
            wire.reset()

    def lose(self) -> None:
        """Close the server's side of every connection, as its kernel does when it gives up; notify no client."""
        for wire in self._wires:
            wire.lose()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.carried += 1
        wire = _Wire(reader, writer, self._passes)
        self._wires.add(wire)
        try:
            await wire.carry(self._target)
        except ConnectionError:
            pass  # one side left
        finally:
            await closed(writer)
            self._wires.discard(wire)
            wire.ended.set()


class _Wire:
    """One forwarded connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passes: asyncio.Event) -> None:
        self.ended = asyncio.Event()
        self._reader, self._writer, self._passes = reader, writer, passes
        self._lost = asyncio.Event()

    def reset(self) -> None:
        reset(self._writer)

    def lose(self) -> None:
        self._lost.set()

    async def carry(self, target: int) -> None:
        """Forward both ways until one side closes; once lost, wait until the client does."""
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
