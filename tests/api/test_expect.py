"""A client that asks first (`Expect: 100-continue`) is not told to send a body that is refused."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import pytest

from tests.support.server import Server

ID = "1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b"
FORM, JSON, LINES = "multipart/form-data; boundary=B", "application/json", "application/x-ndjson"
BODY = b'{"kind":"rehearsal","total":1,"options":{"seconds":0}}'


def ask(server: Server, path: str, headers: dict[str, str], body: bytes = b"") -> tuple[bytes, bytes]:
    """Send a head that asks first; return what comes next, and, if asked for the body, what comes after it."""
    where = urlsplit(server.url)
    given = {"Host": where.netloc, "Expect": "100-continue", **headers}
    lines = "".join(f"{name}: {text}\r\n" for name, text in given.items())
    with socket.create_connection((where.hostname, where.port), timeout=10) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode())
        first = connection.recv(65536)
        if first.startswith(b"HTTP/1.1 100"):
            connection.sendall(body)
            return first, connection.recv(65536)
        while piece := connection.recv(65536):  # until it is closed
            first += piece
        return first, b""


@pytest.mark.parametrize(
    ("path", "given", "status"),
    [
        ("/api/jobs", {"Content-Type": FORM, "Content-Length": "30000000000"}, 413),
        ("/api/jobs", {"Content-Type": JSON, "Content-Length": "30000000000"}, 413),
        ("/api/jobs", {"Content-Type": "text/plain", "Content-Length": "10"}, 400),
        ("/api/jobs", {"Content-Type": JSON, "Content-Length": "10", "Idempotency-Key": "k" * 300}, 400),
        ("/api/jobs", {"Content-Type": FORM, "Content-Length": "10", "Origin": "https://evil.example"}, 403),
        ("/api/jobs", {"Content-Type": FORM, "Content-Length": "10", "Host": "evil.example"}, 421),
        ("/api/kinds", {"Content-Type": FORM, "Content-Length": "10"}, 405),
        ("/nowhere", {"Content-Type": FORM, "Content-Length": "10"}, 404),
        (f"/api/jobs/{ID}/progress", {"Content-Type": JSON, "Content-Length": "2"}, 404),
        (f"/api/jobs/{ID}/progress", {"Content-Type": LINES, "Transfer-Encoding": "chunked"}, 404),
        (f"/api/jobs/{ID}/retry", {"Content-Type": JSON, "Content-Length": "2"}, 404),
        (f"/api/jobs/{ID}/fail", {"Content-Type": JSON, "Content-Length": "2"}, 404),
        ("/api/jobs/x/fail", {"Content-Type": JSON, "Content-Length": "2"}, 400),
    ],
)  # fmt: skip
def test_a_refusal_comes_instead(server: Server, path: str, given: dict[str, str], status: int) -> None:
    first, _ = ask(server, path, given)
    assert first.startswith(f"HTTP/1.1 {status} ".encode()), first[:100]
    assert b"connection: close" in first.lower()


def test_a_body_that_is_wanted_is_asked_for(server: Server) -> None:
    given = {"Content-Type": JSON, "Content-Length": str(len(BODY))}
    first, answer = ask(server, "/api/jobs", given, BODY)
    assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answer.startswith(b"HTTP/1.1 202")
    assert b"connection: close" not in answer.lower()
