"""Memory and open files of a server after many jobs and reports, against what they were after a tenth of them.

Each job's item says a hundred things; every tenth job has a viewer of its own, and a few people ask for the list.
Must not know what might grow.
"""

from __future__ import annotations

import os
import re
import signal
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.crash.siege import APP, workers_of
from tests.support.server import Server

#: Reports of each job; jobs submitted together; and by how much the measures may differ.
REPORTS, WAVE, TOLERANCE = 100, 50, 0.10


@dataclass(frozen=True)
class Measure:
    """Of one process tree at one moment; MiB, and descriptors."""

    jobs: int
    server_mib: float
    workers_mib: float
    files: int


def play_growth(jobs: int, tell: Callable[[str], None]) -> list[str]:
    """So many jobs; what grew by more than TOLERANCE since a tenth of them is wrong."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "data", "--app", str(APP), "--workers", "2").start()
        measures = []
        try:
            for number in range(0, jobs, WAVE):
                _wave(server, number)
                done = number + WAVE
                if done % max(jobs // 10, WAVE) == 0:
                    measures.append(_measured(server, done))
                    tell(f"{_said(measures[-1])}, {time.monotonic() - began:.0f} s")
        finally:
            server.stop(signal.SIGTERM)
    return _grown(measures[0], measures[-1])


def _wave(server: Server, first: int) -> None:
    with httpx.Client(base_url=server.url, timeout=60) as client, ThreadPoolExecutor(5) as viewers:
        body = {"kind": "chatter", "total": 1, "options": {"reports": REPORTS}}
        ids = [client.post("/api/jobs", json=body).json()["id"] for _ in range(WAVE)]
        watched = [viewers.submit(_watch, server.url, job_id) for job_id in ids[::10]]
        for job_id in ids:
            while not client.get(f"/api/jobs/{job_id}").json()["done"]:
                time.sleep(0.01)
        for one in watched:
            one.result()
        assert client.get("/api/jobs", params={"limit": 20}).status_code == 200, first


def _watch(url: str, job_id: str) -> None:
    with httpx.stream("GET", f"{url}/api/jobs/{job_id}/events", timeout=60) as answer:
        for _ in answer.iter_lines():
            pass


def _measured(server: Server, jobs: int) -> Measure:
    assert server.process is not None
    pid = server.process.pid
    return Measure(jobs, _mib(pid), sum(map(_mib, workers_of(pid))), len(os.listdir(f"/proc/{pid}/fd")))


def _mib(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def _said(one: Measure) -> str:
    return (
        f"after {one.jobs} jobs and {one.jobs * REPORTS} reports: {one.server_mib:.1f} MiB, "
        f"workers {one.workers_mib:.1f} MiB, {one.files} open files"
    )


def _grown(first: Measure, last: Measure) -> list[str]:
    pairs = {
        "memory of the server": (first.server_mib, last.server_mib),
        "memory of the workers": (first.workers_mib, last.workers_mib),
        "open files": (first.files, last.files),
    }
    return [
        f"{name}: {now:.1f} after {last.jobs} jobs, {then:.1f} after {first.jobs}"
        for name, (then, now) in pairs.items()
        if now > then * (1 + TOLERANCE)
    ]
