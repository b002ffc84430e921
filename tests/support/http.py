"""Requests that a server refuses, and raw requests that no HTTP library would send."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.support.server import Server


def traces(server: Server) -> tuple[list[str], list[str]]:
    """Return the ids of all jobs, and the names of all folders."""
    jobs = [job["id"] for job in server.get("/api/jobs?limit=200")["jobs"]]
    return jobs, sorted(entry.name for entry in (server.data / "files").iterdir())


def refused(server: Server, status: int, code: str, **request: Any) -> str:
    """Submit, expect this problem and no new job or folder, and return the problem's detail."""
    before = traces(server)
    answer = httpx.post(f"{server.url}/api/jobs", timeout=60, **request)
    body = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(body) == {"type", "title", "status", "detail", "code"}
    assert body["status"] == status
    assert len(body["detail"]) > 20
    assert traces(server) == before
    return str(body["detail"])


def raw(server: Server, head: str, body: bytes = b"") -> bytes:
    """Send these bytes and return the answer's head and whatever of its body came with it."""
    where = urlsplit(server.url)
    with socket.create_connection((where.hostname, where.port), timeout=10) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + body)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
            if b"\r\n\r\n" in answer:
                return answer
    return answer
