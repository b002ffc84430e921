"""External work that reports over HTTP: single reports, streams of reports, and silent reporters."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from tests.support.server import Server, StartServer
from tests.support.waiting import eventually

NDJSON = {"Content-Type": "application/x-ndjson"}


def submit(server: Server, **more: Any) -> dict[str, Any]:
    return server.submit("import", external=True, **more)


def report(server: Server, job: dict[str, Any], **said: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/api/jobs/{job['id']}/progress", json=said, timeout=60)


def stream(server: Server, job: dict[str, Any], body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/api/jobs/{job['id']}/progress", content=body, headers=NDJSON, timeout=60)


def lines(*reports: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in reports)


def test_a_job_of_named_items_from_its_first_report_to_its_end(server: Server) -> None:
    job = submit(server, items=["a.csv", "b.csv", "c.csv"])
    assert (job["state"], job["external"], job["progress"]["total"]) == ("queued", True, 3)
    answer = report(server, job, stage="reading", message="row 7", items=[{"name": "b.csv", "progress": 0.5}])
    assert answer.status_code == 200, answer.text
    seen = answer.json()
    assert (seen["state"], seen["progress"]["percent"], seen["progress"]["current"]) == (
        "running",
        16.6,
        ["b.csv"],
    )
    assert (seen["progress"]["stage"], seen["progress"]["message"]) == ("reading", "row 7")
    ends = [
        {"index": 0, "state": "succeeded", "result": ["any", 5]},
        {"name": "b.csv", "state": "failed", "error": {"code": "bad_row", "message": "row 8 has no id"}},
        {"index": 2, "state": "skipped", "message": "empty"},
    ]
    done = report(server, job, items=ends).json()
    assert (done["state"], done["done"]) == ("completed_with_errors", True)
    assert done["item_errors"] == [{"index": 1, "name": "b.csv", "code": "bad_row", "message": "row 8 has no id"}]
    assert server.items(job["id"])[0]["result"] == ["any", 5]
    told = [(one["what"], one["text"]) for one in server.get(job["links"]["timeline"])["entries"]]
    for entry in (("item_failed", "row 8 has no id"), ("state", "running"), ("state", "completed_with_errors")):
        assert entry in told
    again = report(server, job, items=ends)
    assert (again.status_code, again.json()["code"]) == (409, "job_finished")
    assert report(server, job, state="completed_with_errors").status_code == 200, "the same end is no news"


def test_a_job_with_counts_only(server: Server) -> None:
    job = submit(server)
    assert (job["progress"]["total"], job["progress"]["percent"], job["name"]) == (None, None, "import")
    assert report(server, job, processed=500).json()["progress"]["percent"] is None
    seen = report(server, job, processed=600, total=1_000_000, failed=2).json()
    assert (seen["progress"]["percent"], seen["progress"]["failed"]) == (0.0, 2)
    refused = report(server, job, items=[{"index": 0}])
    assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
    done = report(server, job, state="completed").json()
    assert (done["state"], done["progress"]["succeeded"]) == ("completed_with_errors", 999_998)


def test_a_misspelt_kind_is_answered_with_suggestions(server: Server) -> None:
    answer = httpx.post(f"{server.url}/api/jobs", json={"kind": "checksun", "total": 3})
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_kind")
    assert "checksum" in answer.json()["detail"]
    assert '"external": true' in answer.json()["detail"]


def test_external_work_takes_no_files(server: Server) -> None:
    form = {"kind": "import", "external": "true"}
    answer = httpx.post(f"{server.url}/api/jobs", data=form, files=[("files", ("a", b"x"))])
    assert (answer.status_code, answer.json()["code"]) == (422, "files_not_taken")


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        ({"processd": 1}, 422, "invalid_request"),
        ({"processed": -1}, 422, "invalid_request"),
        ({"processed": 4}, 422, "more_than_total"),
        ({"total": 4}, 422, "items_are_given"),
        ({"failed": 1}, 422, "items_are_given"),
        ({"state": "queued"}, 422, "invalid_request"),
        ({"state": "completed_with_errors"}, 422, "no_errors_told"),
        ({"error": "no"}, 422, "invalid_request"),
        ({"items": [{"index": 9}]}, 404, "not_found"),
        ({"items": [{"name": "zz"}]}, 422, "which_item"),
        ({"items": [{"name": "twice"}]}, 422, "which_item"),
        ({"items": [{"state": "running"}]}, 422, "which_item"),
        ({"items": [{"index": 0, "error": "x"}]}, 422, "invalid_request"),
        ({"items": [{"index": 0, "state": "cancelled"}]}, 409, "refused"),
        ({"items": [{"index": 0, "state": "succeeded", "result": {"x": "y" * 70_000}}]}, 413, "result_too_large"),
    ],
)
def test_an_invalid_report_is_refused_and_changes_nothing(
    server: Server, said: dict[str, Any], status: int, code: str
) -> None:
    job = submit(server, items=["a", "twice", "twice"])
    report(server, job)
    before = server.job(job["id"])["seq"]
    answer = report(server, job, **said)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert server.job(job["id"])["seq"] == before


def test_reports_of_the_servers_own_work_are_refused(server: Server) -> None:
    job = server.submit("rehearsal", total=1, options={"seconds": 0})
    assert report(server, job, processed=1).json()["code"] == "not_external"
    assert report(server, {"id": str(uuid4())}, processed=1).status_code == 404
    assert report(server, {"id": "x"}, processed=1).status_code == 400
    assert stream(server, {"id": str(uuid4())}, b"{}\n").status_code == 404


def test_a_stream_of_reports(server: Server) -> None:
    job = submit(server, total=1000)
    body = lines(*({"items": [{"index": n, "state": "succeeded"}]} for n in range(999)))
    seen = stream(server, job, body + b"\r\n\n" + lines({"message": "one left"})).json()
    assert (seen["progress"]["processed"], seen["progress"]["message"]) == (999, "one left")
    assert stream(server, job, b'{"processed": 1000}').json()["state"] == "completed", "the newline may be missing"


def test_a_bad_line_is_named_and_the_lines_before_it_count(server: Server) -> None:
    good = [{"items": [{"index": n, "state": "succeeded"}]} for n in range(300)]
    for bad, status, code in (
        (b"{oops\n", 400, "invalid_json"),
        (b'{"processed": "x"}\n', 422, "invalid_request"),
        (b'{"items": [{"name": "nobody"}]}\n', 422, "which_item"),
        (b'{"items": [{"index": 0, "state": "failed"}]}\n', 409, "item_finished"),
        (b'{"message": "' + b"x" * 1024 * 1024 + b'"}\n', 413, "body_too_large"),
    ):
        job = submit(server, total=1000)
        answer = stream(server, job, lines(*good) + bad + lines({"processed": 1000}))
        told = answer.json()
        assert (answer.status_code, told["code"], told["accepted"], told["line"]) == (status, code, 300, 301)
        assert server.job(job["id"])["progress"]["processed"] == 300


def test_the_number_of_accepted_lines_does_not_depend_on_batching(server: Server) -> None:
    words = [{"message": f"{n}"} for n in range(50)]
    body = lines(*words, {"processed": 2}, {"processed": 11}, *words)
    job = submit(server, total=10)
    told = stream(server, job, body).json()
    assert (told["code"], told["accepted"]) == ("more_than_total", 51)
    assert server.job(job["id"])["progress"]["processed"] == 2


def test_a_reporter_learns_of_a_cancel_from_the_answer(server: Server) -> None:
    job = submit(server, total=5)
    report(server, job, processed=2)
    asked = httpx.post(f"{server.url}{job['links']['cancel']}")
    assert (asked.status_code, asked.json()["state"], asked.json()["cancel_requested"]) == (202, "running", True)
    assert report(server, job, processed=3).json()["cancel_requested"]
    done = report(server, job, state="canceled").json()
    assert (done["state"], done["progress"]["processed"]) == ("cancelled", 3)


def test_a_reporter_that_ignores_a_cancel_is_cut_off(start_server: StartServer) -> None:
    server = start_server("--workers", "1", lease_s="1", reporter_silence_s="0.5")
    job = submit(server, total=5)
    report(server, job, processed=2)
    server.until(job["id"], lambda one: one["health"] == "unresponsive")
    assert report(server, job).json()["health"] == "ok"
    httpx.post(f"{server.url}{job['links']['cancel']}")
    assert server.until_done(job["id"])["state"] == "cancelled"
    assert report(server, job, processed=3).status_code == 409


def test_an_operator_can_fail_external_work_but_not_rescue_it(server: Server) -> None:
    job = submit(server, total=2)
    report(server, job, items=[{"index": 0}])
    rescue = httpx.post(f"{server.url}/api/jobs/{job['id']}/rescue")
    assert (rescue.status_code, rescue.json()["code"]) == (409, "work_elsewhere")
    failed = httpx.post(f"{server.url}/api/jobs/{job['id']}/fail", json={"why": "the importer died"}).json()
    assert (failed["state"], failed["done"]) == ("failed", True)
    assert {item["state"] for item in server.items(job["id"])} == {"cancelled"}


def test_a_retry_of_external_work_is_external(server: Server) -> None:
    job = submit(server, items=["a", "b"])
    report(server, job, items=[{"index": 0, "state": "succeeded"}, {"index": 1, "state": "failed", "error": "no"}])
    again = httpx.post(f"{server.url}/api/jobs/{job['id']}/retry").json()
    assert (again["external"], again["progress"]["total"], again["retry_of"]) == (True, 1, job["id"])
    assert server.items(again["id"])[0]["name"] == "b"
    counted = submit(server)
    report(server, counted, processed=3, state="failed", error="disk full")
    again = httpx.post(f"{server.url}/api/jobs/{counted['id']}/retry").json()
    assert (again["external"], again["progress"]["total"]) == (True, None)
    report(server, again, processed=1, state="completed")
    assert httpx.post(f"{server.url}/api/jobs/{again['id']}/retry").json()["code"] == "nothing_to_retry"


def test_the_runner_never_claims_external_work(server: Server) -> None:
    theirs = server.submit("rehearsal", external=True, total=3, options={"seconds": "whatever"})
    ours = server.until_done(server.submit("rehearsal", total=5, options={"seconds": 0})["id"])
    assert ours["state"] == "completed"
    assert server.job(theirs["id"])["state"] == "queued"
    httpx.post(f"{server.url}{theirs['links']['cancel']}")


def test_a_viewer_sees_reports(server: Server) -> None:
    job = submit(server, items=["a", "b"])
    seen: list[dict[str, Any]] = []

    def watch() -> None:
        with httpx.stream("GET", f"{server.url}{job['links']['events']}", timeout=60) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: ") and '"poll_after_ms"' in line:
                    seen.append(json.loads(line[6:]))

    viewer = threading.Thread(target=watch)
    viewer.start()
    eventually(lambda: seen)
    report(server, job, items=[{"index": 0, "state": "succeeded"}], stage="half")
    eventually(lambda: seen[-1]["progress"]["stage"] == "half")
    report(server, job, state="completed")
    viewer.join(30)
    assert (seen[-1]["state"], seen[-1]["progress"]["succeeded"]) == ("completed", 2)


class OpenStream:
    """A stream of reports in one request, which stays open."""

    def __init__(self, server: Server, job: dict[str, Any]) -> None:
        where = urlsplit(server.url)
        self.socket = socket.create_connection((where.hostname, where.port), timeout=30)
        head = f"POST /api/jobs/{job['id']}/progress HTTP/1.1\r\nHost: {where.netloc}\r\n"
        more = "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.socket.sendall((head + more).encode())

    def say(self, body: bytes) -> None:
        self.socket.sendall(f"{len(body):x}\r\n".encode() + body + b"\r\n")

    def answer(self) -> bytes:
        found = b""
        with self.socket:
            while piece := self.socket.recv(65536):
                found += piece
        return found


def has_processed(count: int, job: dict[str, Any]) -> bool:
    return bool(job["progress"]["processed"] == count)


def test_each_line_is_applied_when_it_arrives(server: Server) -> None:
    job = submit(server, total=5)
    reporter = OpenStream(server, job)
    for count in (1, 2, 3):
        reporter.say(lines({"processed": count}))
        server.until(job["id"], partial(has_processed, count))
    reporter.say(b'{"processed"')
    reporter.socket.close()  # the reporter dies in the middle of a line
    assert report(server, job).json()["progress"]["processed"] == 3


def test_a_silent_reporter_is_disconnected(start_server: StartServer) -> None:
    server = start_server("--workers", "1", reporter_silence_s="0.3")
    job = submit(server, total=5)
    reporter = OpenStream(server, job)
    reporter.say(lines({"processed": 1}, {"processed": 2}))
    answer = reporter.answer()
    assert b" 408 " in answer.splitlines()[0]
    assert b'"accepted":2' in answer
    assert b"reporter_silent" in answer


def test_acknowledged_reports_survive_a_kill(start_server: StartServer) -> None:
    server = start_server("--workers", "1")
    job = submit(server, total=2000)
    acknowledged = 0
    stopped = threading.Event()

    def reporting() -> Iterator[None]:
        nonlocal acknowledged
        for first in range(0, 1990, 10):
            ends = ({"items": [{"index": n, "state": "succeeded"}]} for n in range(first, first + 10))
            try:
                answer = stream(server, job, lines(*ends))
            except httpx.HTTPError:
                return
            assert answer.status_code == 200
            acknowledged = answer.json()["progress"]["processed"]
            yield

    reporter = threading.Thread(target=lambda: [stopped.wait(0) for _ in reporting()])
    reporter.start()
    eventually(lambda: acknowledged >= 50)
    server.stop(signal.SIGKILL)
    reporter.join(30)
    server = start_server("--workers", "1")
    kept = server.job(job["id"])["progress"]["processed"]
    assert kept >= acknowledged
    assert kept == sum(item["state"] == "succeeded" for item in server.items(job["id"]))
    # A reporter that got no answer sends all of it again.
    ends = ({"items": [{"index": n, "state": "succeeded"}]} for n in range(2000))
    assert stream(server, job, lines(*ends, {"state": "completed"})).json()["state"] == "completed"


def test_a_killed_reporters_job_ends_after_its_own_limit(server: Server) -> None:
    job = submit(server, total=3, lost_after_s=1)
    assert job["lost_after_s"] == 1.0
    report(server, job, processed=1)
    done = server.until_done(job["id"])
    assert (done["state"], done["error"]["code"], done["progress"]["succeeded"]) == ("failed", "reporter_lost", 1)
    late = report(server, job, processed=2)
    assert (late.status_code, late.json()["code"]) == (409, "job_finished")
    assert "reporter_lost" in late.json()["detail"]
    again = httpx.post(f"{server.url}{done['links']['retry']}").json()
    assert (again["external"], again["lost_after_s"], again["state"]) == (True, 1.0, "queued")


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ({"external": True, "lost_after_s": 0.5}, "between 1 and 316,224,000 seconds, not 0.5"),
        ({"external": True, "lost_after_s": 1e300}, "seconds"),
        ({"external": True, "lost_after_s": "soon"}, "lost_after_s"),
        ({"kind": "rehearsal", "lost_after_s": 5}, "external work"),
    ],
)
def test_a_limit_that_cannot_be_is_refused(server: Server, order: dict[str, Any], said: str) -> None:
    refused = httpx.post(f"{server.url}/api/jobs", json={"kind": "import", "total": 1, **order})
    assert refused.status_code == 422
    assert said in refused.json()["detail"]


def test_a_total_that_is_reached_may_grow(server: Server) -> None:
    job = submit(server)
    for told in ({"total": 0}, {"total": 3, "processed": 3}, {"total": 6, "processed": 4}):
        seen = report(server, job, **told)
        assert (seen.status_code, seen.json()["done"]) == (200, False)


def test_numbers_beyond_what_json_keeps_are_refused_and_results_kept_to_the_digit(server: Server) -> None:
    job = submit(server, total=1)
    refused = report(server, job, processed=2**53 + 1)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    own = {"id": 2**64 + 1, "least": -(2**63)}
    assert report(server, job, items=[{"index": 0, "state": "succeeded", "result": own}]).status_code == 200
    assert server.items(job["id"])[0]["result"] == own
