"""The parts of HTTP that the fault proxy reads and writes: what a request asks for, and where events end.

It must not know what happens to any of it.
See also: proxy.py, which breaks it.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise

HOST = "127.0.0.1"
BOM = "\ufeff".encode()
STREAM, POLL, OTHER = "stream", "poll", "other"


@dataclass(frozen=True, slots=True)
class Request:
    """A request received `at` (wall clock); `reason` is the one that a poll gave."""

    path: str
    target: str
    reason: str
    at: float = field(default_factory=time.time, compare=False)


async def pieces(reader: asyncio.StreamReader) -> AsyncIterator[tuple[str, bytes]]:
    """Yield a response in pieces: its head, the events of a stream or any other body as read, its end."""
    head = await reader.readuntil(b"\r\n\r\n")
    yield "head", head
    if not _is_stream_in_chunks(head):
        while part := await reader.read(65_536):
            yield "body", part
        yield "end", b""
        return
    text = b""
    while size := int(await reader.readline() or b"0", 16):
        text += await reader.readexactly(size)
        await reader.readexactly(2)
        *events, text = text.split(b"\n\n")
        for event in events:
            yield "event", event + b"\n\n"
    yield "end", b"0\r\n\r\n"


def _is_stream_in_chunks(head: bytes) -> bool:
    kind = header(head, "content-type") or ""
    chunked = header(head, "transfer-encoding") == "chunked"
    return kind.startswith("text/event-stream") and chunked and not header(head, "content-encoding")


async def closed(writer: asyncio.StreamWriter) -> None:
    """Close this writer and wait for it; a transport that nothing waits for is left to the garbage collector."""
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


def reset(writer: asyncio.StreamWriter) -> None:
    """Send RST: with SO_LINGER at 0, closing discards everything that was not sent.

    A connection may stay listed for some iterations of the loop after its socket was closed; then there is nothing
    left to reset.
    """
    sock = writer.get_extra_info("socket")
    if sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def chunk(event: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(event), event)


def respelled(event: bytes) -> bytes:
    """Return the same event in other bytes: lines end in CR LF, and JSON escapes are spelled out in UTF-8."""
    lines = event.split(b"\n")
    for number, line in enumerate(lines):
        if line.startswith(b"data: "):
            lines[number] = b"data: " + json.dumps(json.loads(line[6:]), ensure_ascii=False).encode()
    return b"\r\n".join(lines)


def split_badly(text: bytes) -> list[bytes]:
    """Split text inside every multi-byte character, and between CR and LF."""
    ends = [at for at in range(1, len(text)) if text[at] & 0xC0 == 0x80 or text[at - 1 : at + 1] == b"\r\n"]
    return [text[start:end] for start, end in pairwise((0, *ends, len(text)))]


def parse_request(head: bytes) -> Request:
    method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
    path = target.split("?")[0]
    kind = OTHER
    if path.endswith(("/events", "/events/stream")):
        kind = STREAM
    elif method == "GET" and re.search(r"/api/jobs(/[0-9a-f-]{36})?$", path):
        kind = POLL
    return Request(kind, target, header(head, "x-unstuck-poll") or "")


def header(head: bytes, name: str) -> str | None:
    found = re.search(rf"^{name}: *(.*?)\r$", head.decode("latin-1"), re.IGNORECASE | re.MULTILINE)
    return found.group(1) if found else None


def with_connection_close(head: bytes) -> bytes:
    """Return the head of a request or response with `Connection: close` in place of any other `Connection`.

    It matters in responses: when a response is aborted between its head and its body, Chromium keeps reading for
    5 s from a connection that it may reuse, and would seem to hold a stream that the page has closed.
    """
    first, rest = head.split(b"\r\n", 1)
    rest = re.sub(rb"(?im)^connection:.*?\r\n", b"", rest)
    return first + b"\r\nConnection: close\r\n" + rest
