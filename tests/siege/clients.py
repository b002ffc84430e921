"""Clients that harm a server: they leave at once, never end what they send, never read, or say nothing.

Each attack runs until `over` is set, and closes all its connections.
Must not know: what the server does about it. See also: tests/connections and tests/crash/disconnects.py.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

from tests.crash.disconnects import connect_and_go

#: Connections that an attack holds at once.
SENDING, READING, IDLE = 20, 50, 300
HOST = b"Host: localhost\r\n"
STREAM = b"GET /api/events/stream HTTP/1.1\r\n" + HOST + b"\r\n"
HEAD = b"GET / HTTP/1.1\r\n" + HOST
BODY = (
    b"POST /api/jobs HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\nContent-Length: 16000000\r\n\r\n{"
)

Client = Callable[[str, random.Random, threading.Event], None]


def leave_at_once(url: str, chance: random.Random, over: threading.Event) -> None:
    """Open streams and leave, by FIN or RST, before the answer or within it."""
    while not over.wait(0.005):
        with contextlib.suppress(OSError):  # the server is being restarted
            connect_and_go(url, "00000000-0000-4000-8000-000000000000", chance)


def send_heads(url: str, chance: random.Random, over: threading.Event) -> None:
    """Send heads without end, each in small pieces."""
    _send(url, HEAD, lambda: b"X: " + b"a" * chance.randint(1, 2000) + b"\r\n", over)


def send_bodies(url: str, chance: random.Random, over: threading.Event) -> None:
    """Begin large bodies, and send them byte by byte or in large pieces, without an end."""
    _send(url, BODY, lambda: b" " * chance.choice((1, 1, 1, 60_000)), over)


def _send(url: str, first: bytes, piece: Callable[[], bytes], over: threading.Event) -> None:
    with contextlib.ExitStack() as stack:
        clients: list[socket.socket] = []
        while not over.wait(0.05):
            if len(clients) < SENDING and (client := _connect(url, first)) is not None:
                clients.append(stack.enter_context(client))
            for client in list(clients):
                try:
                    client.send(piece(), socket.MSG_DONTWAIT)
                except BlockingIOError:
                    pass
                except OSError:  # refused and closed: another one comes
                    clients.remove(client)
                    client.close()


def read_nothing(url: str, chance: random.Random, over: threading.Event) -> None:
    """Open streams and never read them."""
    _hold(url, lambda: STREAM, READING, over, receive_bytes=4096)


def say_nothing(url: str, chance: random.Random, over: threading.Event) -> None:
    """Open connections and send nothing, or half a head."""
    _hold(url, lambda: chance.choice((b"", HEAD)), IDLE, over)


def _hold(
    url: str, first: Callable[[], bytes], count: int, over: threading.Event, receive_bytes: int | None = None
) -> None:
    with contextlib.ExitStack() as stack:
        held = 0
        while not over.wait(0.0 if held < count else 0.1):
            if held < count and (client := _connect(url, first(), receive_bytes)) is not None:
                stack.enter_context(client)
                held += 1


def _connect(url: str, first: bytes, receive_bytes: int | None = None) -> socket.socket | None:
    where = urlsplit(url)
    client = socket.socket()
    client.settimeout(5)
    try:
        if receive_bytes is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        client.connect((where.hostname or "", where.port or 0))
        client.sendall(first)
    except OSError:
        client.close()
        return None
    return client


CLIENTS: dict[str, Client] = {
    "leave at once": leave_at_once,
    "heads without end": send_heads,
    "bodies without end": send_bodies,
    "slow readers": read_nothing,
    "idle connections": say_nothing,
}
