"""Decodes an event stream: bytes in, in pieces of any size, events out, as the HTML standard says. Pure.

Must not know: HTTP, or what the events mean.
See also: follower.py and doctor/measure.py, which read streams with it; PROTOCOL.md section 4.

A line ends with LF, CR or CRLF, which may come in two pieces. A CR ends its line at once, since the next byte may
be long in coming; an LF that follows belongs to it. An event that the end of a stream cuts off is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\r|\n")


class ServerSentEvent(NamedTuple):
    """One event. `id` is the last one that the stream gave, also with an earlier event."""

    event: str
    data: str
    id: str


class SSEDecoder:
    """Decodes one stream; a new connection needs a new decoder.

    `last_event_id` is the id to resume from. `retry_ms` is the delay before reconnecting that the server asked for
    (milliseconds), or None.
    """

    def __init__(self) -> None:
        self.last_event_id = ""
        self.retry_ms: int | None = None
        self._started = False
        self._rest: list[bytes] = []  # pieces of the line that has not ended, so that a long one costs no copies
        self._after_cr = False
        self._event = ""
        self._data: list[str] = []
        self._id = ""

    def feed(self, piece: bytes) -> Iterator[ServerSentEvent]:
        """Yield the events that this piece completes."""
        for line in self._lines(piece):
            if line:
                self._field(line)
            elif (event := self._dispatch()) is not None:
                yield event

    def _lines(self, piece: bytes) -> Iterator[bytes]:
        if not self._started:
            piece, self._rest = b"".join([*self._rest, piece]), []
            if len(piece) < len(BOM) and BOM.startswith(piece):
                self._rest = [piece]  # perhaps the beginning of a BOM
                return
            self._started = True
            piece = piece.removeprefix(BOM)
        if self._after_cr and piece:
            self._after_cr = False
            piece = piece.removeprefix(b"\n")
        start = 0
        for end in _LINE_END.finditer(piece):
            line = piece[start : end.start()]
            if self._rest:
                line, self._rest = b"".join([*self._rest, line]), []
            start = end.end()
            yield line
        if start < len(piece):
            self._rest.append(piece[start:])
        elif piece.endswith(b"\r"):
            self._after_cr = True

    def _field(self, line: bytes) -> None:
        name, _, raw = line.partition(b":")
        value = raw.removeprefix(b" ").decode("utf-8", "replace")
        match name:
            case b"event":
                self._event = value
            case b"data":
                self._data.append(value)
            case b"id" if "\x00" not in value:
                self._id = value
            case b"retry" if re.fullmatch("[0-9]{1,18}", value):
                self.retry_ms = int(value)
            case _:
                pass  # a comment (no name), or a field that the standard does not know

    def _dispatch(self) -> ServerSentEvent | None:
        self.last_event_id = self._id
        event, data = self._event, self._data
        self._event, self._data = "", []
        return ServerSentEvent(event or "message", "\n".join(data), self._id) if data else None
