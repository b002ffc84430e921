"""Sends events to thousands of viewers without a task for each: the fast way out, when our own server serves.

One flush per turn of the loop writes to every viewer that has something. Where nothing waits in the connection's
buffer, as is nearly always so, that is the chunk of HTTP/1.1 that all viewers of a change share, and it goes
straight to the transport. Where something waits, uvicorn's `send` is called, which knows whether there is room:
its coroutine is stepped once, and only a viewer whose buffer is full gets a task, which waits as long as a reader
may stall, and no longer. Measured with 1,000 viewers, alternating, CPU seconds for 100,000 deliveries: a step of
`send` for each 1.7 to 1.9, this 1.1 to 1.3; BENCHMARKS.md has it beside others.

This rests on four facts: `send` uses no cancel scopes (uvicorn's does not; a host app's middleware may, so there
sse-starlette does the work, see streams.py); its coroutine may be finished by another task; aborting the transport
ends the request; and an answer without a length is sent in chunks, of which uvicorn keeps no account. They hold
for what serve.py put into the scope, and for nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from unstuck.streaming.hub import Hub
from unstuck.streaming.viewer import Viewer

log = logging.getLogger("unstuck.streams")

#: Sends in one turn of the loop: about 10 ms; then others have theirs.
SENDS_PER_TURN = 400
#: What of a stream waits in our memory for a reader who does not read, besides what the kernel holds (bytes).
BACKLOG_BYTES = 8 * 1024
HEADERS = {
    "Cache-Control": "no-store, no-transform",
    "Content-Type": "text/event-stream; charset=utf-8",
    "X-Accel-Buffering": "no",
}


@dataclass(slots=True)
class Connection:
    """A connection as uvicorn has it: its own `send`, and the transport below. `hold` is what is left to do for it
    when the app's whole stack of middleware has returned: a dozen frames less for each viewer, which is 6 KiB."""

    send: Send
    transport: asyncio.Transport
    serve_until_disconnect: Callable[[Receive], Awaitable[None]] | None = None


#: Where serve.py puts it.
CONNECTION_KEY = "unstuck.wire"


class FlushQueue:
    """All outlets of an app. Whatever rings in one turn of the loop is sent in the next."""

    def __init__(self) -> None:
        self._ready: deque[DirectWriter] = deque()
        self._planned = False
        self._data = self._chunk = b""

    def add(self, writer: DirectWriter) -> None:
        if not writer.queued:
            writer.queued = True
            self._ready.append(writer)
            if not self._planned:
                self._schedule()

    def chunk(self, data: bytes) -> bytes:
        """These bytes as a chunk of HTTP/1.1. The viewers of a change come one after the other with the same
        object, so it is made once for them."""
        if data is not self._data:
            self._data, self._chunk = data, b"%x\r\n%b\r\n" % (len(data), data)
        return self._chunk

    def _schedule(self) -> None:
        self._planned = True
        asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        self._planned = False
        rung = self._ready
        if len(rung) > SENDS_PER_TURN:
            self._schedule()
        ready: list[tuple[asyncio.Transport, bytes]] = []
        for _ in range(min(len(rung), SENDS_PER_TURN)):
            writer = rung.popleft()
            writer.queued = False
            if chunk := writer.next_chunk():
                ready.append((writer.transport, chunk))
        _write(iter(ready))


def _write(ready: Iterator[tuple[asyncio.Transport, bytes]]) -> None:
    """In a loop of their own: each write sweeps the caches of what it takes to get there."""
    try:
        for transport, chunk in ready:
            transport.write(chunk)
    except Exception:  # of one connection; the others follow
        log.exception("a stream broke while it was written to")
        transport.abort()
        _write(ready)


class DirectWriter:
    """One viewer's connection."""

    __slots__ = ("_flush", "_hub", "_limit_s", "_over", "_rest", "_viewer", "_wire", "queued", "transport")

    def __init__(
        self, viewer: Viewer, connection: Connection, flush: FlushQueue, limit_s: float, hub: Hub
    ) -> None:
        self.queued = False
        self._hub = hub
        self._viewer = viewer
        self._wire = connection
        self.transport = connection.transport
        self._flush = flush
        self._limit_s = limit_s
        self._rest: asyncio.Task[None] | None = None  # a send that could not finish at once
        self._over = False
        viewer.on_ready = partial(flush.add, self)

    def push(self) -> None:
        """Send what there is."""
        if chunk := self.next_chunk():
            _write(iter([(self.transport, chunk)]))

    def next_chunk(self) -> bytes:
        """What is to be written now, as a chunk; nothing where uvicorn's `send` has to take it, and while it does:
        then what gathers goes with the next one."""
        if self._rest is not None or self._over:
            return b""
        data = self._viewer.take()
        self._over = self._viewer.ended
        if self._over or self.transport.get_write_buffer_size():
            self._step(self._wire.send({"type": "http.response.body", "body": data, "more_body": not self._over}))
            return b""
        return self._flush.chunk(data) if data and not self.transport.is_closing() else b""

    def _step(self, sending: Any) -> None:
        try:
            waits_for = sending.send(None)
        except StopIteration:
            return
        except Exception:
            log.exception("a stream broke while it was sent to")
            self.transport.abort()
            return
        self._rest = asyncio.create_task(self._finish(sending, waits_for))

    async def _finish(self, sending: Coroutine[Any, Any, None], waits_for: Any) -> None:
        try:
            async with asyncio.timeout(self._limit_s):
                await _SteppedSend(sending, waits_for)
        except TimeoutError:
            log.info("a reader that had not read for %g s was let go", self._limit_s)
            self._over = True
            self.transport.abort()
        finally:
            self._rest = None
        self.push()

    async def serve_until_disconnect(self, receive: Receive) -> None:
        """Until the client goes, or all was sent."""
        try:
            self.push()
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            self._over = True
            self._viewer.on_ready = None
            self._hub.leave(self._viewer)
            if self._rest is not None:
                self._rest.cancel()
                await asyncio.wait([self._rest])


class _SteppedSend:
    """A coroutine that was stepped once, for a task to finish: it waits for what the step said, and goes on."""

    def __init__(self, stepped: Coroutine[Any, Any, None], waits_for: Any) -> None:
        self._stepped = stepped
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, None]:
        waits_for = self._waits_for
        while True:
            thrown: BaseException | None = None
            try:
                yield waits_for
            except BaseException as error:  # noqa: BLE001 – a cancel too goes where it belongs
                thrown = error
            try:
                waits_for = self._stepped.send(None) if thrown is None else self._stepped.throw(thrown)
            except StopIteration:
                return


class DirectResponse(Response):
    """The response that is a stream: opens it, and has an outlet held until the client goes."""

    def __init__(self, viewer: Viewer, opening: bytes, hub: Hub, flush: FlushQueue, limit_s: float) -> None:
        # Chromium reads on for 5 s where a page gave up an answer between its head and its body on a connection
        # that may be used again; so this one may not.
        super().__init__(headers={**HEADERS, "Connection": "close"})
        del self.headers["content-length"]
        self._viewer, self._opening, self._hub, self._flush, self._limit_s = viewer, opening, hub, flush, limit_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection: Connection = scope[CONNECTION_KEY]
        connection.transport.set_write_buffer_limits(BACKLOG_BYTES)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            # With the first event, where it is there: one send less for each of thousands who come together.
            first = b"" if self._viewer.ended else self._viewer.take()
            await send({"type": "http.response.body", "body": self._opening + first, "more_body": True})
        except BaseException:
            self._hub.leave(self._viewer)
            raise
        connection.serve_until_disconnect = DirectWriter(
            self._viewer, connection, self._flush, self._limit_s, self._hub
        ).serve_until_disconnect
