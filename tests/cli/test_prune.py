"""`unstuck prune`, and the list of finished jobs that it requests."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import httpx
import pytest

from tests.support.command import unstuck
from tests.support.server import Server
from unstuck.cli.prune import seconds, states
from unstuck.errors import InvalidRequest


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for this module alone, so that its jobs can be counted."""
    server = Server(tmp_path_factory.mktemp("prune") / "data", "--workers", "2").start()
    yield server
    server.stop()


def rehearsed(server: Server, count: int, failures: float = 0) -> list[str]:
    options = {"seconds": 0, "failures": failures}
    ids = [server.submit("rehearsal", total=2, options=options)["id"] for _ in range(count)]
    for job_id in ids:
        server.until_done(job_id)
    return ids


def listed(server: Server, **params: str) -> list[str]:
    found: list[str] = []
    while True:
        answer = httpx.get(f"{server.url}/api/jobs", params={"limit": 2, **params})
        assert answer.status_code == 200, answer.text
        found += [job["id"] for job in answer.json()["jobs"]]
        if answer.json()["next"] is None:
            return found
        params["cursor"] = answer.json()["next"]


def test_jobs_are_listed_by_end(own: Server) -> None:
    ids = rehearsed(own, 5)
    running = own.submit("rehearsal", total=1, options={"seconds": 60})["id"]
    ends = {job_id: own.job(job_id)["finished_at"] for job_id in ids}
    ids.sort(key=lambda job_id: ends[job_id])
    assert listed(own, finished_before="2999-01-01T00:00:00Z") == ids
    assert listed(own, finished_before="2999-01-01T00:00:00Z", state="failed") == []
    assert listed(own, finished_before=ends[ids[-1]], state="completed") == ids[:-1]
    for long_ago in ("2020-01-01T01:00:00+01:00", "0001-01-01T00:00:00+23:00"):
        assert listed(own, finished_before=long_ago) == []
    for query in (
        "finished_before=yesterday",
        "finished_before=2026-11-22",
        "finished_before=2026-11-22T00:00:00",
        "finished_before=2999-01-01T00:00:00Z&cursor=5",
        "finished_before=2999-01-01T00:00:00Z&cursor=1~1~1",
        "finished_before=2999-01-01T00:00:00Z&cursor=" + "9" * 500 + "~1",
    ):
        answer = httpx.get(f"{own.url}/api/jobs?{query}")
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request"), query
    httpx.post(f"{own.url}/api/jobs/{running}/cancel")
    own.until_done(running)


def test_prune_removes_what_it_lists(own: Server) -> None:
    words = ("prune", "--url", own.url, "--older-than")
    rehearsed(own, 3)
    failed = rehearsed(own, 2, failures=1)
    young = unstuck(*words, "1h")
    assert (young.returncode, young.stdout) == (0, "removed 0 jobs with 0 items\n"), young.stderr
    running = own.submit("rehearsal", total=1, options={"seconds": 60})["id"]
    dry = unstuck(*words, "0s", "--state", "failed", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert {line.split()[0] for line in dry.stdout.splitlines()[:-1]} == set(failed)
    assert dry.stdout.endswith("would remove 2 jobs with 4 items\n")
    some = unstuck(*words, "0s", "--state", "failed")
    assert (some.returncode, some.stdout) == (0, "removed 2 jobs with 4 items\n"), some.stderr
    assert httpx.get(f"{own.url}/api/jobs/{failed[0]}").status_code == 404
    left = listed(own, finished_before="2999-01-01T00:00:00Z")
    rest = unstuck(*words, "0s")
    assert rest.stdout.startswith(f"removed {len(left)} jobs with ")
    assert listed(own) == [running]
    httpx.post(f"{own.url}/api/jobs/{running}/cancel")
    own.until_done(running)


def test_mistakes_exit_with_2_and_one_sentence(own: Server) -> None:
    for words, said in (
        (("--older-than", "3", "--url", own.url), "'3' is not a duration; write 30s, 90m, 12h, 3d or 2w."),
        (("--older-than", "-3d", "--url", own.url), "is not a duration"),
        (("--older-than", "3d", "--state", "running", "--url", own.url), "--state must be one of cancelled"),
        (("--older-than", "3d", "--url", "http://127.0.0.1:1"), "No answer from http://127.0.0.1:1"),
        (("--url", own.url), "--older-than"),
    ):
        answer = unstuck("prune", *words)
        assert answer.returncode == 2, words
        assert said in " ".join(answer.stderr.split())
        assert "Traceback" not in answer.stderr


class _OldServer(http.server.BaseHTTPRequestHandler):
    """A server that ignores the filter, and so lists a job that finished a second ago."""

    asked: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        job = (
            b'{"jobs": [{"id": "a", "seq": 9, "done": true, "state": "completed", "name": "n", '
            b'"server_time": "2026-01-01T00:00:01Z", '
            b'"finished_at": "2026-01-01T00:00:00Z", "progress": {"total": 1}}], "next": null}'
        )
        self.send_response(200)
        self.send_header("Content-Length", str(len(job)))
        self.end_headers()
        self.wfile.write(job)

    def do_DELETE(self) -> None:
        self.asked.append(self.path)

    def log_message(self, *_: object) -> None:
        pass


def test_a_server_that_does_not_know_the_filter_loses_nothing() -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _OldServer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        answer = unstuck("prune", "--older-than", "1h", "--url", f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert answer.returncode == 2
    assert "upgrade the server" in " ".join(answer.stderr.split())
    assert _OldServer.asked == []


def test_durations_and_states() -> None:
    said = {"90m": 5_400, "12h": 43_200, "3d": 259_200, "2w": 1_209_600, "1.5 H": 5_400, "0s": 0}
    assert {text: seconds(text) for text in said} == said
    for wrong in ("", "d", "3", "3 days", "-1d", "1e3s", "٣d", "99999999w", "1d2h"):
        with pytest.raises(InvalidRequest):
            seconds(wrong)
    assert states(["canceled", "failed"]) == ["cancelled", "failed"]
