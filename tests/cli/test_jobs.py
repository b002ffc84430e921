"""`unstuck jobs`, `rescue` and `fail` as a shell runs them, on a server with jobs that are stuck."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.support import hanging
from tests.support.command import unstuck
from tests.support.server import Server, StartServer


@pytest.fixture
def stuck(start_server: StartServer) -> Server:
    limits = {"stalled_s": "0.3", "waiting_long_s": "0.3", "cancel_grace_s": "0.2"}
    return start_server("--workers", "1", *hanging.APP, **limits)


def hang(server: Server, gate: Path, health: str, **more: Any) -> str:
    job_id = str(server.submit("hang", options={"gate": str(gate)}, **more)["id"])
    server.until(job_id, lambda job: job["health"] == health)
    return job_id


def test_jobs_lists_what_is_stuck_and_what_is_known_of_it(stuck: Server, tmp_path: Path) -> None:
    url = ("--url", stuck.url)
    none = unstuck("jobs", "--stuck", *url)
    assert (none.returncode, none.stdout) == (0, "No job needs attention.\n")
    first = hang(stuck, tmp_path / "gate", "stalled", items=["a\x1b[2J.csv", "b"], name="night run")
    second = hang(stuck, tmp_path / "gate", "waiting_long", total=1)
    table = unstuck("jobs", "--stuck", *url)
    assert table.returncode == 0, table.stderr
    for word in (first, second, "night run", "stalled", "waiting long", "0 of 2", " ago", "a\\x1b[2J.csv"):
        assert word in table.stdout, word
    worker = stuck.items(first)[0]["worker"]
    assert worker in table.stdout
    assert "\x1b" not in table.stdout
    assert unstuck("jobs", "--ids", *url).stdout.split() == [second, first]
    assert unstuck("jobs", "--ids", "--state", "queued", *url).stdout.split() == [second]
    assert "newest 1" in unstuck("jobs", "--limit", "1", *url).stdout


def test_rescue_says_what_it_will_do_and_what_it_did(stuck: Server, tmp_path: Path) -> None:
    job_id = hang(stuck, tmp_path / "gate", "stalled", total=1, name="night run")
    asked = unstuck("rescue", job_id, "--url", stuck.url)
    assert asked.returncode == 2, "nobody is there to say yes"
    assert "1 item is taken from the worker and tried again" in asked.stdout
    assert "say --yes" in asked.stderr
    assert stuck.job(job_id)["health"] == "stalled", "nothing was done"
    done = unstuck("rescue", job_id, job_id, "--yes", "--url", stuck.url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("1 item is tried again, 0 failed") == 1
    assert stuck.until_done(job_id)["state"] == "completed"


def test_rescue_warns_where_no_attempt_is_left(stuck: Server, tmp_path: Path) -> None:
    job_id = hang(stuck, tmp_path / "gate", "stalled", total=1, max_attempts=1)
    done = unstuck("rescue", job_id, "--yes", "--url", stuck.url)
    assert "1 item is at the last attempt, and will fail instead" in done.stdout
    assert "done: the job is failed, 0 items are tried again, 1 failed." in done.stdout


def test_where_nothing_runs_there_is_nothing_to_rescue(stuck: Server, tmp_path: Path) -> None:
    hang(stuck, tmp_path / "gate", "stalled", total=1)
    waiting = hang(stuck, tmp_path / "gate", "waiting_long", total=1)
    answer = unstuck("rescue", waiting, "--url", stuck.url)
    assert answer.returncode == 0
    assert "nothing of it runs" in answer.stdout


def test_fail_gives_up_and_says_so(stuck: Server, tmp_path: Path) -> None:
    job_id = hang(stuck, tmp_path / "gate", "stalled", total=5)
    done = unstuck("fail", job_id, "--why", "the source is gone", "--url", stuck.url)
    assert done.returncode == 0, done.stderr
    assert "1 item is stopped, 4 items are cancelled" in done.stdout
    ended = stuck.until_done(job_id)
    assert (ended["error"]["code"], ended["error"]["message"]) == ("failed_by_operator", "the source is gone")


def test_one_refusal_does_not_spare_the_others(server: Server) -> None:
    finished = server.until_done(server.submit("rehearsal", total=1, options={"seconds": 0})["id"])["id"]
    goes_on = server.submit("rehearsal", total=1, options={"seconds": 60})["id"]
    url = ("--url", server.url)
    answer = unstuck("fail", finished, str(uuid4()), "x/y", goes_on, "--why", "enough", *url)
    assert answer.returncode == 2
    said = " ".join(answer.stderr.split())
    assert "is already completed" in said
    assert "There is no job" in said
    assert "is not a job id" in said
    assert server.until_done(goes_on)["state"] == "failed"
    assert unstuck("rescue", finished, *url).returncode == 2
    missing = unstuck("fail", goes_on, *url)
    assert missing.returncode == 2
    assert "--why" in missing.stderr
