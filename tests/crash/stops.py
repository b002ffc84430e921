"""Stops the whole server with SIGSTOP for longer than its leases last, then resumes it: it must keep its items.

The workers are not stopped: they keep working, and their messages wait in the pipe. It must not know how leases
are kept.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.crash.siege import APP, Figures
from tests.crash.witness import Flaw
from tests.support.server import Server
from tests.support.violation import Violation


def play_stop(folder: Path, stops: Sequence[float], lease_s: float, seed: int = 1) -> Figures:
    """Stop the server for each of these times (seconds), at random moments, and judge."""
    chance = random.Random(f"stops {seed}")
    server = Server(
        folder / "data", "--app", str(APP), "--workers", "2", environ={"UNSTUCK_LEASE_S": str(lease_s)}
    ).start()
    try:
        total_s = sum(stops) + len(stops) * 0.5
        # One item that ends while the server is stopped, one that outlasts all stops, and one that waits behind
        # them.
        lengths = (stops[0] / 2 + 0.5, total_s + 1, 0.1)
        jobs = [server.submit("hang", total=1, options={"seconds": seconds}) for seconds in lengths]
        server.until(jobs[1]["id"], lambda job: job["progress"]["current"])
        for seconds in stops:
            time.sleep(chance.uniform(0.0, 0.5))
            _pause(server, seconds)
        done = [(server.until_done(job["id"]), server.items(job["id"])[0]) for job in jobs]
        violations = [one for job, item in done for one in _violations(server, job, item)]
        attempts = sum(item["attempt"] for _, item in done)
        return Figures(len(stops), len(jobs), len(jobs), attempts, len(done), tuple(violations))
    finally:
        server.stop(signal.SIGKILL)


def _pause(server: Server, seconds: float) -> None:
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    server.process.send_signal(signal.SIGCONT)


def _violations(server: Server, job: dict[str, Any], item: dict[str, Any]) -> list[Violation]:
    job_id, violations = job["id"], []
    if (job["state"], item["attempt"]) != ("completed", 1):
        text = f"job {job_id} is {job['state']} after {item['attempt']} attempts: {item['error']}"
        violations.append(Violation(Flaw.WRONG_END, text))
    for entry in server.get(f"/api/jobs/{job_id}/timeline")["entries"]:
        if entry["what"] in ("given_back", "attempt_failed", "item_failed"):
            violations.append(Violation(Flaw.LOST, f"job {job_id} lost its item: {entry}"))
    return violations
