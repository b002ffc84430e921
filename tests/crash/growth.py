"""Compares a server's memory and open files after many jobs and reports with those after a tenth of them.

Each job has an item that reports a hundred times, every tenth job has a viewer, and the list is fetched after
each wave of jobs. It must not know what might grow.
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

#: Reports of each job, jobs submitted together, and by how much the measurements may differ.
REPORTS, WAVE, TOLERANCE = 100, 50, 0.10


@dataclass(frozen=True)
class Measure:
    """The memory (MiB) and open files of a server and its workers after so many jobs."""

    jobs: int
    server_mib: float
    workers_mib: float
    files: int

    def __str__(self) -> str:
        return (
            f"after {self.jobs:,} jobs and {self.jobs * REPORTS:,} reports: server {self.server_mib:.1f} MiB, "
            f"workers {self.workers_mib:.1f} MiB, {self.files} open files"
        )


def play_growth(jobs: int, log: Callable[[str], None]) -> list[Measure]:
    """Run this many jobs, and return a measurement after each tenth of them."""
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
                    log(f"{measures[-1]}, {time.monotonic() - began:.0f} s")
        finally:
            server.stop(signal.SIGTERM)
    return measures


def growth(first: Measure, last: Measure) -> list[str]:
    """Return what grew by more than TOLERANCE between two measurements."""
    pairs = {
        "the server's memory": (first.server_mib, last.server_mib),
        "the workers' memory": (first.workers_mib, last.workers_mib),
        "open files": (first.files, last.files),
    }
    return [
        f"{name} grew from {then:.1f} after {first.jobs} jobs to {now:.1f} after {last.jobs}"
        for name, (then, now) in pairs.items()
        if now > then * (1 + TOLERANCE)
    ]


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
