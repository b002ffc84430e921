"""The timeline of a job over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from tests.support import hanging
from tests.support.server import Server, StartServer

Line = tuple[str, str | None, int | None]


def timeline(server: Server, job: dict[str, Any], query: str = "") -> dict[str, Any]:
    return dict(server.get(f"{job['links']['timeline']}{query}"))


def lines(page: dict[str, Any]) -> list[Line]:
    return [(one["what"], one["text"], one["item"] and one["item"]["index"]) for one in page["entries"]]


def test_the_life_of_a_small_job(server: Server) -> None:
    options = {"seconds": 0, "failures": 0.5}
    job = server.until_done(server.submit("rehearsal", items=["a", "b", "c"], options=options)["id"])
    told = timeline(server, job)
    assert not told["more"]
    times = [one["at"] for one in told["entries"]]
    assert times == sorted(times)
    seen = lines(told)
    assert seen[0] == ("submitted", None, None)
    assert ("state", "running", None) in seen
    assert seen[-1] == ("state", job["state"], None)
    for item in server.items(job["id"]):
        assert ("item_started", None, item["index"]) in seen
        if item["state"] == "failed":
            assert ("item_failed", item["error"]["message"], item["index"]) in seen
        else:
            assert ("item_ended", "succeeded", item["index"]) in seen
    about = next(one for one in told["entries"] if one["what"] == "item_started" and one["item"]["index"] == 1)
    assert about["item"]["name"] == "b"
    assert about["attempt"] == 1
    assert about["worker"] == server.items(job["id"])[1]["worker"] != ""


def test_a_large_job_lists_failures_only(server: Server) -> None:
    options = {"seconds": 0, "failures": 0.05}
    job = server.until_done(server.submit("rehearsal", total=300, options=options)["id"])
    told = timeline(server, job)
    failed = job["progress"]["failed"]
    assert failed > 0
    assert [what for what, _, index in lines(told) if index is not None] == ["item_failed"] * failed
    newest = timeline(server, job, "?limit=2")
    assert newest["more"]
    assert newest["entries"] == told["entries"][-2:]


def test_a_large_job_lists_what_is_running_now(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server("--workers", "1", *hanging.APP)
    job = server.submit("hang", total=101, options={"gate": str(tmp_path / "gate")})
    server.until(job["id"], lambda job: bool(job["progress"]["current"]))
    assert lines(timeline(server, job))[-1] == ("item_started", None, 0)


def test_refused_requests(server: Server) -> None:
    assert httpx.get(f"{server.url}/api/jobs/{uuid4()}/timeline").json()["code"] == "job_not_found"
    job = server.submit("rehearsal", total=1, options={"seconds": 0})
    for limit in ("0", "2001", "x"):
        answer = httpx.get(f"{server.url}{job['links']['timeline']}?limit={limit}")
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
