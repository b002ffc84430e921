"""Receives the bodies of requests: at a least rate, a limited number at once, within one budget of memory.

Must not know: what a body says.
See also: submit.py and reports.py (what is received), ../connections/http1.py (the limits of heads).

A body that comes whole with its head is never refused for lack of room: it waits for nothing. Any other takes one
of the places until it has ended. Only the time that is spent waiting for the client counts; while the server
writes what it has, it reads no more.
"""

from __future__ import annotations

import asyncio
import codecs
import re
from collections.abc import AsyncIterator
from contextlib import suppress

from starlette.requests import ClientDisconnect, Request

from unstuck.api.expect import asks_first
from unstuck.errors import BodyTooSlow, UnstuckError, UploadsFull

#: Within each WINDOW_S seconds of waiting a body brings at least WINDOW_BYTES, or ends: about 0.5 KiB/s, as over
#: the worst mobile network. The time covers the outages that TCP survives.
WINDOW_S = 30.0
WINDOW_BYTES = 16 * 1024
#: Bytes of one body in memory that are free, since uvicorn reads as many ahead, and of all beyond that: four of
#: the largest JSON submissions. Forty of them, sent and never finished, took 709 MiB.
FREE_BYTES = 64 * 1024
MEMORY_BYTES = 64 * 1024 * 1024
#: How much of a refused body is still read, so that its sender sees the answer (bytes, seconds).
DRAIN_BYTES = 64 * 1024 * 1024
DRAIN_S = 5.0
_LENGTH = re.compile(r"[0-9]{1,18}")


class Bodies:
    """The room for bodies that arrive at once: `most` of them, and `memory` bytes. As many may be drained."""

    __slots__ = ("arriving", "draining", "memory", "most")

    def __init__(self, most: int, memory: int = MEMORY_BYTES) -> None:
        self.most = most
        self.memory = memory  # that is left
        self.arriving = 0
        self.draining = 0


class Body:
    """One request's body as it arrives. What it takes of `bodies` is given back at the end of the block."""

    __slots__ = ("_arriving", "_bodies", "_ended", "_held", "_left", "_receive", "_window", "awaited", "declared")

    def __init__(self, request: Request, bodies: Bodies) -> None:
        self._receive = request.receive
        #: True while the client waits to be asked for the body, so that a refusal spares it the body.
        self.awaited = asks_first(request.headers)
        length = request.headers.get("content-length", "")
        #: The length that the head gives, or 0. It is only believed when it is too much: the body is counted.
        self.declared = int(length) if _LENGTH.fullmatch(length) else 0
        self._bodies = bodies
        self._arriving = False
        self._ended = False
        self._held = 0
        self._window = 0  # bytes that came in this window
        self._left = WINDOW_S  # seconds that are left of it

    def __enter__(self) -> Body:
        return self

    def __exit__(self, *_: object) -> None:
        self._bodies.arriving -= self._arriving
        self._bodies.memory += self._held
        self._arriving, self._held = False, 0

    async def pieces(self, window_s: float = WINDOW_S) -> AsyncIterator[bytes]:
        """Yield the body's pieces as they come.

        Raises UploadsFull if there is no place for it, BodyTooSlow if a window brings too little, and
        ClientDisconnect.
        """
        loop = asyncio.get_running_loop()
        self._left = window_s
        self.awaited = False
        while not self._ended:
            began = loop.time()
            try:
                async with asyncio.timeout_at(began + self._left):
                    message = await self._receive()
            except TimeoutError:
                raise BodyTooSlow(window_s) from None
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            piece = message.get("body", b"")
            self._ended = not message.get("more_body", False)
            self._left -= loop.time() - began
            self._window += len(piece)
            if self._window >= WINDOW_BYTES:
                self.begin_window(window_s)
            if not self._ended:
                self._take_place()
            if piece:
                yield piece

    def begin_window(self, window_s: float) -> None:
        """Begin a new window now."""
        self._window, self._left = 0, window_s

    def hold(self, count: int) -> None:
        """Have so many bytes of the body in memory. Raises UploadsFull if there is no room for them."""
        wanted = max(count - FREE_BYTES, 0)
        if wanted - self._held > self._bodies.memory:
            raise UploadsFull
        self._bodies.memory -= wanted - self._held
        self._held = wanted

    async def read(self, most: int, refusal: UnstuckError) -> bytes:
        """Read the whole body; raise `refusal` as soon as it has more than `most` bytes.

        The byte order mark that some programs write before JSON is left out (RFC 8259, 8.1).
        """
        if self.declared > most:
            raise refusal
        whole = bytearray()
        async for piece in self.pieces():
            self.hold(len(whole) + len(piece))
            whole += piece
            if len(whole) > most:
                raise refusal
        return bytes(whole).removeprefix(codecs.BOM_UTF8)

    async def drain(self) -> None:
        """Read on for a while after a refusal, since a sender that is cut off never sees the reason."""
        self.__exit__()
        if self.awaited:
            return
        if self._bodies.draining >= self._bodies.most:
            return
        self._bodies.draining += 1
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_S):
                    await self._skip(DRAIN_BYTES)
        finally:
            self._bodies.draining -= 1

    async def _skip(self, most: int) -> None:
        while not self._ended and most > 0:
            message = await self._receive()
            most -= len(message.get("body", b""))
            self._ended = not message.get("more_body", False)  # or the sender is gone

    def _take_place(self) -> None:
        if not self._arriving:
            if self._bodies.arriving >= self._bodies.most:
                raise UploadsFull
            self._arriving = True
            self._bodies.arriving += 1
