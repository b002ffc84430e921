"""Sends events to thousands of viewers without a task for each: the fast way out, when our own server serves.

An ASGI `send` of uvicorn finishes at once unless the connection's buffer is full. So one flush per turn of the
loop calls the `send` of every viewer that has something, and steps its coroutine a single time. Only a viewer
whose buffer is full gets a task, which waits as long as a reader may stall, and no longer. Measured, this costs
a third less than waking a task for each viewer and event, and a third of the memory of a response with tasks.

This rests on three facts: `send` uses no cancel scopes (uvicorn's does not; a host app's middleware may, so there
sse-starlette does the work, see streams.py); its coroutine may be finished by another task; and aborting the
transport ends the request. They hold for what serve.py put into the scope, and for nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from unstuck.hub import Hub
from unstuck.viewer import Viewer

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
class Wire:
    """A connection as uvicorn has it: its own `send`, how to cut it, and how to bound what waits in it (bytes).
    `hold` is what is left to do for it when the app's whole stack of middleware has returned: a dozen frames less
    for each viewer, which is 6 KiB."""

    send: Send
    abort: Callable[[], None]
    bound: Callable[[int], None]
    hold: Callable[[Receive], Awaitable[None]] | None = None


#: Where serve.py puts it.
WIRE = "unstuck.wire"


class Flush:
    """All outlets of an app. Whatever rings in one turn of the loop is sent in the next."""

    def __init__(self) -> None:
        self._rung: deque[Outlet] = deque()
        self._planned = False

    def ring(self, outlet: Outlet) -> None:
        if outlet.rung:
            return
        outlet.rung = True
        self._rung.append(outlet)
        self._plan()

    def _plan(self) -> None:
        if not self._planned:
            self._planned = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        self._planned = False
        rung = self._rung
        for _ in range(min(len(rung), SENDS_PER_TURN)):
            outlet = rung.popleft()
            outlet.rung = False
            outlet.push()
        if rung:
            self._plan()


class Outlet:
    """One viewer's connection."""

    __slots__ = ("_flush", "_hub", "_limit_s", "_over", "_rest", "_viewer", "_wire", "rung")

    def __init__(self, viewer: Viewer, wire: Wire, flush: Flush, limit_s: float, hub: Hub) -> None:
        self.rung = False
        self._hub = hub
        self._viewer = viewer
        self._wire = wire
        self._flush = flush
        self._limit_s = limit_s
        self._rest: asyncio.Task[None] | None = None  # a send that could not finish at once
        self._over = False
        viewer.rung = self.ring

    def ring(self) -> None:
        self._flush.ring(self)

    def push(self) -> None:
        """Send what there is, unless a send is under way: then what gathers goes with the next one."""
        if self._rest is not None or self._over:
            return
        data = self._viewer.take()
        self._over = self._viewer.ended
        if data or self._over:
            self._step(self._wire.send({"type": "http.response.body", "body": data, "more_body": not self._over}))

    def _step(self, sending: Any) -> None:
        try:
            waits_for = sending.send(None)
        except StopIteration:
            return
        except Exception:
            log.exception("a stream broke while it was sent to")
            self._wire.abort()
            return
        self._rest = asyncio.create_task(self._finish(sending, waits_for))

    async def _finish(self, sending: Coroutine[Any, Any, None], waits_for: Any) -> None:
        try:
            async with asyncio.timeout(self._limit_s):
                await _Rest(sending, waits_for)
        except TimeoutError:
            log.info("a reader that had not read for %g s was let go", self._limit_s)
            self._over = True
            self._wire.abort()
        finally:
            self._rest = None
        self.push()

    async def hold(self, receive: Receive) -> None:
        """Until the client goes, or all was sent."""
        try:
            self.push()
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            self._over = True
            self._viewer.rung = None
            self._hub.part(self._viewer)
            if self._rest is not None:
                self._rest.cancel()
                await asyncio.wait([self._rest])


class _Rest:
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


class Live(Response):
    """The response that is a stream: opens it, and has an outlet held until the client goes."""

    def __init__(self, viewer: Viewer, opening: bytes, hub: Hub, flush: Flush, limit_s: float) -> None:
        # Chromium reads on for 5 s where a page gave up an answer between its head and its body on a connection
        # that may be used again; so this one may not.
        super().__init__(headers={**HEADERS, "Connection": "close"})
        del self.headers["content-length"]
        self._viewer, self._opening, self._hub, self._flush, self._limit_s = viewer, opening, hub, flush, limit_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wire: Wire = scope[WIRE]
        wire.bound(BACKLOG_BYTES)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            # With the first event, where it is there: one send less for each of thousands who come together.
            first = b"" if self._viewer.ended else self._viewer.take()
            await send({"type": "http.response.body", "body": self._opening + first, "more_body": True})
        except BaseException:
            self._hub.part(self._viewer)
            raise
        wire.hold = Outlet(self._viewer, wire, self._flush, self._limit_s, self._hub).hold
