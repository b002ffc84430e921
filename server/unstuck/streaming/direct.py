"""Writes events to thousands of viewers without a task for each, when our own server serves them.

Must not know: jobs, or what the bytes say.
See also: viewer.py (what is pending), serve.py (the connection).

One flush per loop iteration writes to the viewers with something pending. Nearly always the connection's buffer is
empty: then the HTTP/1.1 chunk that all viewers of a change share goes straight to the transport. Otherwise
uvicorn's `send` is called, which knows whether there is room: its coroutine is stepped once, and only a viewer
whose buffer is full gets a task, which waits as long as a reader may stall. Measured with 1,000 viewers,
alternating, in CPU seconds for 100,000 deliveries: one step of `send` for each took 1.7 to 1.9, this 1.1 to 1.3.

This rests on four facts. `send` uses no cancel scopes (uvicorn's does not; a host app's middleware may, so there
sse-starlette writes, see api/events.py). Another task may finish its coroutine. Aborting the transport ends the
request. A response without a length is sent in chunks, which uvicorn does not count. serve.py puts a Connection
into the scope only where these facts hold, and checks the last one when the server starts.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from unstuck.streaming.viewer import Viewer

log = logging.getLogger("unstuck.streams")

#: Writes in one loop iteration: about 10 ms.
WRITES_AT_ONCE = 400
#: Bytes of a stream held in our memory for a stalled reader, in addition to the kernel's buffer.
BACKLOG_BYTES = 8 * 1024
HEADERS = {
    "Cache-Control": "no-store, no-transform",
    "Content-Type": "text/event-stream; charset=utf-8",
    "X-Accel-Buffering": "no",
}


@dataclass(slots=True)
class Connection:
    """A request's connection as uvicorn has it: its own `send`, and the transport below. It owns the viewer.

    `serve_until_disconnect` runs after the app's whole middleware stack has returned: this saves a dozen frames,
    or 6 KiB, for each viewer. `close` is called at the end of the request, however it ends.
    """

    send: Send
    transport: asyncio.Transport
    viewer: Viewer | None = None
    serve_until_disconnect: Callable[[Receive], Awaitable[None]] | None = None

    def enter_context(self, cm: Viewer, /) -> Viewer:
        """Take the request's viewer in, until `close`."""
        self.viewer = cm.__enter__()
        return cm

    def close(self) -> None:
        """Let the viewer leave, if there is one."""
        viewer, self.viewer, self.serve_until_disconnect = self.viewer, None, None
        if viewer is not None:
            viewer.on_ready = None  # else viewer, writer and connection would refer to each other
            viewer.__exit__()


#: The key in the scope under which serve.py puts the Connection.
CONNECTION_KEY = "unstuck.connection"


class FlushQueue:
    """The writers of an app that have something pending; each loop iteration writes for up to WRITES_AT_ONCE."""

    def __init__(self) -> None:
        self._ready: deque[DirectWriter] = deque()
        self._scheduled = False
        self._data = self._chunk = b""

    def add(self, writer: DirectWriter) -> None:
        """Queue a writer, unless it is queued already."""
        if not writer.queued:
            writer.queued = True
            self._ready.append(writer)
            if not self._scheduled:
                self._schedule()

    def chunk(self, data: bytes) -> bytes:
        """Frame bytes as a chunk of HTTP/1.1.

        The viewers of a change come one after the other with the same object, so their chunk is made only once.
        """
        if data is not self._data:
            self._data, self._chunk = data, b"%x\r\n%b\r\n" % (len(data), data)
        return self._chunk

    def _schedule(self) -> None:
        self._scheduled = True
        asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        queue = self._ready
        if len(queue) > WRITES_AT_ONCE:
            self._schedule()
        chunks: list[tuple[asyncio.Transport, bytes]] = []
        for _ in range(min(len(queue), WRITES_AT_ONCE)):
            writer = queue.popleft()
            writer.queued = False
            if chunk := writer.next_chunk():
                chunks.append((writer.transport, chunk))
        _write(chunks)


def _write(chunks: Iterable[tuple[asyncio.Transport, bytes]]) -> None:
    """Write all chunks in a separate loop, since each write evicts from the CPU's caches what makes a chunk."""
    for transport, chunk in chunks:
        try:
            transport.write(chunk)
        except Exception:
            log.exception("Write to a stream failed, its connection was closed")
            transport.abort()


class DirectWriter:
    """Writes one viewer's stream to its connection."""

    __slots__ = ("_connection", "_flush", "_limit_s", "_over", "_rest", "_viewer", "queued", "transport")

    def __init__(self, viewer: Viewer, connection: Connection, flush: FlushQueue, limit_s: float) -> None:
        self.queued = False
        self._viewer = viewer
        self._connection = connection
        self.transport = connection.transport
        self._flush = flush
        self._limit_s = limit_s
        self._rest: asyncio.Task[None] | None = None  # finishes a send that found the buffer full
        self._over = False
        viewer.on_ready = partial(flush.add, self)

    def push(self) -> None:
        """Write what is pending now."""
        if chunk := self.next_chunk():
            _write([(self.transport, chunk)])

    def next_chunk(self) -> bytes:
        """Take out what is pending, as a chunk to write.

        The chunk is empty if uvicorn's `send` writes instead, or is still busy: what collects meanwhile goes with
        the next chunk.
        """
        if self._rest is not None or self._over:
            return b""
        data = self._viewer.take()
        self._over = self._viewer.ended
        if self._over or self.transport.get_write_buffer_size():
            self._step(
                self._connection.send({"type": "http.response.body", "body": data, "more_body": not self._over})
            )
            return b""
        return self._flush.chunk(data) if data and not self.transport.is_closing() else b""

    def _step(self, sending: Any) -> None:
        try:
            waits_for = sending.send(None)
        except StopIteration:
            return
        except Exception:
            log.exception("Send to a stream failed, its connection was closed")
            self.transport.abort()
            return
        self._rest = asyncio.create_task(self._finish(sending, waits_for))

    async def _finish(self, sending: Coroutine[Any, Any, None], waits_for: Any) -> None:
        try:
            async with asyncio.timeout(self._limit_s):
                await _SteppedSend(sending, waits_for)
        except TimeoutError:
            log.info("Viewer stopped reading and was disconnected: after_s=%g", self._limit_s)
            self._over = True
            self.transport.abort()
        finally:
            self._rest = None
        self.push()

    async def serve_until_disconnect(self, receive: Receive) -> None:
        """Serve the stream until the client disconnects or everything was sent."""
        try:
            self.push()
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            self._over = True
            self._viewer.on_ready = None
            if self._rest is not None:
                self._rest.cancel()
                await asyncio.wait([self._rest])


class _SteppedSend:
    """Awaits a coroutine that was stepped once before: waits for what that step yielded, then continues."""

    def __init__(self, stepped: Coroutine[Any, Any, None], waits_for: Any) -> None:
        self._stepped = stepped
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, None]:
        waits_for = self._waits_for
        while True:
            thrown: BaseException | None = None
            try:
                yield waits_for
            except BaseException as error:  # noqa: BLE001 – the coroutine handles cancellation too
                thrown = error
            try:
                waits_for = self._stepped.send(None) if thrown is None else self._stepped.throw(thrown)
            except StopIteration:
                return


class DirectResponse(Response):
    """A stream as a response: sends its start, and leaves the rest to a DirectWriter."""

    def __init__(self, viewer: Viewer, opening: bytes, flush: FlushQueue, limit_s: float) -> None:
        # If a page abandons a response between its head and its body, Chromium keeps reading for 5 s from a
        # connection that it may reuse. It may not reuse this one.
        super().__init__(headers={**HEADERS, "Connection": "close"})
        del self.headers["content-length"]
        self._viewer, self._opening, self._flush, self._limit_s = viewer, opening, flush, limit_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection: Connection = scope[CONNECTION_KEY]
        if not connection.transport.is_closing():  # the client may have gone already; a closed transport raises
            connection.transport.set_write_buffer_limits(BACKLOG_BYTES)
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        # With the first event, if it is there: one send fewer for each of thousands that connect together.
        first_event = b"" if self._viewer.ended else self._viewer.take()
        await send({"type": "http.response.body", "body": self._opening + first_event, "more_body": True})
        writer = DirectWriter(self._viewer, connection, self._flush, self._limit_s)
        connection.serve_until_disconnect = writer.serve_until_disconnect
