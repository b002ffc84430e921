"""Workers that crash, exit, run out of memory or never stop, and a server that carries on unaffected."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.events import events
from tests.support.server import Server, StartServer
from tests.support.waiting import eventually

KINDS = """
import ctypes, os, subprocess, sys, time
from pathlib import Path
import unstuck

@unstuck.kind("behave", needs_file=False)
def behave(file: Path | None, report: unstuck.Report, *, seconds: float = 0.05) -> dict:
    what = report.name.partition(" ")[0]
    if what == "segfault":
        ctypes.string_at(0)
    elif what == "exit":
        os._exit(3)
    elif what == "eat":
        hoard = []
        while True:
            hoard.append(bytearray(32 * 1024 * 1024))
    elif what == "spin":
        while True:
            pass
    elif what == "child":
        child = subprocess.Popen(["sleep", "600"])
        report(0.5, message=str(child.pid))
        child.wait()
    elif what == "polite":
        while True:
            report(0.5)
            time.sleep(0.01)
    elif what == "flaky" and report.attempt < 3:
        raise unstuck.Transient("not yet")
    elif what == "raise":
        raise ValueError("no good")
    elif what == "skip":
        raise unstuck.Skip("nothing to do")
    elif what == "exitcode":
        sys.exit(4)
    time.sleep(seconds)
    print("user code prints", flush=True)
    return {"pid": os.getpid(), "attempt": report.attempt}
"""


@pytest.fixture
def server(start_server: StartServer, tmp_path: Path) -> Server:
    app = tmp_path / "mywork.py"
    app.write_text(KINDS)
    return start_server(
        "--workers", "2", "--app", str(app), worker_memory_mib="400", heartbeat_s="1", cancel_grace_s="0.5"
    )


class Heartbeats(threading.Thread):
    """Reads the stream of all jobs, and records how long each heartbeat took to come."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self.gaps: list[float] = []
        self.stopped = False
        self._server = server
        self.start()
        eventually(lambda: self.gaps)

    def run(self) -> None:
        with httpx.stream("GET", f"{self._server.url}/api/events/stream", timeout=30) as answer:
            last = time.monotonic()
            for name, _ in events(answer.iter_lines()):
                if self.stopped:
                    return
                if name == "heartbeat":
                    now = time.monotonic()
                    self.gaps.append(now - last)
                    last = now


def by_name(server: Server, job_id: str) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in server.items(job_id)}


@pytest.mark.alone
def test_misbehaving_code_does_not_affect_other_items(server: Server) -> None:
    beats = Heartbeats(server)
    bad = ["segfault", "exit", "eat", "raise", "exitcode"]
    names = [*bad, "skip", "flaky", *(f"good {n}" for n in range(20))]
    spinning = server.submit("behave", items=["spin", "child"])
    server.until(spinning["id"], lambda job: len(job["progress"]["current"]) == 2)
    job = server.submit("behave", items=names, max_attempts=3)
    health = [httpx.get(f"{server.url}/api/health/ready").status_code for _ in range(5)]
    asked = time.monotonic()
    httpx.post(f"{server.url}{spinning['links']['cancel']}")
    assert server.until_done(spinning["id"])["state"] == "cancelled"
    took = time.monotonic() - asked
    assert took < 2 + 1, "two seconds, and one for a slow machine"
    done = server.until_done(job["id"])
    items = by_name(server, job["id"])
    assert done["state"] == "completed_with_errors"
    assert done["progress"]["failed"] == len(bad)
    assert all(items[f"good {n}"]["state"] == "succeeded" for n in range(20))
    for name, words in (("segfault", "SIGSEGV"), ("exit", "exit code 3"), ("eat", "memory")):
        assert items[name]["error"]["code"] == "worker_lost"
        assert words in items[name]["error"]["message"]
        assert items[name]["attempt"] == 3
    error = items["raise"]["error"]
    assert (error["code"], error["transient"]) == ("exception", False)
    assert error["message"].startswith("ValueError: no good (")
    assert items["raise"]["attempt"] == 1
    assert items["exitcode"]["state"] == "failed"
    assert (items["skip"]["state"], items["skip"]["message"]) == ("skipped", "nothing to do")
    assert (items["flaky"]["state"], items["flaky"]["result"]["attempt"]) == ("succeeded", 3)
    assert health == [200] * 5
    beats.stopped = True
    # With one heartbeat a second, none may be late by more than a second.
    assert max(beats.gaps) < 2.0


def test_workers_are_reused(server: Server) -> None:
    job = server.until_done(server.submit("behave", items=[f"good {n}" for n in range(12)])["id"])
    assert job["state"] == "completed"
    assert len({item["result"]["pid"] for item in server.items(job["id"])}) <= 2


def test_cancel_kills_processes_that_user_code_started(server: Server) -> None:
    job = server.submit("behave", items=["child"])
    item = eventually(lambda: [i for i in server.items(job["id"]) if i["message"]])[0]
    pid = int(item["message"])
    os.kill(pid, 0)
    httpx.post(f"{server.url}{job['links']['cancel']}")
    assert server.until_done(job["id"])["state"] == "cancelled"
    eventually(lambda: not Path(f"/proc/{pid}").exists())


def test_polite_code_stops_without_force(server: Server) -> None:
    job = server.submit("behave", items=["polite", "polite 2", "good"])
    server.until(job["id"], lambda job: len(job["progress"]["current"]) == 2)
    httpx.post(f"{server.url}{job['links']['cancel']}")
    done = server.until_done(job["id"])
    assert (done["state"], done["progress"]["processed"]) == ("cancelled", 0)
    assert [item["message"] for item in server.items(job["id"])] == [None, None, None]


def test_too_many_errors_end_the_batch(server: Server) -> None:
    job = server.submit("behave", items=["raise"] * 200, max_errors=3)
    done = server.until_done(job["id"])
    assert (done["state"], done["error"]["code"]) == ("failed", "too_many_errors")
    assert done["progress"]["failed"] < 20


def workers_of(server: Server) -> list[int]:
    assert server.process is not None
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return [int(child) for child in children]


def both_workers(server: Server) -> list[int]:
    return eventually(lambda: pids if len(pids := workers_of(server)) == 2 else None)


def test_a_worker_killed_from_outside_is_replaced(server: Server) -> None:
    # Long items, because a start is written within 0.2 s, and not at all if the item ends before.
    job = server.submit("behave", items=[f"good {n}" for n in range(6)], options={"seconds": 1.0})
    server.until(job["id"], lambda job: bool(job["progress"]["current"]))
    for pid in workers_of(server):
        os.kill(pid, signal.SIGKILL)
    assert server.until_done(job["id"])["state"] == "completed"
    assert len(both_workers(server)) == 2


def test_workers_that_die_idle_cost_no_attempt(server: Server) -> None:
    server.until_done(server.submit("behave", items=["good 1", "good 2"])["id"])
    idle = both_workers(server)
    for pid in idle:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not set(idle) & set(workers_of(server)))
    job = server.submit("behave", items=["good 3", "good 4"], max_attempts=1)
    assert server.until_done(job["id"])["state"] == "completed"
    log = server.log.read_text()
    assert any(f"Worker died while idle, starting another: worker={pid} reason=" in log for pid in idle)


def test_no_worker_outlives_a_killed_server(server: Server) -> None:
    job = server.submit("behave", items=["child", "good"], options={"seconds": 60})
    server.until(job["id"], lambda job: len(job["progress"]["current"]) == 2)
    pids = workers_of(server)
    assert len(pids) == 2
    server.stop(signal.SIGKILL)
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
