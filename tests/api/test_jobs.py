"""Read, list, cancel and remove jobs over real HTTP, as curl does."""

from __future__ import annotations

import io
import json
import zipfile
from uuid import uuid4

import httpx
import pytest

from tests.support.server import Server


def problem(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_status_codes_of_one_job(server: Server) -> None:
    job = server.until_done(server.submit("rehearsal", total=2, options={"seconds": 0})["id"])
    address = f"{server.url}{job['links']['self']}"
    answer = httpx.get(address)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    fresh = httpx.get(address, headers={"If-None-Match": answer.headers["etag"]})
    assert (fresh.status_code, fresh.content) == (304, b"")
    stale = httpx.get(address, headers={"If-None-Match": 'W/"1-ok"'})
    assert stale.status_code == 200


@pytest.mark.parametrize("path", ["", "/items", "/events", "/results", "/items/0/result"])
@pytest.mark.parametrize(
    "job_id", ["1", "..%2f..", "' OR 1=1--", "%7B1b4e28ba2fa14d3ba3f5ef19b5a7633b%7D", "9" * 5000]
)
def test_malformed_ids(server: Server, job_id: str, path: str) -> None:
    answer = httpx.get(f"{server.url}/api/jobs/{job_id}{path}")
    assert answer.status_code in (400, 404)
    assert answer.headers["content-type"] == "application/problem+json"


def test_unknown_ids(server: Server) -> None:
    problem(httpx.get(f"{server.url}/api/jobs/not-a-uuid"), 400, "invalid_job_id")
    unknown = f"{server.url}/api/jobs/{uuid4()}"
    for path in ("", "/items", "/events", "/results", "/items/0/result"):
        problem(httpx.get(f"{unknown}{path}"), 404, "job_not_found")
    problem(httpx.post(f"{unknown}/cancel"), 404, "job_not_found")
    problem(httpx.delete(unknown), 404, "job_not_found")


def test_unknown_page_and_method(server: Server) -> None:
    problem(httpx.get(f"{server.url}/nowhere"), 404, "not_found")
    problem(httpx.put(f"{server.url}/api/jobs"), 405, "method_not_allowed")


def test_list_pages_and_filters(server: Server) -> None:
    ids = [server.submit("rehearsal", total=1, options={"seconds": 0})["id"] for _ in range(5)]
    for one in ids:
        server.until_done(one)
    first = server.get("/api/jobs?limit=2&kind=rehearsal")
    second = server.get(f"/api/jobs?limit=3&kind=rehearsal&cursor={first['next']}")
    assert [job["id"] for job in first["jobs"] + second["jobs"]] == ids[::-1]
    assert server.get("/api/jobs?state=canceled&kind=checksum")["jobs"] == []
    assert {job["done"] for job in server.get("/api/jobs?state=completed,failed")["jobs"]} == {True}
    assert server.get("/api/jobs?health=stalled")["jobs"] == []
    for query in (
        "limit=0",
        "limit=201",
        "limit=x",
        "cursor=-5",
        "state=done",
        "health=fine",
        "limit=" + "9" * 5000,
    ):
        problem(httpx.get(f"{server.url}/api/jobs?{query}"), 400, "invalid_request")


def test_a_list_is_searched_by_name_and_state(server: Server) -> None:
    for name in ("Invoices of March", "invoices of May", "pictures"):
        server.until_done(server.submit("rehearsal", total=1, name=name, options={"seconds": 0})["id"])

    def names(query: str) -> list[str]:
        return [job["name"] for job in server.get(f"/api/jobs?{query}")["jobs"]]

    assert names("name=INVOICES") == ["invoices of May", "Invoices of March"]
    assert names("name=invoices&state=failed") == []
    first = server.get("/api/jobs?name=invoices%20of&state=completed&limit=1")
    assert [job["name"] for job in first["jobs"]] == ["invoices of May"]
    assert names(f"name=invoices%20of&state=completed&limit=1&cursor={first['next']}") == ["Invoices of March"]
    for query in (
        "name=",
        "name=" + "x" * 201,
        "name=x&health=stalled",
        "name=x&finished_before=2026-11-22T00:18:09Z",
    ):
        problem(httpx.get(f"{server.url}/api/jobs?{query}"), 400, "invalid_request")


def test_items_page_by_index_and_by_seq(server: Server) -> None:
    job = server.until_done(server.submit("rehearsal", total=25, options={"seconds": 0, "failures": 0.3})["id"])
    here = f"/api/jobs/{job['id']}/items"
    seen, cursor = [], ""
    while cursor is not None:
        page = server.get(f"{here}?limit=10{cursor and f'&cursor={cursor}'}")
        seen += [item["index"] for item in page["items"]]
        cursor = page["next"]
    assert seen == list(range(25))
    failed = server.get(f"{here}?state=failed")["items"]
    assert len(failed) == job["progress"]["failed"] > 0
    assert [error["index"] for error in job["item_errors"]] == [item["index"] for item in failed]
    late, cursor = [], ""
    while cursor is not None:
        page = server.get(f"{here}?after_seq=3&limit=7{cursor and f'&cursor={cursor}'}")
        late += [item["seq"] for item in page["items"]]
        cursor = page["next"]
    assert late == sorted(late)
    assert min(late) > 3


def test_cancel_and_remove(server: Server) -> None:
    job = server.submit("rehearsal", total=50, options={"seconds": 30})
    address = f"{server.url}{job['links']['self']}"
    server.until(job["id"], lambda job: job["state"] == "running" and job["progress"]["current"])
    problem(httpx.delete(address), 409, "job_not_done")
    problem(httpx.get(f"{address}/results"), 409, "job_not_done")
    asked = httpx.post(f"{address}/cancel")
    assert (asked.status_code, asked.json()["cancel_requested"]) == (202, True)
    done = server.until_done(job["id"])
    assert done["state"] == "cancelled"
    assert done["progress"]["percent"] < 100
    again = httpx.post(f"{address}/cancel")
    assert (again.status_code, again.json()["seq"]) == (200, done["seq"])
    assert httpx.delete(address).status_code == 204
    problem(httpx.get(address), 404, "job_not_found")
    assert not (server.data / "files" / job["id"]).exists()


def test_results_as_files_and_as_a_zip(server: Server) -> None:
    from PIL import Image

    picture = io.BytesIO()
    Image.new("RGB", (800, 600), "navy").save(picture, "PNG")
    files = {"../a.png": picture.getvalue(), "b.png": b"not a picture"}
    job = server.until_done(server.submit("thumbnail", files, options={"width": 64})["id"])
    assert job["state"] == "completed_with_errors"
    good, bad = server.items(job["id"])
    answer = httpx.get(f"{server.url}{good['links']['result']}")
    assert "attachment" in answer.headers["content-disposition"]
    assert Image.open(io.BytesIO(answer.content)).width == 64
    assert "links" not in bad
    problem(httpx.get(f"{server.url}/api/jobs/{job['id']}/items/1/result"), 404, "not_found")
    problem(httpx.get(f"{server.url}/api/jobs/{job['id']}/items/2/result"), 404, "not_found")
    problem(httpx.get(f"{server.url}/api/jobs/{job['id']}/items/x/result"), 400, "invalid_request")
    archive = zipfile.ZipFile(io.BytesIO(httpx.get(f"{server.url}{job['links']['results']}").content))
    assert archive.testzip() is None
    picture_name, report_name = archive.namelist()
    assert picture_name == "a-thumb.jpg"
    assert "/" not in picture_name
    assert archive.read(picture_name) == answer.content
    assert [one["state"] for one in json.loads(archive.read(report_name))] == ["succeeded", "failed"]


def test_health(server: Server) -> None:
    assert server.get("/api/health/live") == {"status": "ok"}
    assert server.get("/api/health/ready") == {"status": "ok", "troubles": []}
    job = server.submit("rehearsal", total=1, options={"seconds": 0})
    headers = {"X-Unstuck-Poll": "watchdog"}
    before = server.get("/api/health")["polls"].get("watchdog", 0)
    httpx.get(f"{server.url}{job['links']['self']}", headers=headers)
    httpx.get(f"{server.url}{job['links']['self']}", headers={"X-Unstuck-Poll": "x" * 1000})
    health = server.get("/api/health")
    assert health["polls"]["watchdog"] == before + 1
    assert health["polls"]["other"] >= 1
    assert set(health["streams"]) >= {"open", "broadcast_retries", "broadcast_failures"}
