"""Retention in a real server: what is removed, what viewers see of it, and what a kill leaves behind."""

from __future__ import annotations

import signal
import sqlite3

import httpx

from tests.support.events import events
from tests.support.server import Server, StartServer
from tests.support.waiting import eventually


def kept(server: Server) -> tuple[set[str], set[str]]:
    """Return the ids of all jobs in the database, and the names of all job folders."""
    with sqlite3.connect(f"file:{server.data / 'unstuck.db'}?mode=ro", uri=True) as look:
        rows = {row[0] for row in look.execute("SELECT id FROM jobs")}
    return rows, {path.name for path in (server.data / "files").iterdir()}


def many(server: Server, count: int, files: int = 3) -> list[str]:
    ids = [server.submit("checksum", {f"{n}.txt": b"x" for n in range(files)})["id"] for _ in range(count)]
    for job_id in ids:
        server.until_done(job_id)
    return ids


def until_fewer(server: Server, count: int) -> None:
    eventually(lambda: len(kept(server)[0]) < count)


def test_a_job_expires_and_its_viewers_are_notified(start_server: StartServer) -> None:
    server = start_server("--workers", "1", retention_s="3")
    job = server.until_done(server.submit("checksum", {"a": b"x"})["id"])
    assert job["expires_at"] > job["finished_at"]
    with httpx.stream("GET", f"{server.url}/api/events/stream?job={job['id']}", timeout=30) as answer:
        gone = next(data for name, data in events(answer.iter_lines()) if name == "gone")
        assert gone["job_id"] == job["id"]
    eventually(lambda: kept(server) == (set(), set()))
    assert httpx.get(f"{server.url}{job['links']['self']}").json()["code"] == "job_not_found"
    assert server.until_done(server.submit("checksum", {"a": b"x"})["id"])["state"] == "completed"


def test_a_killed_sweep_is_finished_by_later_ones(start_server: StartServer) -> None:
    first = start_server("--workers", "2")
    ids = set(many(first, 30))
    assert kept(first) == (ids, ids)
    first.stop()
    for _ in range(3):
        sweeping = start_server("--workers", "1", retention_s="1")
        until_fewer(sweeping, len(ids))
        sweeping.stop(signal.SIGKILL)
        rows, folders = kept(sweeping)
        assert rows <= folders, "a remaining job has its files"
        ids = rows or ids
    calm = start_server("--workers", "1")
    eventually(lambda: kept(calm)[0] == kept(calm)[1])
    calm.stop()
    start_server("--workers", "1", retention_s="1")
    eventually(lambda: kept(first) == (set(), set()))


def test_inputs_are_removed_if_not_kept(start_server: StartServer) -> None:
    server = start_server("--workers", "1", keep_inputs="0")
    good = server.until_done(server.submit("checksum", {"a": b"x"})["id"])
    mixed = server.submit("csv-profile", {"good.csv": b"a,b\n1,2\n", "bad.csv": b'a,b\n1,2\n3,"'})
    mixed = server.until_done(mixed["id"])
    assert mixed["state"] == "completed_with_errors"
    files = server.data / "files"
    eventually(lambda: not (files / good["id"] / "in").exists())
    bad = next(item["index"] for item in server.items(mixed["id"]) if item["state"] == "failed")
    eventually(lambda: [path.name for path in (files / mixed["id"] / "in").iterdir()] == [f"{bad:05d}.csv"])
    retry = {"only": "all"}
    refused = httpx.post(f"{server.url}/api/jobs/{mixed['id']}/retry", json=retry)
    assert (refused.status_code, refused.json()["code"]) == (410, "inputs_gone")
    again = httpx.post(f"{server.url}/api/jobs/{mixed['id']}/retry", json={"only": "failed"})
    assert again.status_code == 202
    assert server.until_done(again.json()["id"])["progress"]["failed"] == 1
