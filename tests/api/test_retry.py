"""Retries of finished jobs, which share the old job's files, and the limit on waiting jobs."""

from __future__ import annotations

import base64
import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.machine import mounted
from tests.support.server import Server, StartServer
from tests.support.waiting import eventually
from unstuck.files.folder import DataFolder
from unstuck.files.links import link_inputs

PICKY = """
import unstuck
from pathlib import Path

@unstuck.kind("picky")
def picky(file: Path, report: unstuck.Report, *, strict: bool = True) -> dict:
    content = file.read_text()
    if content == "bad":
        raise unstuck.Failed("it is bad")
    while content == "slow":
        report(None)
    return {"content": content}
"""


@pytest.fixture(scope="module")
def picky(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a kind that fails on some files."""
    folder = tmp_path_factory.mktemp("picky")
    (folder / "picky_work.py").write_text(PICKY)
    server = Server(folder / "data", "--workers", "2", "--app", str(folder / "picky_work.py")).start()
    yield server
    server.stop()


def retry(server: Server, job: dict[str, Any], body: Any = None, key: str | None = None) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    content = {} if body is None else {"json": body}
    return httpx.post(f"{server.url}{job['links']['self']}/retry", headers=headers, timeout=60, **content)


def problem(answer: httpx.Response, status: int, code: str) -> str:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    return str(answer.json()["detail"])


def folders(server: Server) -> set[str]:
    return {entry.name for entry in (server.data / "files").iterdir()}


def inputs(server: Server, job: dict[str, Any]) -> list[Path]:
    return sorted((server.data / "files" / job["id"] / "in").iterdir())


def mixed(server: Server, **fields: Any) -> dict[str, Any]:
    """Submit two good files and two bad ones; return the finished job."""
    files = {"a.csv": b"fine", "b.csv": b"bad", "c": b"good", "d.csv": b"bad"}
    return server.until_done(server.submit("picky", files, **fields)["id"])


def test_failed_items_are_retried_as_a_new_job(picky: Server) -> None:
    fields = {"name": "mine", "priority": 4, "max_attempts": 2, "max_errors": 7, "options": {"strict": False}}
    old = mixed(picky, **fields)
    assert (old["state"], old["links"]["retry"]) == ("completed_with_errors", f"{old['links']['self']}/retry")
    answer = retry(picky, old)
    new = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, new["links"]["self"])
    assert (new["retry_of"], new["done"], new["id"] != old["id"]) == (old["id"], False, True)
    for name in ("kind", "priority", "max_attempts", "unit", "units"):
        assert new[name] == old[name]
    assert new["name"] == "mine"
    done = picky.until_done(new["id"])
    assert (done["state"], done["progress"]["total"]) == ("failed", 2)
    assert [(one["index"], one["name"]) for one in picky.items(new["id"])] == [(0, "b.csv"), (1, "d.csv")]
    first = picky.get(f"{new['links']['self']}/timeline")["entries"][0]
    assert first["text"] == f"retry of {old['id']}"
    assert picky.job(old["id"])["seq"] == old["seq"], "the old job is unchanged"
    again = retry(picky, done).json()
    assert again["retry_of"] == new["id"]
    other = retry(picky, old).json()

    def listed(query: str) -> list[str]:
        return [one["id"] for one in picky.get(f"/api/jobs?{query}")["jobs"]]

    assert listed(f"retry_of={old['id']}") == [other["id"], new["id"]]
    assert listed(f"retry_of={old['id']}&limit=1&kind=picky") == [other["id"]]
    assert listed(f"retry_of={old['id']}&state=queued,running&kind=checksum") == []
    assert listed(f"retry_of={other['id']}") == []
    assert listed(f"retry_of={old['id']}&health=stalled") == []
    problem(httpx.get(f"{picky.url}/api/jobs?retry_of=x"), 400, "invalid_job_id")


@pytest.mark.parametrize(
    ("bad", "fields", "names"),
    [
        (2, {}, ["4 files", "2 of 4 files", "2 of 4 files"]),
        (1, {}, ["4 files", "b.csv"]),
        (2, {"unit": "row"}, ["4 rows", "2 of 4 rows"]),
        (2, {"name": "4 blind mice"}, ["4 blind mice", "4 blind mice"]),
        (2, {"name": "7 files"}, ["7 files", "7 files"]),
    ],
)
def test_a_name_that_the_server_made_says_how_many_are_retried(
    picky: Server, bad: int, fields: dict[str, str], names: list[str]
) -> None:
    files = {"a.csv": b"fine", "b.csv": b"bad", "c": b"good", "d.csv": b"bad" if bad == 2 else b"good"}
    job = picky.until_done(picky.submit("picky", files, **fields)["id"])
    found = [job["name"]]
    for _ in names[1:]:
        job = picky.until_done(retry(picky, job).json()["id"])
        found.append(job["name"])
    assert found == names


def test_all_items_are_retried_on_request(picky: Server) -> None:
    old = mixed(picky)
    new = picky.until_done(retry(picky, old, {"only": "all"}).json()["id"])
    assert new["progress"]["total"] == 4
    assert [one["name"] for one in picky.items(new["id"])] == [one["name"] for one in picky.items(old["id"])]


def test_files_are_shared_and_removing_either_job_leaves_the_other_whole(picky: Server) -> None:
    old = mixed(picky)
    new = picky.until_done(retry(picky, old, {"only": "all"}).json()["id"])
    pairs = list(zip(inputs(picky, old), inputs(picky, new), strict=True))
    assert len(pairs) == 4
    assert all(before.samefile(after) for before, after in pairs)
    assert httpx.delete(f"{picky.url}{old['links']['self']}").status_code == 204
    again = picky.until_done(retry(picky, new, {"only": "all"}).json()["id"])
    assert again["progress"]["succeeded"] == 2
    assert httpx.delete(f"{picky.url}{again['links']['self']}").status_code == 204
    assert [path.read_text() for path in inputs(picky, new)] == ["fine", "bad", "good", "bad"]


def test_cancelled_items_are_retried_too(picky: Server) -> None:
    files = {"0": b"bad"} | {f"{n}": b"slow" for n in range(1, 6)}
    job = picky.submit("picky", files)
    problem(retry(picky, job), 409, "job_not_done")
    picky.until(job["id"], lambda one: one["progress"]["failed"] == 1)
    httpx.post(f"{picky.url}{job['links']['cancel']}")
    old = picky.until_done(job["id"])
    assert old["state"] == "cancelled"
    new = retry(picky, old).json()
    assert new["progress"]["total"] == 6
    httpx.post(f"{picky.url}{new['links']['cancel']}")
    picky.until_done(new["id"])


def test_a_refused_retry_leaves_nothing_behind(picky: Server) -> None:
    good = picky.until_done(picky.submit("picky", {"a": b"fine"})["id"])
    before = folders(picky)
    assert '{"only": "all"}' in problem(retry(picky, good), 409, "nothing_to_retry")
    for body in ({"only": "some"}, {"only": None}, {"everything": True}, ["failed"], {"only": "x" * 5000}):
        problem(retry(picky, good, body), 422, "invalid_request")
    address = f"{picky.url}{good['links']['self']}/retry"
    problem(httpx.post(address, content=b"{"), 400, "invalid_json")
    problem(httpx.post(f"{picky.url}/api/jobs/{uuid4()}/retry"), 404, "job_not_found")
    problem(httpx.post(f"{picky.url}/api/jobs/x/retry"), 400, "invalid_job_id")
    problem(retry(picky, good, {"only": "all"}, key="k" * 256), 400, "invalid_request")
    assert folders(picky) == before


def test_a_retry_without_its_files_is_refused(picky: Server) -> None:
    old = mixed(picky)
    inputs(picky, old)[3].unlink()
    before = folders(picky)
    assert "Submit the files as a new job" in problem(retry(picky, old), 410, "inputs_gone")
    shutil.rmtree(picky.data / "files" / old["id"])
    problem(retry(picky, old, {"only": "all"}), 410, "inputs_gone")
    assert folders(picky) == before - {old["id"]}


def test_nothing_is_said_to_be_gone_while_the_data_folder_is_moved(picky: Server) -> None:
    old = mixed(picky)
    away = picky.data.with_name("away")
    picky.data.rename(away)
    try:
        assert "Try again" in problem(retry(picky, old), 503, "store_unavailable")
        sent = httpx.post(
            f"{picky.url}/api/jobs", data={"kind": "picky"}, files={"files": ("a", b"a")}, timeout=60
        )
        assert "Try again" in problem(sent, 503, "store_unavailable")
    finally:
        away.rename(picky.data)
    eventually(lambda: retry(picky, old).status_code == 202)


def test_a_retry_of_work_without_files(picky: Server) -> None:
    options = {"seconds": 0, "failures": 1}
    old = picky.until_done(picky.submit("rehearsal", total=3, options=options)["id"])
    new = picky.until_done(retry(picky, old).json()["id"])
    assert new["progress"]["failed"] == 3
    assert not (picky.data / "files" / new["id"] / "in").exists()


def test_retries_with_one_key_are_one_job(picky: Server) -> None:
    old = mixed(picky)
    before = folders(picky)
    with ThreadPoolExecutor(8) as many:
        answers = list(many.map(lambda _: retry(picky, old, {"only": "failed"}, key="again"), range(8)))
    assert {answer.status_code for answer in answers} == {202}
    (new_id,) = {answer.json()["id"] for answer in answers}
    picky.until_done(new_id)
    assert retry(picky, old, key="again").json()["id"] == new_id, "an empty body means the same"
    problem(retry(picky, old, {"only": "all"}, key="again"), 422, "idempotency_key_reused")
    assert folders(picky) == before | {new_id}


def test_a_retry_gets_the_whole_span_of_the_deadline(picky: Server) -> None:
    old = mixed(picky, deadline_seconds=3600, item_limit_seconds=50)

    def span(job: dict[str, Any]) -> float:
        created, deadline = (datetime.fromisoformat(job[name]) for name in ("created_at", "deadline_at"))
        return (deadline - created).total_seconds()

    new = retry(picky, old).json()
    assert span(old) == pytest.approx(3600, abs=0.01)
    assert span(new) == pytest.approx(3600, abs=0.01)
    assert new["deadline_at"] > old["deadline_at"]
    late = picky.until_done(picky.submit("picky", {"a": b"slow"}, deadline_seconds=0.3)["id"])
    assert (late["state"], late["error"]["code"]) == ("failed", "deadline_exceeded")
    limited = picky.until_done(picky.submit("picky", {"a": b"slow"}, item_limit_seconds=0.3)["id"])
    again = picky.until_done(retry(picky, limited).json()["id"])
    assert [one["item_errors"][0]["code"] for one in (limited, again)] == ["time_limit_exceeded"] * 2


def test_a_retry_of_ten_thousand_items(picky: Server) -> None:
    options = {"seconds": 0, "failures": 1}
    old = picky.submit("rehearsal", total=10_000, options=options)
    httpx.post(f"{picky.url}{old['links']['cancel']}")
    old = picky.until_done(old["id"])
    new = retry(picky, old).json()
    assert new["progress"]["total"] == 10_000 - old["progress"]["succeeded"] - old["progress"]["skipped"]
    httpx.post(f"{picky.url}{new['links']['cancel']}")
    picky.until_done(new["id"])


def test_a_retry_of_a_kind_that_is_gone_is_refused(start_server: StartServer, tmp_path: Path) -> None:
    (tmp_path / "once_work.py").write_text(PICKY)
    server = start_server("--workers", "1", "--app", str(tmp_path / "once_work.py"))
    old = mixed(server)
    server.stop()
    server = start_server("--workers", "1")
    before = folders(server)
    problem(retry(server, old), 422, "unknown_kind")
    assert folders(server) == before


def test_files_are_copied_where_they_cannot_be_linked(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    folder.open()
    other = tmp_path / "other"
    with mounted(other, "size=1m"):
        (other / "00000.csv").write_bytes(b"over there")
        folder.job("old").mkdir()
        folder.inputs("old").symlink_to(other)
        folder.begin("new")
        link_inputs(folder, "old", "new", [("00000.csv", "00007.csv")])
        assert folder.input("new", "00007.csv").read_bytes() == b"over there"
        assert folder.input("new", "00007.csv").stat().st_nlink == 1
        folder.close()


# -- the limit on waiting jobs


def test_a_full_queue_refuses_only_new_jobs(start_server: StartServer) -> None:
    server = start_server("--workers", "1", max_waiting_jobs="2")
    failed = server.until_done(server.submit("rehearsal", total=1, options={"seconds": 0, "failures": 1})["id"])
    long = {"kind": "rehearsal", "total": 1, "options": {"seconds": 60}}

    def send(key: str) -> httpx.Response:
        return httpx.post(f"{server.url}/api/jobs", json=long, headers={"Idempotency-Key": key})

    first, _ = send("1").json(), send("2").json()
    before = folders(server)
    refused = send("3")
    assert "max_waiting_jobs" in problem(refused, 429, "queue_full")
    assert int(refused.headers["retry-after"]) > 0
    files = [("files", ("a", b"x" * 100_000))]
    problem(httpx.post(f"{server.url}/api/jobs", data={"kind": "checksum"}, files=files), 429, "queue_full")
    problem(retry(server, failed), 429, "queue_full")
    assert send("1").json()["id"] == first["id"], "a repeated submission is answered as before"
    assert folders(server) == before
    httpx.post(f"{server.url}{first['links']['cancel']}")
    server.until_done(first["id"])
    assert send("3").status_code == 202


def test_concurrent_submissions_never_exceed_the_limit(start_server: StartServer) -> None:
    server = start_server("--workers", "1", max_waiting_jobs="5")
    long = {"kind": "rehearsal", "total": 1, "options": {"seconds": 60}}
    with ThreadPoolExecutor(16) as many:
        answers = list(many.map(lambda _: httpx.post(f"{server.url}/api/jobs", json=long), range(32)))
    assert sorted(answer.status_code for answer in answers) == [202] * 5 + [429] * 27
    eventually(lambda: len(server.get("/api/jobs")["jobs"]) == 5)


def test_a_retry_keeps_all_settings_of_the_job(start_server: StartServer) -> None:
    environ = {"webhook_secret": f"whsec_{base64.b64encode(bytes(32)).decode()}"}
    server = start_server("--workers", "1", **environ)
    fields: dict[str, Any] = {
        "max_errors": 3,
        "item_limit_seconds": 7.5,
        "webhook_url": "https://example.invalid/hook?a=1",
    }
    failing = {"seconds": 0, "failures": 1}
    old = server.until_done(server.submit("rehearsal", total=2, options=failing, **fields)["id"])
    new = server.until_done(retry(server, old).json()["id"])
    with contextlib.closing(sqlite3.connect(server.data / "unstuck.db")) as database:
        sql = "SELECT options, max_errors, item_limit_s, webhook_url FROM jobs ORDER BY n"
        first, second = database.execute(sql).fetchall()
    assert first == second
    assert second[1:] == tuple(fields.values())
    server.stop()
    server = start_server("--workers", "1")
    before = folders(server)
    assert "WEBHOOK_SECRET" in problem(retry(server, new), 422, "webhooks_unavailable")
    assert folders(server) == before
