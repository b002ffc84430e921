"""Decides how long a connection may wait for its client, and which one makes room for another.

Must not know: HTTP.
See also: http1.py and http2.py (the connections), ../streaming/open_files.py (how many there may be).

A connection waits for a request (`idle`), for the rest of a head (`heads`), or for its client to read (`writes`).
Requests that are worked on do not wait, and streams have their own limits. When there are too many connections,
the one that has waited longest is closed, as nginx does: so a client that sends its request at once is always
served, however many say nothing. One loop looks at all of them, which is cheaper than a timer for each.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol

#: Time for a connection's first byte, and then for the rest of the head (seconds). A proxy sends a head at once.
HEAD_S = 10.0
#: Heads that may be unfinished at once: 32 MiB of memory at most. Usually a head comes in one piece.
HEADS_AT_ONCE = 512
#: Time in which a client reads what is buffered for it, about 48 KiB (seconds): that is 1.6 KiB/s.
WRITE_S = 30.0
#: Between two looks at the connections that wait (seconds).
LOOK_S = 1.0


class Connection(Protocol):
    """A connection that waits for its client."""

    def on_overdue(self) -> None:
        """Answer if that is possible, and close."""

    def make_way(self) -> None:
        """Close at once."""


class WaitList:
    """Connections that wait for the same thing, those that have waited longest first."""

    __slots__ = ("_since", "limit_s", "most")

    def __init__(self, limit_s: float, most: int | None = None) -> None:
        self.limit_s = limit_s
        self.most = most
        self._since: dict[Connection, float] = {}

    def __len__(self) -> int:
        return len(self._since)

    def add(self, connection: Connection, now: float) -> None:
        """Let a connection wait from now on. One that waits already keeps its place."""
        self._since.setdefault(connection, now)
        if self.most is not None and len(self._since) > self.most:
            self.first().make_way()

    def remove(self, connection: Connection) -> None:
        """Let a connection wait no longer."""
        self._since.pop(connection, None)

    def first(self) -> Connection:
        """Take out the connection that has waited longest."""
        first = next(iter(self._since))
        del self._since[first]
        return first

    def overdue(self, now: float) -> list[Connection]:
        """Take out the connections that have waited too long."""
        late = []
        for connection, since in self._since.items():
            if now - since < self.limit_s:
                break
            late.append(connection)
        for connection in late:
            del self._since[connection]
        return late


class Waiting:
    """All connections of a server that wait for their clients; `most` may be open at once."""

    def __init__(
        self, most: int, *, write_s: float = WRITE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.most = most
        self._clock = clock
        self._idle = WaitList(HEAD_S)
        self._heads = WaitList(HEAD_S, HEADS_AT_ONCE)
        self._writes = WaitList(max(write_s, WRITE_S))
        self._lists = (self._idle, self._heads, self._writes)

    def __len__(self) -> int:
        return sum(map(len, self._lists))

    def opened(self, connection: Connection, count: int) -> None:
        """Take in a new connection; `count` are open with it."""
        self._make_room(count)
        self._idle.add(connection, self._clock())

    def for_request(self, connection: Connection, count: int) -> None:
        """Let a connection wait for its next request; `count` are open with it."""
        self._idle.add(connection, self._clock())
        self._make_room(count)

    def _make_room(self, count: int) -> None:
        if count > self.most:
            for waiting in self._lists:
                if waiting:
                    waiting.first().make_way()
                    return

    def for_rest_of_head(self, connection: Connection) -> None:
        """Let a connection that waited for a request wait for the rest of its head."""
        self._idle.remove(connection)
        self._heads.add(connection, self._clock())

    def for_reader(self, connection: Connection) -> None:
        """Let a connection wait for its client to read."""
        self._writes.add(connection, self._clock())

    def reader_is_back(self, connection: Connection) -> None:
        """Let a connection no longer wait for its client to read."""
        self._writes.remove(connection)

    def request_has_come(self, connection: Connection) -> None:
        """Let a connection wait no longer for a request or a head."""
        self._idle.remove(connection)
        self._heads.remove(connection)

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        for waiting in self._lists:
            waiting.remove(connection)

    async def watch(self) -> None:
        """Close the connections that have waited too long; runs until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.close_overdue()

    def close_overdue(self) -> None:
        """Close the connections that have waited too long."""
        now = self._clock()
        for waiting in self._lists:
            for connection in waiting.overdue(now):
                connection.on_overdue()


class WaitingProtocol:
    """The part of a protocol that enters and leaves the lists; it comes before uvicorn's class among the bases.

    uvicorn's own arguments follow `waiting`.
    """

    __slots__ = ("_waiting",)  # see http1.py

    connections: set[Any]

    def __init__(self, waiting: Waiting, *of_uvicorn: Any) -> None:
        super().__init__(*of_uvicorn)
        self._waiting = waiting

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)  # type: ignore[misc]
        self._waiting.opened(self, len(self.connections))

    def connection_lost(self, exc: Exception | None) -> None:
        self._waiting.closed(self)
        super().connection_lost(exc)  # type: ignore[misc]

    def pause_writing(self) -> None:
        super().pause_writing()  # type: ignore[misc]
        self._waiting.for_reader(self)

    def resume_writing(self) -> None:
        super().resume_writing()  # type: ignore[misc]
        self._waiting.reader_is_back(self)

    def on_overdue(self) -> None:
        raise NotImplementedError

    def make_way(self) -> None:
        raise NotImplementedError
