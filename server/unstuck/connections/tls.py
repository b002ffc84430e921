"""Counts and limits a TLS connection from its first packet on, not only from the end of its handshake.

Must not know: HTTP.
See also: waiting.py (the limits), http1.py and http2.py (what follows the handshake).

asyncio's servers make the handshake themselves, and know its connection only afterwards: clients that never finish
one are bounded by nothing but a minute each. So this server listens for plain connections, and one whose handshake
is under way waits like one that has sent no request yet.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

from unstuck.connections.waiting import HEAD_S, Waiting


class Handshake(asyncio.Protocol):
    """A connection until its TLS handshake is done; `connections` are all that are open."""

    def __init__(
        self,
        waiting: Waiting,
        connections: set[Any],
        context: ssl.SSLContext,
        protocol: Callable[[], asyncio.Protocol],
    ) -> None:
        self._waiting = waiting
        self._connections = connections
        self._context = context
        self._protocol = protocol
        self._early = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._connections.add(self)
        self._waiting.opened(self, len(self._connections))
        self._handshake: Any = asyncio.get_running_loop().start_tls(
            transport, self, self._context, server_side=True, ssl_handshake_timeout=HEAD_S
        )
        # Its first step is taken here, not by a task: uvloop reads as soon as this method returns, and what comes
        # belongs to the handshake.
        self._handshake.send(None).add_done_callback(self._on_negotiated)

    def _on_negotiated(self, _: asyncio.Future[Any]) -> None:
        self._waiting.closed(self)
        self._connections.discard(self)
        try:
            self._handshake.send(None)
        except StopIteration as negotiated:
            transport = negotiated.value
        except OSError:  # no TLS, too slow, or gone
            self._transport.abort()
            return
        if transport is None or transport.is_closing():  # aborted meanwhile
            return
        protocol = self._protocol()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if self._early:
            transport.get_protocol().data_received(self._early)  # it may have chosen another one

    def data_received(self, data: bytes) -> None:
        """Keep what comes right behind the handshake."""
        self._early += data

    # -- as any connection

    def on_overdue(self) -> None:
        """Close, since the handshake takes too long."""
        self._transport.abort()

    def make_way(self) -> None:
        """Close at once."""
        self._transport.abort()

    def shutdown(self) -> None:
        """Close, since the server stops; uvicorn calls this."""
        self._transport.abort()
