"""Test crashes of the whole server and of single workers, stops and power cuts, in short.

The long form, with hundreds of kills and every commit, is `scripts/crash`.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path

import httpx
import pytest

from tests.crash import power
from tests.crash.growth import Measure
from tests.crash.kills import play_kills
from tests.crash.points import MOMENTS, play_point
from tests.crash.run import document
from tests.crash.siege import APP, Figures, Siege, workers_of
from tests.crash.stops import play_stop
from tests.crash.witness import Flaw, Witness
from tests.support.server import StartServer
from tests.support.violation import Violation
from tests.support.waiting import eventually

SEED = 1


def test_the_whole_server_at_random_moments(tmp_path: Path) -> None:
    figures = play_kills(tmp_path, SEED, kills=8)
    assert figures.violations == ()
    assert figures.runs > figures.times, "there was something to lose"


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("number", [2, 5])
def test_the_whole_server_at_a_commit(tmp_path: Path, number: int, moment: str) -> None:
    point = play_point(tmp_path, number, moment, twice=number == 5)
    assert point.times
    assert point.violations == ()


def test_single_workers(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    siege = Siege(tmp_path, SEED)
    try:
        siege.up()
        siege.begin()
        assert siege.server.process is not None
        for _ in range(8):
            time.sleep(chance.uniform(0.05, 0.4))
            if workers := workers_of(siege.server.process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(chance.choice(workers), signal.SIGKILL)
        assert siege.judge() == []
    finally:
        siege.close()


def test_an_exception_of_a_user_is_a_violation(tmp_path: Path) -> None:
    def users() -> None:
        raise RuntimeError("out of ideas")

    siege = Siege(tmp_path, SEED)
    try:
        siege.up()
        siege.begin(users)
        eventually(lambda: siege.witness.violations)
        assert "out of ideas" in siege.witness.violations[0]
    finally:
        siege.close()


def test_a_stopped_server_loses_nothing(tmp_path: Path) -> None:
    assert play_stop(tmp_path, [2.5, 1.5, 1.5], lease_s=1).violations == ()


def test_a_stopped_worker(start_server: StartServer) -> None:
    server = start_server(
        "--workers", "1", "--app", str(APP), stalled_s="1", item_limit_s="6", cancel_grace_s="0.2"
    )
    assert server.process is not None

    def stopped_at_work() -> str:
        job_id = str(server.submit("hang", total=1)["id"])
        server.until(job_id, lambda job: job["progress"]["current"])
        assert server.process is not None
        (worker,) = workers_of(server.process.pid)
        os.kill(worker, signal.SIGSTOP)
        return job_id

    cancelled = stopped_at_work()
    server.until(cancelled, lambda job: job["health"] == "stalled")
    httpx.post(f"{server.url}/api/jobs/{cancelled}/cancel").raise_for_status()
    assert server.until_done(cancelled)["state"] == "cancelled"
    limited = stopped_at_work()
    assert server.until(limited, lambda job: job["health"] == "stalled" or job["done"])["done"] is False
    assert server.until_done(limited)["state"] == "failed"
    (item,) = server.items(limited)
    assert item["error"]["code"] == "time_limit_exceeded"
    done = server.until_done(server.submit("hang", total=1, options={"seconds": 0.1})["id"])
    assert done["state"] == "completed", "a new worker took its place"


@pytest.mark.skipif(power.missing() is not None, reason=str(power.missing()))
def test_power_cuts(tmp_path: Path) -> None:
    figures = power.play_power(tmp_path, SEED, cuts=2)
    assert figures.violations == ()


def test_the_witness_notices_what_is_undone() -> None:
    job = {"id": "j", "seq": 5, "state": "completed", "done": True, "cancel_requested": True, "server_time": "1"}
    item = {"index": 0, "name": "n", "state": "succeeded", "result": 1, "error": None, "attempt": 1}
    item |= {"finished_at": "1", "seq": 5}
    undone = job | {"seq": 4, "cancel_requested": False, "done": False, "state": "running"}
    for later, kinds in (
        (undone, {Flaw.BACKWARDS, Flaw.LOST}),
        (job | {"state": "failed"}, {Flaw.WRONG_END}),
    ):
        witness = Witness()
        witness.reader("one").job(job)
        second = witness.reader("another")
        second.job(job | {"server_time": "2"})
        assert witness.violations == []
        second.job(later)
        assert {violation.kind for violation in witness.violations} == kinds
    for later_item, kind in (
        (item | {"state": "pending"}, Flaw.BACKWARDS),
        (item | {"result": 2}, Flaw.WRONG_END),
    ):
        witness = Witness()
        overtaken = witness.reader("one that was overtaken")
        witness.reader("one").items("j", [item])
        overtaken.items("j", [item | {"state": "running"}])
        assert witness.violations == []
        witness.reader("another").items("j", [later_item])
        assert [violation.kind for violation in witness.violations] == [kind]


def test_the_table_sums_up_rounds_and_counts_violations_by_kind() -> None:
    lost = Violation(Flaw.LOST, "a job is gone")
    rounds = [Figures(2, 3, 1_000, 1_001, 50, ()), Figures(1, 1, 10, 10, 5, (lost, lost))]
    measures = [Measure(1_000, 80.0, 60.0, 40), Measure(10_000, 81.0, 60.5, 40)]
    text = document("scripts/crash --kills 3", 7, [("server killed", rounds)], measures)
    assert "| server killed | 3 | 4 | 1,010 | 1,011 | 55 | 2 | 0 | 0 | 0 | 0 | 0 |" in text
    assert "`scripts/crash --kills 3`, seed 7" in text
    assert "after 10,000 jobs" in text
