"""`unstuck jobs`, `rescue` and `fail` on a server with stuck jobs."""

from __future__ import annotations

import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.support import hanging
from tests.support.command import unstuck, unstuck_on_a_terminal
from tests.support.server import Server, StartServer


@pytest.fixture
def stuck(start_server: StartServer) -> Server:
    limits = {"stalled_s": "0.3", "waiting_long_s": "0.3", "cancel_grace_s": "0.2"}
    return start_server("--workers", "1", *hanging.APP, **limits)


def hang(server: Server, gate: Path, health: str, **more: Any) -> str:
    job_id = str(server.submit("hang", options={"gate": str(gate)}, **more)["id"])
    server.until(job_id, lambda job: job["health"] == health)
    return job_id


def test_jobs_lists_stuck_jobs_and_their_details(stuck: Server, tmp_path: Path) -> None:
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
    assert unstuck("jobs", "--ids", "--name", "Night", *url).stdout.split() == [first]
    assert unstuck("jobs", "--ids", "--state", "queued", *url).stdout.split() == [second]
    assert "newest 1" in unstuck("jobs", "--limit", "1", *url).stderr


#: The longest words and numbers that a list may have to show.
LONGEST = [
    {
        "state": "running",
        "health": "unresponsive",
        "done": False,
        "progress": {"total": 10_000, "processed": 10_000},
    },
    {
        "state": "completed_with_errors",
        "done": True,
        "progress": {"total": 10_000, "processed": 9_999, "failed": 3},
    },
]


class _Longest(http.server.BaseHTTPRequestHandler):
    """A server that lists jobs with the longest words, and five running items of each."""

    def do_GET(self) -> None:
        if "/items" in self.path:
            items = [{"index": i, "name": f"{i}.csv", "state": "running", "worker": "w" * 40} for i in range(5)]
            body = json.dumps({"items": items, "next": None}).encode()
        else:
            times = {"created_at": "2026-01-01T00:00:00Z", "server_time": "2026-01-01T01:02:00Z"}
            fixed = {"id": str(uuid4()), "seq": 1, "name": "n" * 500, "heartbeat_at": "2026-01-01T01:01:00Z"}
            jobs = [{**fixed, **times, **job} for job in LONGEST]
            body = json.dumps({"jobs": jobs, "next": None}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def longest() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Longest) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_jobs_shows_the_state_whole_at_80_columns(longest: str) -> None:
    text = unstuck_on_a_terminal("jobs", "--url", longest, columns=80)
    assert max(len(line) for line in text.splitlines()) <= 80
    heads = [line for line in text.splitlines() if not line.startswith(" ")]
    assert re.fullmatch(r"n+…  running, unresponsive  10,000 of 10,000  1 h 2 min ago  [0-9a-f]{8}", heads[0])
    assert re.fullmatch(r"n+…  completed with errors   9,999 of 10,000  1 h 2 min ago  [0-9a-f]{8}", heads[1])
    assert "last heartbeat 1 min ago" in " ".join(text.split())
    assert "0.csv, 1.csv, 2.csv and 2 more" in " ".join(text.split())
    assert "3 failed" in text


def test_jobs_prints_one_line_for_each_job_into_a_pipe(longest: str) -> None:
    lines = unstuck("jobs", "--url", longest, COLUMNS="80").stdout.splitlines()
    assert len(lines) == 2
    name, standing, counts, age, job_id, details = lines[0].split("\t")
    assert (name, standing, counts) == ("n" * 500, "running, unresponsive", "10,000 of 10,000")
    assert (age, len(job_id)) == ("1 h 2 min ago", 36)
    assert details.endswith(f"{'w' * 40}: 0.csv, 1.csv, 2.csv and 2 more")


def test_rescue_says_what_it_will_do_and_what_it_did(stuck: Server, tmp_path: Path) -> None:
    job_id = hang(stuck, tmp_path / "gate", "stalled", total=1, name="night run")
    asked = unstuck("rescue", job_id, "--url", stuck.url)
    assert asked.returncode == 2, "nobody is there to say yes"
    assert "1 item will be taken from its worker and tried again" in asked.stdout
    assert "add --yes" in asked.stderr
    assert stuck.job(job_id)["health"] == "stalled", "nothing was done"
    done = unstuck("rescue", job_id, job_id, "--yes", "--url", stuck.url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("1 item will be tried again, 0 failed") == 1
    assert stuck.until_done(job_id)["state"] == "completed"


def test_rescue_warns_where_no_attempt_is_left(stuck: Server, tmp_path: Path) -> None:
    job_id = hang(stuck, tmp_path / "gate", "stalled", total=1, max_attempts=1)
    done = unstuck("rescue", job_id, "--yes", "--url", stuck.url)
    assert "1 of them will fail instead: no attempt is left." in done.stdout
    assert "rescued: 0 items will be tried again, 1 failed; the job is failed." in done.stdout


def test_a_waiting_job_has_nothing_to_rescue(stuck: Server, tmp_path: Path) -> None:
    hang(stuck, tmp_path / "gate", "stalled", total=1)
    waiting = hang(stuck, tmp_path / "gate", "waiting_long", total=1)
    answer = unstuck("rescue", waiting, "--url", stuck.url)
    assert answer.returncode == 0
    assert "no item is running, so there is nothing to rescue" in answer.stdout


def test_fail_stops_the_job_and_prints_the_outcome(stuck: Server, tmp_path: Path) -> None:
    job_id = hang(stuck, tmp_path / "gate", "stalled", total=5)
    done = unstuck("fail", job_id, "--why", "the source is gone", "--url", stuck.url)
    assert done.returncode == 0, done.stderr
    assert "1 item will be stopped, 4 items cancelled" in done.stdout
    ended = stuck.until_done(job_id)
    assert (ended["error"]["code"], ended["error"]["message"]) == ("failed_by_operator", "the source is gone")


def test_after_a_refusal_the_other_jobs_are_still_failed(server: Server) -> None:
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
