"""An operator finds a stuck job, rescues it, or fails it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support import hanging
from tests.support.server import Server, StartServer
from tests.support.waiting import eventually

SOON: dict[str, str] = {"stalled_s": "0.3", "waiting_long_s": "0.3", "lease_s": "30", "cancel_grace_s": "0.2"}


def post(server: Server, job: dict[str, Any], what: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}{job['links']['self']}/{what}", json=body or None)


def hang(server: Server, tmp_path: Path, total: int = 3, **more: Any) -> dict[str, Any]:
    return server.submit("hang", total=total, options={"gate": str(tmp_path / "gate"), **more})


def timeline(server: Server, job: dict[str, Any]) -> list[tuple[str, str | None]]:
    return [(one["what"], one["text"]) for one in server.get(job["links"]["timeline"])["entries"]]


def test_a_hanging_job_is_found_and_its_running_item_is_rescued(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server("--workers", "1", *hanging.APP, **SOON)
    stuck, behind = hang(server, tmp_path, total=1), server.submit("rehearsal", total=1, options={"seconds": 0})
    server.until(stuck["id"], lambda job: job["health"] == "stalled")
    server.until(behind["id"], lambda job: job["health"] == "waiting_long")
    for query in ("health=stalled,unresponsive,waiting_long", "health=stalled&health=waiting_long"):
        found = server.get(f"/api/jobs?{query}")["jobs"]
        assert {job["id"] for job in found} == {stuck["id"], behind["id"]}
    assert [job["id"] for job in server.get("/api/jobs?health=stalled")["jobs"]] == [stuck["id"]]
    (item,) = server.get(f"{stuck['links']['items']}?state=running")["items"]
    assert item["worker"]
    assert item["lease_until"] > stuck["created_at"]
    answer = post(server, stuck, "rescue")
    assert (answer.status_code, answer.json()["health"]) == (202, "ok")
    done = server.until_done(stuck["id"])
    # The hanging worker is killed and replaced at once, not only when its lease is next renewed.
    assert done["state"] == "completed"
    assert server.until_done(behind["id"])["state"] == "completed"
    assert server.items(stuck["id"])[0]["result"] == {"attempt": 2}
    told = timeline(server, stuck)
    assert ("health", "stalled") in told
    assert ("rescued", "An operator asked for another attempt.") in told
    assert ("attempt_failed", "Attempt 1 failed: An operator asked for another attempt.") in told


def test_a_rescue_of_a_waiting_job_changes_nothing(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server("--workers", "1", *hanging.APP)
    first = hang(server, tmp_path, total=2)
    server.until(first["id"], lambda job: job["state"] == "running")
    waiting = hang(server, tmp_path, total=1)
    answer = post(server, waiting, "rescue")
    assert (answer.status_code, answer.json()["seq"]) == (202, waiting["seq"])


def test_a_rescued_item_without_an_attempt_left_fails(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server("--workers", "1", *hanging.APP)
    options = {"gate": str(tmp_path / "gate")}
    job = server.submit("hang", total=1, options=options, max_attempts=1)
    server.until(job["id"], lambda job: bool(job["progress"]["current"]))
    answer = post(server, job, "rescue").json()
    assert (answer["state"], answer["item_errors"][0]["code"]) == ("failed", "worker_lost")


def test_a_stubborn_job_is_failed_by_force(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server("--workers", "1", *hanging.APP, **SOON)
    job = hang(server, tmp_path, total=5, stubborn=True)
    server.until(job["id"], lambda job: bool(job["progress"]["current"]))
    answer = post(server, job, "fail", why="The source is \x1b[31mbroken.")
    assert answer.status_code == 202
    again = post(server, job, "fail", why="Another reason.")
    assert again.status_code in (202, 409)
    done = server.until_done(job["id"])
    assert done["state"] == "failed"
    assert (done["error"]["code"], done["error"]["message"]) == (
        "failed_by_operator",
        "The source is \x1b[31mbroken.",
    )
    assert {item["state"] for item in server.items(job["id"])} == {"cancelled"}
    assert ("stopped", "failed_by_operator: The source is \x1b[31mbroken.") in timeline(server, job)
    expected = {"alive": 1, "deaths": 1, "leases_lapsed": 0}.items()
    eventually(lambda: server.get("/api/health")["workers"].items() >= expected)


@pytest.mark.parametrize("what", ["rescue", "fail"])
def test_a_finished_job_is_neither_rescued_nor_failed(server: Server, what: str) -> None:
    job = server.until_done(server.submit("rehearsal", total=1, options={"seconds": 0})["id"])
    answer = post(server, job, what, why="late")
    assert (answer.status_code, answer.json()["code"]) == (409, "job_finished")
    assert server.job(job["id"])["seq"] == job["seq"]
    missing = {"links": {"self": f"/api/jobs/{uuid4()}"}}
    assert post(server, missing, what, why="x").json()["code"] == "job_not_found"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, "invalid_request"), (b"{}", 422, "invalid_request"), (b'{"why": " "}', 422, "invalid_request"),
        (b'{"why": 1}', 422, "invalid_request"), (b'{"why": "a", "state": "completed"}', 422, "invalid_request"),
        (b'{"why": "%s"}' % (b"x" * 501), 422, "invalid_request"), (b"x" * 20_000, 413, "body_too_large"),
    ],
)  # fmt: skip
def test_a_reason_is_required(server: Server, body: bytes, status: int, code: str) -> None:
    job = server.submit("rehearsal", total=1, options={"seconds": 0.3})
    answer = httpx.post(f"{server.url}{job['links']['self']}/fail", content=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert server.until_done(job["id"])["state"] == "completed"
