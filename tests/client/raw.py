"""A raw socket server that answers streams, polls and submissions with exactly the bytes that a test gives it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from typing import Any
from uuid import uuid4


def job_of(job_id: str, seq: int, *, done: bool = False, **more: Any) -> dict[str, Any]:
    return {"id": job_id, "seq": seq, "done": done, "poll_after_ms": None if done else 1_000, **more}


def job_event(job: dict[str, Any]) -> str:
    return f"event: job\ndata: {json.dumps(job, ensure_ascii=False)}\n\n"


class Raw:
    """The server. An answer of None keeps the connection open in silence; b"" closes it without an answer."""

    def __init__(
        self, *, stream: bytes | None = b"", poll: bytes | None = b"", posts: list[bytes | None] | None = None
    ) -> None:
        self.stream, self.poll, self.posts = stream, poll, posts or []
        self.job_id = str(uuid4())
        self.cut = 1_000_000
        self.streams = self.polls = self.open = 0
        self.keys: list[str] = []
        self.bodies: list[bytes] = []
        self.heads: list[str] = []

    @staticmethod
    def json(value: object) -> bytes:
        body = json.dumps(value).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
            len(body),
            body,
        )

    @staticmethod
    def event_stream(text: str) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=latin-1\r\n\r\n" + text.encode()

    async def __aenter__(self) -> Raw:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._answer(reader, writer)
        finally:
            self.open -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        self.heads.append(head)
        if found := re.search(r"content-length: (\d+)", head, re.IGNORECASE):
            self.bodies.append(await reader.readexactly(int(found.group(1))))
        if head.startswith("POST"):
            self.keys += re.findall(r"idempotency-key: (\S+)", head, re.IGNORECASE)
            answer: bytes | None = self.posts.pop(0)
        elif "/events" in head.splitlines()[0]:
            self.streams += 1
            answer = self.stream
        elif "/login" in head.splitlines()[0]:
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nLogin"
        else:
            self.polls += 1
            answer = self.poll
        if answer is None:
            await reader.read()  # returns when the client closes the connection
            return
        for start in range(0, len(answer), self.cut):
            writer.write(answer[start : start + self.cut])
            await writer.drain()
            await asyncio.sleep(0)
