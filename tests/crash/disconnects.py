"""Clients that ask for a stream and disconnect at once, by FIN or RST, before its answer or in the middle of it.

Must not know: what the server does about it.
See also: tests/streaming/test_leaving.py (the same at each await, in memory).
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tests.support.server import Server
from tests.support.waiting import eventually

#: Clients at a time, and how long a client waits before it goes (seconds).
AT_ONCE, PAUSES_S = 8, (0.0, 0.0, 0.0, 0.001, 0.003)
#: What a server may have grown by (MiB, open files).
GROWTH_MIB, GROWTH_FILES = 16, 8


def play_disconnects(count: int, seed: int, tell: Callable[[str], None]) -> list[str]:
    """Disconnect so often while a job changes; viewers, open files and memory that stay are wrong."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "data", "--workers", "1").start()
        try:
            return _played(server, count, seed, tell)
        finally:
            server.stop(signal.SIGTERM)


def _played(server: Server, count: int, seed: int, tell: Callable[[str], None]) -> list[str]:
    job = server.submit("x", external=True)
    over = threading.Event()
    reporter = threading.Thread(target=_report_until, args=(server, job["id"], over))
    reporter.start()
    try:
        _disconnect(server, job["id"], count // 10, seed)  # so that what is made once is there
        before, began = _measured(server), time.monotonic()
        _disconnect(server, job["id"], count, seed + 1)
        took_s = time.monotonic() - began
    finally:
        over.set()
        reporter.join()
    with contextlib.suppress(AssertionError):  # told below
        eventually(lambda: not any(_left(server)))
    (streams, watched), after = _left(server), _measured(server)
    tell(
        f"{count} disconnects in {took_s:.0f} s: {streams} streams and {watched} watched jobs are left; "
        f"{before[0]} → {after[0]} MiB, {before[1]} → {after[1]} open files"
    )
    wrongs = [f"{streams} streams and {watched} watched jobs were left"] if streams or watched else []
    if after[0] - before[0] > GROWTH_MIB or after[1] - before[1] > GROWTH_FILES:
        wrongs.append(f"the server grew from {before} to {after} (MiB, open files)")
    return wrongs


def _left(server: Server) -> tuple[int, int]:
    streams = server.get("/api/health")["streams"]
    return streams["open"], streams["jobs_watched"]


def _disconnect(server: Server, job_id: str, count: int, seed: int) -> None:
    with ThreadPoolExecutor(AT_ONCE) as clients:
        chances = (random.Random(seed * 10**6 + number) for number in range(count))
        for _ in clients.map(lambda chance: connect_and_go(server.url, job_id, chance), chances):
            pass


def connect_and_go(url: str, job_id: str, chance: random.Random) -> None:
    """Ask for a stream of this job or of all jobs, and leave before the answer or within it."""
    where = urlsplit(url)
    path = chance.choice((f"/api/jobs/{job_id}/events", "/api/events/stream", f"/api/events/stream?job={job_id}"))
    with socket.create_connection((where.hostname or "", where.port or 0), timeout=30) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        time.sleep(chance.choice(PAUSES_S))
        if chance.random() < 0.5:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST


def _report_until(server: Server, job_id: str, over: threading.Event) -> None:
    count = 0
    while not over.wait(0.01):
        count += 1
        httpx.post(f"{server.url}/api/jobs/{job_id}/progress", json={"message": str(count)}, timeout=60)


def _measured(server: Server) -> tuple[int, int]:
    assert server.process is not None
    pid = server.process.pid
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) // 1024, len(os.listdir(f"/proc/{pid}/fd"))
