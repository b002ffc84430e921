"""SIGSTOP of the whole server for longer than its leases last, then SIGCONT: what it held is still its own.

The workers are not stopped: they work on, and what they said waits in the pipe. Must not know how leases are kept.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from tests.crash.siege import APP
from tests.support.server import Server


def play_stop(folder: Path, stops: Sequence[float], lease_s: float, seed: int = 1) -> list[str]:
    """Stop it for so many seconds each, at moments that follow from the seed; says what is wrong."""
    chance = random.Random(f"stops {seed}")
    server = Server(
        folder / "data", "--app", str(APP), "--workers", "2", environ={"UNSTUCK_LEASE_S": str(lease_s)}
    ).start()
    try:
        whole = sum(stops) + len(stops) * 0.5
        # One that ends while the server stands still, one that outlasts all, and one that waits behind them.
        lengths = (stops[0] / 2 + 0.5, whole + 1, 0.1)
        jobs = [server.submit("hang", total=1, options={"seconds": seconds}) for seconds in lengths]
        server.until(jobs[1]["id"], lambda job: job["progress"]["current"])
        for seconds in stops:
            time.sleep(chance.uniform(0.0, 0.5))
            _stand_still(server, seconds)
        return [wrong for job in jobs for wrong in _wrongs(server, job["id"])]
    finally:
        server.stop(signal.SIGKILL)


def _stand_still(server: Server, seconds: float) -> None:
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    server.process.send_signal(signal.SIGCONT)


def _wrongs(server: Server, job_id: str) -> list[str]:
    job = server.until_done(job_id)
    (item,) = server.items(job_id)
    wrongs = []
    if (job["state"], item["attempt"]) != ("completed", 1):
        wrongs.append(f"job {job_id} is {job['state']} after {item['attempt']} attempts: {item['error']}")
    told = server.get(f"/api/jobs/{job_id}/timeline")["entries"]
    lost = [entry for entry in told if entry["what"] in ("given_back", "attempt_failed", "item_failed")]
    return wrongs + [f"job {job_id} lost what it held: {entry}" for entry in lost]
