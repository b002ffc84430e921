"""Test that the fault proxy breaks what it is asked to break, and nothing else."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest

from tests.faults.answers import ANSWERS
from tests.faults.proxy import HUGE_LINE, PASS, Mode, Proxy, Trouble
from tests.faults.wire import HOST, POLL, STREAM, closed
from tests.support.waiting import soon

EVENTS = "/api/jobs/00000000-0000-0000-0000-000000000000/events"
STATUS = "/api/jobs/00000000-0000-0000-0000-000000000000"
#: Both `Connection` headers, as from the real server: its streams set one, and the proxy's request causes the
#: other.
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: keep-alive\r\n"
    b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
)


class Origin:
    """A server that streams the events that the test sends, and answers each poll with 20 bytes."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[bytes] = asyncio.Queue()
        self.serving: list[asyncio.Task[None]] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.serving.append(task)
        try:
            await self._answer(await reader.readuntil(b"\r\n\r\n"), writer)
        finally:
            await closed(writer)

    async def _answer(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        if b"/events" not in head:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n" + b"x" * 20)
            return
        writer.write(HEAD)
        while event := await self.events.get():
            for part in (event[:3], event[3:]):  # chunks need not end where events do
                writer.write(b"%x\r\n%s\r\n" % (len(part), part))
        writer.write(b"0\r\n\r\n")

    def send(self, *names: str) -> None:
        for name in names:
            self.events.put_nowait(_event(name) if name else b"")


def _event(name: str) -> bytes:
    return f"event: {name}\ndata: {{}}\n\n".encode()


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    origin = Origin()
    server = await asyncio.start_server(origin.serve, HOST, 0)
    origin.port = server.sockets[0].getsockname()[1]
    yield origin
    server.close()
    for task in origin.serving:
        task.cancel()
    await asyncio.gather(*origin.serving, return_exceptions=True)


@pytest.fixture
async def proxy(origin: Origin) -> AsyncIterator[Proxy]:
    async with Proxy(origin.port, seed=7) as one:
        yield one


class Client:
    """One request, and what it has received so far."""

    def __init__(self, proxy: Proxy, path: str) -> None:
        self.got = b""
        self.ended: BaseException | str = ""
        self._task = asyncio.create_task(self._ask(proxy.port, path))

    async def _ask(self, port: int, path: str) -> None:
        writer = None
        try:
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n".encode())
            while part := await reader.read(100_000):
                self.got += part
            self.ended = "closed"
        except ConnectionError as error:
            self.ended = error
        finally:
            if writer is not None:
                await closed(writer)

    @property
    def events(self) -> list[str]:
        return [line[7:] for line in self.got.decode().splitlines() if line.startswith("event: ")]

    async def until_ended(self) -> BaseException | str:
        await soon(lambda: self.ended)
        return self.ended

    async def leave(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def test_it_passes_streams_and_polls(proxy: Proxy, origin: Origin) -> None:
    poll = Client(proxy, STATUS)
    assert await poll.until_ended() == "closed"
    assert poll.got.endswith(b"\r\n\r\n" + b"x" * 20)
    stream = Client(proxy, EVENTS)
    origin.send("a", "b")
    await soon(lambda: stream.events == ["a", "b"])
    assert [one.path for one in proxy.open] == [STREAM]
    origin.send("")
    assert await stream.until_ended() == "closed"
    assert stream.got.endswith(b"\r\n0\r\n\r\n")
    assert [one.path for one in proxy.requests] == [POLL, STREAM]
    await soon(lambda: not proxy.open)


async def test_no_connection_is_kept_for_another_request(proxy: Proxy, origin: Origin) -> None:
    """Otherwise Chromium keeps reading from a closed stream for 5 s, and seems to hold it (see wire.py)."""
    stream = Client(proxy, EVENTS)
    origin.send("a", "")
    await stream.until_ended()
    head = stream.got.split(b"\r\n\r\n")[0].lower()
    assert b"connection: close" in head
    assert b"keep-alive" not in head


async def test_refused_and_back(proxy: Proxy, origin: Origin) -> None:
    stream = Client(proxy, EVENTS)
    origin.send("a")
    await soon(lambda: stream.events)
    await proxy.set(Mode(Trouble.REFUSE))
    assert isinstance(await stream.until_ended(), ConnectionResetError)
    assert isinstance(await Client(proxy, STATUS).until_ended(), ConnectionRefusedError)
    await proxy.set(PASS)
    assert await Client(proxy, STATUS).until_ended() == "closed"


async def test_reset_of_one_path_only(proxy: Proxy) -> None:
    await proxy.set(Mode(Trouble.RESET), STREAM)
    assert isinstance(await Client(proxy, EVENTS).until_ended(), ConnectionResetError)
    assert await Client(proxy, STATUS).until_ended() == "closed"


async def test_cut_in_the_middle(proxy: Proxy, origin: Origin) -> None:
    await proxy.set(Mode(Trouble.CUT, 7))
    stream, poll = Client(proxy, EVENTS), Client(proxy, STATUS)
    origin.send("a", "b")
    assert await stream.until_ended() == "closed"
    assert stream.got.split(b"\r\n\r\n", 1)[1] == b"13\r\neve"
    await poll.until_ended()
    assert poll.got.endswith(b"\r\n\r\n" + b"x" * 7)


@pytest.mark.parametrize("trouble", [Trouble.HALF_OPEN, Trouble.BLACK_HOLE])
async def test_half_open_lasts_forever_and_black_holes_end(proxy: Proxy, origin: Origin, trouble: Trouble) -> None:
    stream = Client(proxy, EVENTS)
    origin.send("a")
    await soon(lambda: stream.events == ["a"])
    await proxy.set(Mode(trouble))
    origin.send("b")
    await soon(origin.events.empty)
    poll = Client(proxy, STATUS)
    await soon(lambda: POLL in {one.path for one in proxy.open})
    await proxy.set(PASS)
    assert await Client(proxy, STATUS).until_ended() == "closed"
    if trouble is Trouble.BLACK_HOLE:
        await soon(lambda: stream.events == ["a", "b"])
        assert await poll.until_ended() == "closed"
    else:
        assert (stream.events, stream.ended, poll.ended) == (["a"], "", "")
    for client in (stream, poll):
        await client.leave()
    await soon(lambda: not proxy.open)


@pytest.mark.parametrize("trouble", [Trouble.LATE, Trouble.BURSTS])
async def test_late_events_keep_their_order_and_arrive_at_once_when_the_fault_ends(
    proxy: Proxy, origin: Origin, trouble: Trouble
) -> None:
    names = [str(number) for number in range(20)]
    await proxy.set(Mode(trouble, 0.05))
    stream = Client(proxy, EVENTS)
    origin.send(*names)
    await soon(lambda: stream.events == names)
    await proxy.set(Mode(trouble, 3600))
    origin.send("late")
    await soon(origin.events.empty)
    assert "late" not in stream.events
    await proxy.set(PASS)
    await soon(lambda: stream.events[-1] == "late")
    await stream.leave()


@pytest.mark.parametrize("name", ANSWERS)
async def test_answers(proxy: Proxy, origin: Origin, name: str) -> None:
    stream = Client(proxy, EVENTS)
    origin.send("a")
    await soon(lambda: stream.events)
    await proxy.set(Mode(Trouble.ANSWER, answer=name))
    assert await stream.until_ended() == "closed"
    for path in (EVENTS, STATUS):
        again = Client(proxy, path)
        assert await again.until_ended() == "closed"
        assert again.got == ANSWERS[name]


async def test_events_are_altered_one_by_one(proxy: Proxy, origin: Origin) -> None:
    async def through(mode: Mode, *names: str) -> list[str]:
        await proxy.set(mode)
        stream = Client(proxy, EVENTS)
        origin.send(*names, "")
        await stream.until_ended()
        assert stream.got.endswith(b"\r\n0\r\n\r\n")
        return stream.events

    assert await through(Mode(Trouble.DUPLICATE, 1), "a", "b") == ["a", "a", "b", "b"]
    assert await through(Mode(Trouble.REORDER, 1), "a", "b", "c") == ["b", "a", "c"]
    assert await through(Mode(Trouble.DROP, 1), "a", "b") == []
    assert await through(Mode(Trouble.HEARTBEATS_ONLY), "a", "heartbeat", "b") == ["heartbeat"]


async def test_each_event_sets_retry_and_the_stream_is_cut(proxy: Proxy, origin: Origin) -> None:
    await proxy.set(Mode(Trouble.RETRY, 50, "99999999999"))
    stream = Client(proxy, EVENTS)
    origin.send("a", "b")
    assert await stream.until_ended() == "closed"
    said = stream.got.split(b"\r\n\r\n", 1)[1]
    assert said.startswith(b"26\r\nretry: 99999999999\nevent: a\n")
    assert len(said) == 50


async def test_the_same_events_in_other_bytes_split_inside_characters(proxy: Proxy, origin: Origin) -> None:
    await proxy.set(Mode(Trouble.SPLIT))
    stream = Client(proxy, EVENTS)
    said = r'event: job\ndata: {"name": "F\u00e4hre \ud83d\udea2\u2028"}\n\n'.replace(r"\n", "\n").encode()
    origin.events.put_nowait(said)
    origin.send("b", "")
    await stream.until_ended()
    body = stream.got.split(b"\r\n\r\n", 1)[1]
    parts = re.findall(rb"(?s)([0-9a-f]+)\r\n(.+?)\r\n(?=[0-9a-f]+\r\n)", body)
    assert [len(part) for _, part in parts] == [int(size, 16) for size, _ in parts]
    text = b"".join(part for _, part in parts)
    first = '\ufeffevent: job\r\ndata: {"name": "Fähre 🚢\u2028"}\r\n\r\n'
    assert text.decode() == f"{first}event: b\r\ndata: {{}}\r\n\r\n"
    assert [part for _, part in parts][:3] == [b"\xef", b"\xbb", b"\xbfevent: job\r"]


async def test_a_huge_line_means_the_same(proxy: Proxy, origin: Origin) -> None:
    await proxy.set(Mode(Trouble.HUGE, 1))
    stream = Client(proxy, EVENTS)
    origin.send("a", "")
    await stream.until_ended()
    assert stream.events == ["a"]
    assert HUGE_LINE < len(stream.got) < HUGE_LINE + 500
    assert stream.got.replace(b" ", b"").endswith(b"event:a\ndata:{}\n\n\r\n0\r\n\r\n")


async def test_canned_responses(proxy: Proxy) -> None:
    proxy.canned["/canned"] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    client = Client(proxy, "/canned?a=b")
    assert await client.until_ended() == "closed"
    assert client.got == proxy.canned["/canned"]


async def test_an_event_does_not_wait_for_its_successor_beyond_the_fault(proxy: Proxy, origin: Origin) -> None:
    await proxy.set(Mode(Trouble.REORDER, 1))
    stream = Client(proxy, EVENTS)
    origin.send("a")
    await soon(origin.events.empty)
    await proxy.set(PASS)
    await soon(lambda: stream.events == ["a"])
    await stream.leave()


async def test_randomness_comes_from_the_seed(origin: Origin) -> None:
    async def dropped(seed: int) -> list[str]:
        async with Proxy(origin.port, seed) as proxy:
            await proxy.set(Mode(Trouble.DROP, 0.5))
            stream = Client(proxy, EVENTS)
            origin.send(*(str(number) for number in range(40)), "")
            await stream.until_ended()
            return stream.events

    first = await dropped(1)
    assert 0 < len(first) < 40
    assert await dropped(1) == first
    assert await dropped(2) != first


@pytest.mark.parametrize("turns", range(4))
async def test_resetting_a_connection_that_was_just_closed_does_nothing(
    proxy: Proxy, origin: Origin, turns: int
) -> None:
    stream = Client(proxy, EVENTS)
    origin.send("a")
    await soon(lambda: stream.events)
    (connection,) = proxy._connections
    connection.close()
    for _ in range(turns):
        await asyncio.sleep(0)
    await proxy.set(Mode(Trouble.RESET))
    await stream.until_ended()


async def test_a_server_that_is_down_causes_a_reset() -> None:
    async with Proxy(1) as proxy:
        assert isinstance(await Client(proxy, STATUS).until_ended(), ConnectionResetError)
