"""Test a running server whose wall clock is set an hour forward and back.

Leases, pauses and health limits are durations and must not change; deadlines are times of day and follow the
clock.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.siege import APP
from tests.support.server import Server

LEASE_S = 2


class SetServer(Server):
    """A server whose clock can be set; see set_clock.py."""

    program = "tests.crash.set_clock"

    def set(self, ahead_s: float) -> None:
        clock = self.data.with_name("clock")
        new = clock.with_suffix(".new")
        new.write_text(str(ahead_s))
        new.replace(clock)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SetServer]:
    environ = {
        "PYTHONPATH": os.getcwd(),
        "CLOCK_FILE": str(tmp_path / "clock"),
        "UNSTUCK_LEASE_S": str(LEASE_S),
        "UNSTUCK_WAITING_LONG_S": "1200",
        "UNSTUCK_STALLED_S": "600",
        "UNSTUCK_EXPIRY_S": "1800",
    }
    one = SetServer(tmp_path / "data", "--app", str(APP), "--workers", "2", environ=environ)
    one.set(0)
    one.start()
    yield one
    one.stop()


def test_setting_the_clock_ends_nothing(server: SetServer) -> None:
    running = server.submit("hang", total=2, options={"seconds": 3 * LEASE_S + 4})
    waiting = server.submit("hang", total=1, options={"seconds": 0.1})
    server.until(running["id"], lambda job: len(job["progress"]["current"]) == 2)
    for ahead_s in (3600, -3600, 0):
        server.set(ahead_s)
        assert_undisturbed(server, running["id"], LEASE_S + 0.5)
    for job in (running, waiting):
        assert server.until_done(job["id"])["state"] == "completed"
        assert {item["attempt"] for item in server.items(job["id"])} == {1}
        entries = {entry["what"] for entry in server.get(f"/api/jobs/{job['id']}/timeline")["entries"]}
        assert not entries & {"health", "attempt_failed", "given_back", "stopped"}, entries
    assert "stopped renewing its lease" not in server.log.read_text()


def test_a_deadline_is_a_time_of_day(server: SetServer) -> None:
    job = server.submit("hang", total=1, options={"seconds": 60}, deadline_seconds=1800)
    server.until(job["id"], lambda job: job["progress"]["current"])
    server.set(3600)
    ended = server.until_done(job["id"])
    assert (ended["state"], ended["error"]["code"]) == ("failed", "deadline_exceeded")


def assert_undisturbed(server: Server, job_id: str, seconds: float) -> None:
    """Check all the time, for this long, that the job is running and healthy."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        job = server.job(job_id)
        assert (job["state"], job["health"]) == ("running", "ok")
        time.sleep(0.05)
