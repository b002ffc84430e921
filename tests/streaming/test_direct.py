"""The direct path, called as uvicorn calls it: `send` finishes at once, or only when the buffer has room."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import pytest

from tests.streaming.readers import QUICK, events_in
from tests.support.jobs import finish, submitted
from tests.support.waiting import soon
from unstuck.jobs.job import Cancel
from unstuck.serve import _with_connection
from unstuck.store.sqlite import SQLiteStore
from unstuck.streaming.direct import (
    BACKLOG_BYTES,
    CONNECTION_KEY,
    WRITES_AT_ONCE,
    Connection,
    DirectResponse,
    FlushQueue,
    _write,
)
from unstuck.streaming.hub import Hub


class UvicornDouble:
    """A double of uvicorn: `send` waits while the buffer is full, `receive` until the client disconnects."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.room = asyncio.Event()
        self.room.set()
        self.gone = asyncio.Event()
        self.aborted = False
        self.most = 0
        self.transport = self

    async def send(self, message: Any) -> None:
        if not self.room.is_set() and not self.gone.is_set():
            await self.room.wait()
        if not self.gone.is_set():
            self.sent.append(message)
            if message["type"] == "http.response.body" and not message["more_body"]:
                self.gone.set()

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    def set_write_buffer_limits(self, most: int) -> None:
        self.most = most

    def get_write_buffer_size(self) -> int:
        return 0 if self.room.is_set() else 1

    def is_closing(self) -> bool:
        return self.gone.is_set()

    def write(self, chunk: bytes) -> None:
        self.sent.append({"type": "http.response.body", "body": unchunked(chunk), "more_body": True})

    def abort(self) -> None:
        self.aborted = True
        self.gone.set()
        self.room.set()

    @property
    def events(self) -> list[tuple[str, dict[str, Any]]]:
        return events_in(b"".join(message.get("body", b"") for message in self.sent))


@pytest.fixture
async def hub(store: SQLiteStore) -> AsyncIterator[Hub]:
    hub = Hub(store, QUICK)
    yield hub
    await hub.close()


@asynccontextmanager
async def connected(
    hub: Hub, job_id: str, flush: FlushQueue, limit_s: float = 30.0
) -> AsyncIterator[UvicornDouble]:
    uvicorn = UvicornDouble()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        viewer = await hub.join(scope[CONNECTION_KEY], [job_id], base="", ends=True)
        await DirectResponse(viewer, b": hello\n\n", flush, limit_s)(scope, receive, send)

    task = asyncio.ensure_future(
        _with_connection(app)({"type": "http", "http_version": "1.1"}, uvicorn.receive, uvicorn.send)
    )
    try:
        yield uvicorn
        await asyncio.wait_for(task, 10)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_stream_from_its_start_to_its_end(store: SQLiteStore, hub: Hub) -> None:
    job_id = await submitted(store)
    async with connected(hub, job_id, FlushQueue()) as one:
        await soon(lambda: one.events)
        await store.apply([Cancel(job_id)])
        await soon(lambda: one.gone.is_set())
    assert one.sent[0]["type"] == "http.response.start"
    headers = dict(one.sent[0]["headers"])
    assert headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert b"content-length" not in headers
    assert one.sent[1]["body"] == b": hello\n\n"
    assert one.most == BACKLOG_BYTES
    assert [name for name, _ in one.events] == ["job", "items", "job"]
    assert [job["state"] for job in jobs(one)] == ["queued", "cancelled"]
    assert [message["more_body"] for message in one.sent[1:]] == [True, True, False], "each change is sent once"
    assert hub.streams == 0


async def test_a_viewer_whose_buffer_was_full_gets_the_newest_state(store: SQLiteStore, hub: Hub) -> None:
    job_id = await submitted(store, 50)
    flush = FlushQueue()
    async with connected(hub, job_id, flush) as slow, connected(hub, job_id, flush) as quick:
        await soon(lambda: slow.events and quick.events)
        slow.room.clear()
        for _ in range(20):
            (claimed,) = await store.claim(1, 30.0)
            await store.apply([finish(claimed)])
            seq = (await store.snapshot(job_id)).job.seq
            await soon(partial(has_seen, quick, seq))
        slow.room.set()
        await store.apply([Cancel(job_id)])
        await soon(lambda: slow.gone.is_set() and quick.gone.is_set())
    assert jobs(slow)[-1] == jobs(quick)[-1]
    assert len(jobs(slow)) <= 4 < len(jobs(quick))
    seqs = [job["seq"] for job in jobs(slow)]
    assert seqs == sorted(set(seqs))


async def test_a_viewer_that_never_reads_is_disconnected(store: SQLiteStore, hub: Hub) -> None:
    job_id = await submitted(store)
    async with connected(hub, job_id, FlushQueue(), limit_s=0.05) as one:
        await soon(lambda: one.events)
        one.room.clear()
        await store.apply([Cancel(job_id)])
        await soon(lambda: one.aborted)
    assert hub.streams == 0


async def test_a_client_disconnects_while_its_buffer_is_full(store: SQLiteStore, hub: Hub) -> None:
    job_id = await submitted(store)
    async with connected(hub, job_id, FlushQueue()) as one:
        await soon(lambda: one.events)
        one.room.clear()
        await store.claim(1, 30.0)
        await soon(lambda: not one.room.is_set() and hub.streams == 1)
        one.gone.set()
    assert hub.streams == 0
    assert not one.aborted


async def test_a_broken_connection_does_not_affect_others(store: SQLiteStore, hub: Hub) -> None:
    job_id = await submitted(store)
    flush = FlushQueue()
    async with connected(hub, job_id, flush) as broken, connected(hub, job_id, flush) as whole:
        await soon(lambda: broken.events and whole.events)
        broken.sent = cast("list[dict[str, Any]]", None)  # the next write to it raises
        (claimed,) = await store.claim(1, 30.0)
        await soon(lambda: len(jobs(whole)) == 2 and broken.aborted)
        await store.apply([Cancel(job_id), finish(claimed)])
        await soon(lambda: whole.gone.is_set())
    assert jobs(whole)[-1]["state"] == "cancelled"


def test_thousands_of_broken_connections_do_not_affect_others(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(UvicornDouble):
        def write(self, chunk: bytes) -> None:
            raise OSError("the test breaks this connection")

    broken, whole = [Broken() for _ in range(2_000)], UvicornDouble()
    _write([(one, b"1\r\na\r\n") for one in (*broken, whole)])  # type: ignore[misc]
    assert all(one.aborted for one in broken)
    assert [message["body"] for message in whole.sent] == [b"a"]
    assert len(caplog.records) == 2_000


async def test_a_closed_connection_leaves_no_reference_cycle() -> None:
    """A cycle waits for the collector, which runs rarely: thousands of closed viewers would stay in memory."""

    class Cycle:
        """A double of uvicorn's request, which holds the scope, which holds the Connection, which holds `send`."""

        transport = asyncio.Transport()

        def __init__(self) -> None:
            self.scope: dict[str, Any] = {"type": "http", "http_version": "1.1"}

        async def send(self, message: Any) -> None: ...

        async def receive(self) -> Any: ...

    async def app(scope: Any, receive: Any, send: Any) -> None:
        connection = scope[CONNECTION_KEY]

        async def serve(_: Any, connection: Connection = connection) -> None:
            assert connection.send == send

        connection.serve_until_disconnect = serve

    cycle = Cycle()
    gone = weakref.ref(cycle)
    gc.disable()
    try:
        await _with_connection(app)(cycle.scope, cycle.receive, cycle.send)
        del cycle
        assert gone() is None
    finally:
        gc.enable()


async def test_many_viewers_do_not_block_the_event_loop(store: SQLiteStore, hub: Hub) -> None:
    """Flushing all of them at once would block the event loop."""
    job_id = await submitted(store)
    flush = FlushQueue()
    iterations = 0

    class Counted:
        queued = False

        def next_chunk(self) -> bytes:
            seen.append(iterations)
            return b""

    seen: list[int] = []
    for _ in range(WRITES_AT_ONCE * 2 + 1):
        flush.add(Counted())  # type: ignore[arg-type]
    while len(seen) < WRITES_AT_ONCE * 2 + 1:
        await asyncio.sleep(0)
        iterations += 1
    assert len(set(seen)) == 3
    assert (await store.snapshot(job_id)).job.seq == 1


def unchunked(chunk: bytes) -> bytes:
    size, body = chunk.split(b"\r\n", 1)
    assert len(body) == int(size, 16) + 2
    assert body.endswith(b"\r\n")
    return body[:-2]


def has_seen(connection: UvicornDouble, seq: int) -> bool:
    return bool(jobs(connection)[-1]["seq"] == seq)


def jobs(connection: UvicornDouble) -> list[dict[str, Any]]:
    return [data for name, data in connection.events if name == "job"]
