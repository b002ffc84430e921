"""HTTP/1.1 over a transport in memory: what is too much, too slow or no request, and what stays possible."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from unstuck.connections.http1 import (
    HEAD_BYTES,
    HEAD_LINES,
    LINGER_BYTES,
    PIPELINED,
    LimitedProtocol,
)
from unstuck.connections.waiting import HEAD_S, WRITE_S, Waiting

HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
#: uvloop reads at most so much at once.
READ_BYTES = 256 * 1024


class Transport(asyncio.Transport):
    def __init__(self, eof: bool = True) -> None:
        super().__init__()
        self.written = b""
        self.closed = self.aborted = self.ended = False
        self._eof = eof

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.ended, "a write after the end"
        self.written += data

    def can_write_eof(self) -> bool:
        return self._eof

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Served:
    """A connection to an app that reads a request's body and answers with it; `gate` holds the answer back."""

    def __init__(self, *, eof: bool = True) -> None:
        self.now = 0.0
        self.heads: list[dict[bytes, bytes]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = Waiting(10, clock=lambda: self.now)
        self.transport = Transport(eof)
        config = uvicorn.Config(
            self._app, interface="asgi3", ws="none", lifespan="off", log_config=None, access_log=False
        )
        config.load()
        self.state = ServerState()
        self.protocol = LimitedProtocol(self.waiting, config, self.state, {}, None)
        self.protocol.connection_made(self.transport)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        self.heads.append(dict(scope["headers"]))
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        await self.gate.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in (b"got ", body):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def say(self, data: bytes) -> None:
        """Let the client send these bytes, in reads of the usual size."""
        while data and not self.transport.is_closing():
            piece, data = data[:READ_BYTES], data[READ_BYTES:]
            self.protocol.data_received(piece)
            await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)

    def wait(self, seconds: float) -> None:
        """Let time pass, and the server look at the connection."""
        self.now += seconds
        self.waiting.close_overdue()

    @property
    def status(self) -> int:
        return int(self.transport.written.split(b" ", 2)[1])

    @property
    def problem(self) -> Any:
        head, _, body = self.transport.written.partition(b"\r\n\r\n")
        assert b"content-type: application/problem+json" in head
        assert b"connection: close" in head
        found = json.loads(body)
        assert set(found) == {"type", "title", "status", "detail", "code"}
        assert found["status"] == self.status
        return found


async def test_connections_share_the_keys_of_their_attributes() -> None:
    assert 20 < len(vars(Served().protocol)) <= 30, "beyond 30 Python gives each connection a dict of 1.6 KB"


async def test_an_ordinary_request_and_the_next_one() -> None:
    one = Served()
    await one.say(HEAD + b"\r\n")
    await one.say(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000)
    assert one.transport.written.count(b"HTTP/1.1 200 OK") == 2
    assert b"got " in one.transport.written
    assert not one.transport.is_closing()
    assert len(one.waiting) == 1


async def test_what_a_proxy_sends_stays_possible() -> None:
    """A head of 60 KiB and 99 lines, a byte at a time; and a body whose chunks come in many small pieces."""
    one = Served()
    cookie = b"Cookie: " + b"c" * 60_000 + b"\r\n"
    lines = b"".join(b"X-Forwarded-%d: 10.0.0.1\r\n" % n for n in range(HEAD_LINES - 2))
    await one.say(HEAD + cookie)
    for byte in lines + b"\r\n":
        one.protocol.data_received(bytes([byte]))
    await one.say(b"")
    assert one.status == 200
    many = Served()
    await many.say(POST)
    for _ in range(HEAD_BYTES // 4):
        for piece in (b"1\r\n", b"x", b"\r\n"):
            many.protocol.data_received(piece)
    await many.say(b"0\r\n\r\n")
    assert many.status == 200


TOO_LARGE = {
    "one value": HEAD + b"X: " + b"a" * 400_000,
    "one name": HEAD + b"a" * 400_000,
    "an address": b"GET /" + b"a" * 400_000,
    "a method": b"P" * 400_000,
    "many lines": HEAD + b"a:b\r\n" * 100_000,
    "many lines that end": HEAD + b"a:b\r\n" * (HEAD_LINES + 1) + b"\r\n",
    "a large head that ends": HEAD + b"X: " + b"a" * HEAD_BYTES + b"\r\n\r\n",
    "empty lines": b"\r\n" * 200_000,
}


@pytest.mark.parametrize("what", TOO_LARGE)
@pytest.mark.parametrize("at_once", [READ_BYTES, 1000])
async def test_a_head_that_is_too_large(what: str, at_once: int) -> None:
    one = Served()
    sent = TOO_LARGE[what]
    for first in range(0, len(sent), at_once):
        await one.say(sent[first : first + at_once])
    if what == "a method":
        assert one.problem["code"] == "invalid_request"
    else:
        assert (one.status, one.problem["code"]) == (431, "head_too_large")
    assert one.heads == [], "no such request reaches the app"
    assert one.transport.ended, "the client can read the answer"


async def test_a_second_head_on_a_connection_is_limited_too() -> None:
    one = Served()
    await one.say(HEAD + b"\r\n")
    one.transport.written = b""
    await one.say(TOO_LARGE["one value"])
    assert one.status == 431


BEHIND_A_BODY = {
    "trailers": b"1\r\nx\r\n0\r\n" + b"a:b\r\n" * 100_000,
    "one trailer": b"1\r\nx\r\n0\r\nX: " + b"a" * 400_000,
    "an extension": b"1;" + b"a" * 400_000,
}


@pytest.mark.parametrize("what", BEHIND_A_BODY)
async def test_what_is_neither_head_nor_body_is_limited_too(what: str) -> None:
    one = Served()
    await one.say(POST + BEHIND_A_BODY[what])
    assert one.transport.aborted, "its request is worked on, so there is no other answer"
    assert one.transport.written == b""


async def test_a_head_behind_an_open_answer_is_limited() -> None:
    one = Served()
    one.gate.clear()
    await one.say(HEAD + b"\r\n")
    await one.say(TOO_LARGE["one value"])
    assert one.transport.aborted


async def test_requests_sent_ahead_are_few() -> None:
    one = Served()
    one.gate.clear()
    await one.say((HEAD + b"\r\n") * (PIPELINED + 1))
    assert not one.transport.is_closing()
    await one.say(HEAD + b"\r\n")
    assert one.transport.aborted
    answered = Served()
    await answered.say((HEAD + b"\r\n") * PIPELINED)
    for _ in range(100):
        await asyncio.sleep(0)
    assert answered.transport.written.count(b"HTTP/1.1 200 OK") == PIPELINED


async def test_half_a_head_is_answered_408() -> None:
    one = Served()
    await one.say(HEAD)
    one.wait(HEAD_S - 1)
    await one.say(b"X-One: more line\r\n")  # which does not give it more time
    assert one.transport.written == b""
    one.wait(1)
    assert (one.status, one.problem["code"]) == (408, "head_too_slow")
    assert one.heads == []


@pytest.mark.parametrize("first", [b"", HEAD + b"\r\n"])
async def test_a_connection_without_a_request_is_closed(first: bytes) -> None:
    one = Served()
    await one.say(first)
    answers = one.transport.written
    one.wait(HEAD_S)
    assert one.transport.closed
    assert one.transport.written == answers


async def test_half_a_body_that_no_longer_matters_does_not_keep_a_connection() -> None:
    """The request was answered before its body came, and a byte now and then restarts uvicorn's own timer."""
    one = Served()
    one.protocol.app = _answers_at_once
    await one.say(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(4):
        await one.say(b"x")
        one.wait(HEAD_S / 4)
    assert one.transport.closed


async def _answers_at_once(_: Any, receive: Callable[[], Awaitable[Any]], send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def test_a_request_that_is_worked_on_may_take_its_time() -> None:
    one = Served()
    one.gate.clear()
    await one.say(HEAD + b"\r\n")
    one.wait(1000)
    one.gate.set()
    await one.say(b"")
    assert one.status == 200


async def test_a_client_that_does_not_read_is_closed() -> None:
    one = Served()
    one.gate.clear()
    await one.say(HEAD + b"\r\n")
    one.protocol.pause_writing()
    one.wait(WRITE_S - 1)
    one.protocol.resume_writing()
    one.protocol.pause_writing()
    one.wait(WRITE_S - 1)
    assert not one.transport.is_closing()
    one.wait(1)
    assert one.transport.aborted
    one.protocol.connection_lost(None)  # as after an abort: else its app would wait for the reader


async def test_after_a_refusal_only_so_much_is_read() -> None:
    one = Served()
    await one.say(TOO_LARGE["one value"])
    await one.say(b"a" * (LINGER_BYTES // 2))
    assert not one.transport.is_closing()
    await one.say(b"a" * LINGER_BYTES)
    assert one.transport.aborted
    over_tls = Served(eof=False)
    await over_tls.say(TOO_LARGE["one value"])
    assert (over_tls.status, over_tls.transport.closed) == (431, True)


async def test_http10_is_answered_without_chunks() -> None:
    one = Served()
    await one.say(b"POST / HTTP/1.0\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello")
    head, _, body = one.transport.written.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert body == b"got hello"
    assert one.transport.closed


async def test_a_defect_of_the_server_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The parser turns every exception into its own, so a defect would look like a bad request."""
    one = Served()
    await one.say(b"\x00\r\n\r\n")
    assert one.problem["code"] == "invalid_request"
    assert [record for record in caplog.records if record.name == "unstuck.http"] == []
    monkeypatch.setattr(Waiting, "request_has_come", None)
    await Served().say(HEAD + b"\r\n")
    (record,) = [record for record in caplog.records if record.name == "unstuck.http"]
    assert (record.levelno, record.exc_info is not None) == (logging.ERROR, True)


async def test_a_closed_connection_waits_for_nothing() -> None:
    for said in (b"", HEAD, HEAD + b"\r\n"):
        one = Served()
        await one.say(said)
        one.protocol.pause_writing()
        one.protocol.connection_lost(None)
        assert (len(one.waiting), len(one.state.connections)) == (0, 0)
