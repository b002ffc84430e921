"""The little of HTTP that the fault proxy reads and writes: whose request it is, and where events end.

Must not know: what is done to any of it.
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
class Asked:
    """A request that came in; `reason` is what a poll says of itself, `at` when it came (wall clock)."""

    path: str
    target: str
    reason: str
    at: float = field(default_factory=time.time, compare=False)


async def pieces(reader: asyncio.StreamReader) -> AsyncIterator[tuple[str, bytes]]:
    """A response in pieces: its head, then the events of a stream, or of anything else what comes; its end."""
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
    """Close, and wait until it is: a transport that is only told to close is left to the garbage collector."""
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


def reset(writer: asyncio.StreamWriter) -> None:
    """RST: with no time to linger, closing throws everything away and says so.

    A connection is known for some turns of the loop after its socket was closed; then nothing is left to reset.
    """
    sock = writer.get_extra_info("socket")
    if sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def chunk(event: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(event), event)


def respelled(event: bytes) -> bytes:
    """The same event in other bytes: lines end in CR LF, and what was escaped is spelled out in UTF-8."""
    lines = event.split(b"\n")
    for number, line in enumerate(lines):
        if line.startswith(b"data: "):
            lines[number] = b"data: " + json.dumps(json.loads(line[6:]), ensure_ascii=False).encode()
    return b"\r\n".join(lines)


def split_badly(text: bytes) -> list[bytes]:
    """In parts that end inside each character of several bytes, and between CR and LF."""
    ends = [at for at in range(1, len(text)) if text[at] & 0xC0 == 0x80 or text[at - 1 : at + 1] == b"\r\n"]
    return [text[start:end] for start, end in pairwise((0, *ends, len(text)))]


def read_asked(head: bytes) -> Asked:
    method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
    path = target.split("?")[0]
    kind = OTHER
    if path.endswith(("/events", "/events/stream")):
        kind = STREAM
    elif method == "GET" and re.search(r"/api/jobs(/[0-9a-f-]{36})?$", path):
        kind = POLL
    return Asked(kind, target, header(head, "x-unstuck-poll") or "")


def header(head: bytes, name: str) -> str | None:
    found = re.search(rf"^{name}: *(.*?)\r$", head.decode("latin-1"), re.IGNORECASE | re.MULTILINE)
    return found.group(1) if found else None


def one_answer_only(head: bytes) -> bytes:
    """The head of a request or a response, saying that its connection carries nothing else.

    In a response it matters: Chromium reads on for 5 s in a connection that might be used again when an answer
    is given up between its head and its body, and would seem to hold a stream that the page has closed.
    """
    first, rest = head.split(b"\r\n", 1)
    rest = re.sub(rb"(?im)^connection:.*?\r\n", b"", rest)
    return first + b"\r\nConnection: close\r\n" + rest
