"""Chooses between HTTP/2 and HTTP/1.1 as agreed in the TLS handshake, and limits idle HTTP/2 connections.

Must not know: routes, or what a request asks for.
See also: http1.py (all other limits). zttp has limits on heads, frames and streams of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.zttp_h2_impl import ZttpH2Protocol

from unstuck.connections.waiting import WaitingProtocol

ALPN = ["h2", "http/1.1"]


class LimitedHttp2(WaitingProtocol, ZttpH2Protocol):
    """uvicorn's protocol, whose connection waits for its client while it has no request."""

    def handle_request(self, event: Any) -> None:
        super().handle_request(event)
        self._waiting.request_has_come(self)

    def on_stream_closed(self) -> None:
        super().on_stream_closed()
        if not self.cycles and not self.transport.is_closing():
            self._waiting.for_request(self, len(self.connections))

    def on_overdue(self) -> None:
        """Say goodbye and close; one whose client does not read is closed at once."""
        if self.cycles:
            self.make_way()
        else:
            self._close_connection()

    def make_way(self) -> None:
        """Close at once."""
        self.transport.abort()


class Negotiated(asyncio.Protocol):
    """A TLS connection until it is known which protocol was agreed."""

    def __init__(self, http1: Callable[[], asyncio.Protocol], http2: Callable[[], asyncio.Protocol]) -> None:
        self._http1 = http1
        self._http2 = http2

    def connection_made(self, transport: Any) -> None:
        chosen = transport.get_extra_info("ssl_object").selected_alpn_protocol()
        protocol = self._http2() if chosen == "h2" else self._http1()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
