"""Limits HTTP/1.1, with and without TLS: the size of a head, the time that it takes, and what follows it.

Must not know: routes, or what a request asks for.
See also: waiting.py (how long a connection waits), ../api/bodies.py (the limits of bodies), PROTOCOL.md section 3.

httptools limits nothing: 100 MiB of 4-byte header lines became 2.6 GiB in memory, and one value of 400 MiB kept
the event loop busy for minutes. Whatever is neither body nor complete counts as a head: also trailers, the
extensions of chunks, and empty lines between requests.

An answer to HTTP/1.0 has no chunks (RFC 9112, 6.1): its body ends with the connection.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from typing import Any

import httptools
import msgspec
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from unstuck import wire
from unstuck.connections.waiting import HEAD_S, Waiting, WaitingProtocol

log = logging.getLogger("unstuck.http")

#: Most bytes of a head. nginx and browsers stop at 32 KiB or less; a proxy may add some.
HEAD_BYTES = 64 * 1024
#: Most lines of a head, as in Apache. Browsers send about 20, proxies add about 10.
HEAD_LINES = 100
#: Requests that may wait behind the one that is answered; each takes about 5 KiB. Browsers send none ahead.
PIPELINED = 20
#: After a refusal the connection is read on for a while, since a client that is cut off never sees the answer.
LINGER_S = 1.0
LINGER_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer to what is no request."""

    status: int
    code: str
    title: str
    detail: str


MALFORMED = Refusal(400, "invalid_request", "Invalid request", "This is not a valid HTTP request.")
TOO_LARGE = Refusal(
    431, "head_too_large", "Request head too large",
    f"The head of a request may have at most {HEAD_BYTES // 1024} KiB and {HEAD_LINES} lines. Remove cookies or "
    "headers.",
)  # fmt: skip
TOO_SLOW = Refusal(
    408, "head_too_slow", "Request head too slow",
    f"The head of the request did not arrive within {HEAD_S:g} s. Send the request again.",
)  # fmt: skip


class TooMuch(httptools.HttpParserError):
    """A head with too many lines, or too many requests at once."""


class LimitedProtocol(WaitingProtocol, HttpToolsProtocol):
    """uvicorn's protocol, with limits.

    Slots, because uvicorn's 27 attributes fit into a dict whose keys all connections share, and seven more do not
    (Python shares at most 30): without slots an idle viewer takes 12.9 KiB instead of 11.7.
    """

    __slots__ = ("_advanced", "_in_body", "_lines", "_lingering", "_refusal", "_unfinished")

    def __init__(
        self, waiting: Waiting, config: Config, server_state: ServerState, app_state: dict[str, Any], loop: Any
    ) -> None:
        super().__init__(waiting, config, server_state, app_state, loop)
        self._in_body = False
        self._advanced = False  # a head or a message was completed, or a part of a body came
        self._unfinished = 0  # bytes since then
        self._lines = 0
        self._refusal = MALFORMED  # of what the parser does not accept
        self._lingering: int | None = None  # bytes read since a refusal

    # -- the connection

    def on_overdue(self) -> None:
        """Answer 408 to half a head; close any other connection."""
        if self._answering:  # and its client does not read
            self.make_way()
        elif self._unfinished:
            self._refuse(TOO_SLOW)
        else:
            self.transport.close()  # once the last answer is sent

    def make_way(self) -> None:
        """Close at once, or, if the last answer is just being sent, after it."""
        if self._answering or self._unfinished:
            self.transport.abort()
        else:
            self.transport.close()

    # -- what comes in

    def data_received(self, data: bytes) -> None:
        if self._lingering is not None:
            self._lingering += len(data)
            if self._lingering > LINGER_BYTES:
                self.transport.abort()
            return
        while data and not self.transport.is_closing() and self._lingering is None:
            piece = data if self._in_body else data[: HEAD_BYTES - self._unfinished]
            data = data[len(piece) :]
            self._advanced = False
            super().data_received(piece)
            self._unfinished = 0 if self._advanced else self._unfinished + len(piece)
            if self._unfinished >= HEAD_BYTES and self._lingering is None:
                self._refuse(TOO_LARGE)
        if self._unfinished and self._lingering is None and not self._answering:
            self._waiting.for_rest_of_head(self)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._lines = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self._lines += 1
        if self._lines > HEAD_LINES:
            self._refusal = TOO_LARGE
            raise TooMuch("more lines than a head may have")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._advanced = self._in_body = True
        self._waiting.request_has_come(self)
        if len(self.pipeline) > PIPELINED:
            raise TooMuch("more requests at once than are queued")
        if self.scope["http_version"] == "1.0":
            self.cycle.chunked_encoding, self.cycle.expected_content_length = False, _UntilClose()

    def on_body(self, body: bytes) -> None:
        self._advanced = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._advanced, self._in_body = True, False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._answering and not self.transport.is_closing():
            self._waiting.for_request(self, len(self.connections))

    # -- what is refused

    @property
    def _answering(self) -> bool:
        """Return whether a request is worked on, so that nothing else can be answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser does not accept; uvicorn calls this."""
        error = sys.exc_info()[1]
        cause = None if error is None else error.__context__
        if cause is not None and not isinstance(cause, TooMuch):
            log.error("Request could not be taken in, which is a defect of the server", exc_info=cause)
        self._refuse(self._refusal)

    def _refuse(self, refusal: Refusal) -> None:
        self._lingering = 0
        if self._answering:
            self.transport.abort()
            return
        body = msgspec.json.encode(
            wire.Problem(title=refusal.title, status=refusal.status, detail=refusal.detail, code=refusal.code)
        )
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/problem+json"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            (b"connection", b"close"),
        ]
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[refusal.status] + lines + b"\r\n" + body)
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(LINGER_S, self.timeout_keep_alive_handler)
        else:  # TLS says itself where the answer ends
            self.transport.close()


class _UntilClose(int):
    """The length of a body that ends with its connection: more than any, however much was sent."""

    def __new__(cls) -> _UntilClose:
        return super().__new__(cls, 2**62)

    def __sub__(self, sent: int) -> _UntilClose:
        return self

    def __ne__(self, rest: object) -> bool:
        return False

    __hash__ = int.__hash__
