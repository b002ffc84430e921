"""More viewers than the process may open files: some get no stream, but all see the job end."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.server import Server, StartServer
from tests.support.waiting import eventually
from unstuck import client
from unstuck.streaming.open_files import ENOUGH, room_for_streams
from unstuck.wire import Job


class Cramped(Server):
    """A server that may open only 100 files, whatever the machine allows."""

    under = ("prlimit", "--nofile=100:100")


@pytest.fixture
def cramped(tmp_path: Path) -> Iterator[Server]:
    server = Cramped(tmp_path / "data", "--workers", "1").start()
    yield server
    server.stop()


def opened(server: Server, path: str) -> socket.socket:
    where = urlsplit(server.url)
    connection = socket.create_connection((where.hostname or "", where.port or 0), timeout=20)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return connection


def test_viewers_beyond_the_limit_are_refused_and_polls_are_answered(cramped: Server) -> None:
    job = cramped.submit("rehearsal", items=["a"], options={"seconds": 600})
    with contextlib.ExitStack() as crowd:
        answers = []
        for _ in range(40):
            viewer = crowd.enter_context(opened(cramped, f"/api/jobs/{job['id']}/events"))
            answers.append(viewer.recv(4096))
        served = [answer for answer in answers if answer.startswith(b"HTTP/1.1 200")]
        refused = [answer for answer in answers if answer.startswith(b"HTTP/1.1 503")]
        assert (len(served), len(refused)) == (25, 15)
        assert b"retry-after: 5" in refused[0].lower()
        for _ in range(30):
            assert cramped.job(job["id"])["state"] in ("queued", "running")
        assert cramped.get("/api/health/ready")["status"] == "ok"
        assert cramped.get("/api/health")["streams"]["refused"] == 15
        assert cramped.log.read_text().count("Limit on streams is reached") == 1
    eventually(lambda: cramped.get("/api/health")["streams"]["open"] == 0)
    with opened(cramped, f"/api/jobs/{job['id']}/events") as viewer:
        assert viewer.recv(4096).startswith(b"HTTP/1.1 200")


def test_a_client_without_a_stream_still_sees_the_end(start_server: StartServer) -> None:
    server = start_server("--workers", "1", max_streams="1")
    job = server.submit("rehearsal", items=["a", "b"], options={"seconds": 1.0})
    ends: list[Job] = []

    def watch() -> None:
        ends.append(client.wait(job["id"], url=server.url))

    watchers = [threading.Thread(target=watch) for _ in range(4)]
    for watcher in watchers:
        watcher.start()
    for watcher in watchers:
        watcher.join(60)
    assert [end["state"] for end in ends] == ["completed"] * 4
    assert server.get("/api/health")["streams"]["refused"] >= 3


def test_the_limit_on_open_files_is_raised_to_the_hard_limit(tmp_path: Path) -> None:
    class Timid(Server):
        under = ("prlimit", "--nofile=256:4096")

    one = Timid(tmp_path / "data", "--workers", "1").start()
    try:
        assert one.process is not None
        limits = Path(f"/proc/{one.process.pid}/limits").read_text()
        assert "Max open files            4096                 4096" in limits
    finally:
        one.stop()


def test_there_is_always_room_for_a_stream() -> None:
    assert 1 <= room_for_streams(bodies=128) < ENOUGH


def test_max_streams_limits_the_streams(start_server: StartServer) -> None:
    server = start_server("--workers", "1", max_streams="2")
    job = server.submit("rehearsal", items=["a"], options={"seconds": 600})
    path = f"/api/jobs/{job['id']}/events"
    with opened(server, path) as one, opened(server, path) as two, opened(server, path) as three:
        heads = [viewer.recv(4096)[9:12] for viewer in (one, two, three)]
        answer = httpx.get(f"{server.url}{path}")
    assert heads == [b"200", b"200", b"503"]
    assert (answer.status_code, answer.json()["code"]) == (503, "streams_full")


HALF_HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "
HALF_BODY = (
    b"POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
)


@pytest.mark.parametrize("said", [b"", HALF_HEAD, HALF_BODY], ids=["nothing", "half a head", "half a body"])
def test_polls_are_answered_however_many_say_half_of_something(cramped: Server, said: bytes) -> None:
    """With 600 open files, 700 idle connections reset every poll."""
    where = urlsplit(cramped.url)
    with contextlib.ExitStack() as crowd:
        for _ in range(150):
            one = crowd.enter_context(
                socket.create_connection((where.hostname or "", where.port or 0), timeout=20)
            )
            with contextlib.suppress(ConnectionError):
                one.sendall(said)
        assert eventually(lambda: answered(cramped))
        for _ in range(20):
            assert cramped.get("/api/health/live") == {"status": "ok"}
    assert cramped.get("/api/health/ready")["status"] == "ok"


def answered(server: Server) -> bool:
    """Return whether a poll is answered: those that came in one moment may have been too many for it."""
    try:
        return httpx.get(f"{server.url}/api/health/live", timeout=20).status_code == 200
    except httpx.TransportError:
        return False
