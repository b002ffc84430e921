"""TLS handshakes over real sockets: those that never end are counted and limited, and none loses a byte."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.support.certificate import make_certificate
from tests.support.clock import Clock
from tests.support.waiting import soon
from unstuck.connections.tls import Handshake
from unstuck.connections.waiting import HEAD_S, Waiting

MOST = 2


class Echo(asyncio.Protocol):
    """What talks after the handshake."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Switching(asyncio.Protocol):
    """A protocol that leaves its connection to another one, as the choice between HTTP/1.1 and HTTP/2 does."""

    def connection_made(self, transport: Any) -> None:
        chosen = Echo()
        transport.set_protocol(chosen)
        chosen.connection_made(transport)


class Served:
    """A server of which `most` connections may be open."""

    def __init__(self, port: int, waiting: Waiting, clock: Clock, connections: set[Any]) -> None:
        self.port = port
        self.waiting = waiting
        self.clock = clock
        self.connections = connections
        self.errors: list[Any] = []

    async def connect(self, first: bytes = b"") -> socket.socket:
        """Open a connection, and send nothing of a handshake."""
        client = socket.socket()
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, ("127.0.0.1", self.port))
        await loop.sock_sendall(client, first)
        return client


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[Served]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*make_certificate(folder))
    clock, connections = Clock(), set[Any]()
    waiting = Waiting(MOST, clock=clock)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Handshake(waiting, connections, context, Switching), "127.0.0.1", 0)
    one = Served(server.sockets[0].getsockname()[1], waiting, clock, connections)
    loop.set_exception_handler(lambda _, error: one.errors.append(error))
    try:
        yield one
    finally:
        server.close()
    assert one.errors == []


def client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def echoed(port: int) -> bytes:
    """Finish a handshake, and send the first bytes in the packet that ends it."""
    loop, incoming, outgoing = asyncio.get_running_loop(), ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context().wrap_bio(incoming, outgoing)

    async def until_done(act: Callable[[], Any]) -> Any:
        while True:
            try:
                return act()
            except ssl.SSLWantReadError:
                if sent := outgoing.read():
                    await loop.sock_sendall(client, sent)
                received = await loop.sock_recv(client, 65536)
                assert received, "closed by the server"
                incoming.write(received)

    with socket.socket() as client:
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", port))
        await until_done(tls.do_handshake)
        tls.write(b"early")
        return bytes(await until_done(lambda: tls.read(5)))


async def closed(client: socket.socket) -> None:
    with client:
        assert await asyncio.get_running_loop().sock_recv(client, 1) == b""


async def handshakes_make_room(one: Served) -> None:
    silent = []
    for count in range(1, MOST + 1):
        silent.append(await one.connect())
        await soon(lambda count=count: len(one.connections) == count)  # type: ignore[misc]
    assert await echoed(one.port) == b"early"
    await closed(silent[0])
    assert len(one.waiting) == 1
    silent[1].close()


async def handshakes_are_overdue(one: Served) -> None:
    silent = await one.connect()
    await soon(lambda: one.connections)
    one.clock.now += HEAD_S
    one.waiting.close_overdue()
    await closed(silent)
    await soon(lambda: not one.connections)


async def no_handshakes_are_closed(one: Served) -> None:
    with await one.connect(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") as client:
        loop = asyncio.get_running_loop()
        while await loop.sock_recv(client, 1000):
            pass  # TLS may answer with an alert
    await soon(lambda: not one.connections and not len(one.waiting))


async def connections_are_lost_within_the_handshake(one: Served) -> None:
    client = await one.connect()
    await soon(lambda: one.connections)
    client.close()
    await soon(lambda: not one.connections and not len(one.waiting))


async def handshakes_end_when_the_server_stops(one: Served) -> None:
    silent = await one.connect()
    await soon(lambda: one.connections)
    for connection in list(one.connections):
        connection.shutdown()
    await closed(silent)
    await soon(lambda: not one.connections)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize(
    "case",
    [
        handshakes_make_room,
        handshakes_are_overdue,
        no_handshakes_are_closed,
        connections_are_lost_within_the_handshake,
        handshakes_end_when_the_server_stops,
    ],
    ids=lambda case: case.__name__,
)
def test(
    case: Callable[[Served], Awaitable[None]], new_loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path
) -> None:
    async def play() -> None:
        async with served(tmp_path) as one:
            await case(one)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(play())
