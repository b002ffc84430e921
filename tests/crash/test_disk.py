"""Test full disks and damaged databases: errors are clear, nothing acknowledged is lost, the server recovers."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.crash.result import expected
from tests.crash.siege import APP
from tests.support.machine import mounted
from tests.support.server import Server, StartServer
from tests.support.waiting import eventually

SIZE_MIB = 12


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "small", f"size={SIZE_MIB}m"):
        yield tmp_path / "small"


@pytest.fixture
def cramped(small_disk: Path) -> Iterator[Server]:
    """Start a server whose data folder is on its own small disk."""
    environ = {"UNSTUCK_WORKERS": "2", "UNSTUCK_RETRY_PAUSE_S": "0.1", "UNSTUCK_MAX_ATTEMPTS": "50"}
    server = Server(small_disk, "--app", str(APP), environ=environ).start()
    yield server
    server.stop()


def fill(place: Path) -> Path:
    filler = place / "filler"
    with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
        for size in (65536, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    return filler


def ready(server: Server) -> tuple[int, list[str]]:
    answer = httpx.get(f"{server.url}/api/health/ready", timeout=30)
    return answer.status_code, answer.json()["troubles"]


def submit(server: Server, kind: str, **fields: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/api/jobs", json={"kind": kind, **fields}, timeout=30)


def test_a_full_disk(cramped: Server, tmp_path: Path) -> None:
    diary = {"diary": str(tmp_path / "diary")}
    gate = tmp_path / "gate"
    gate.mkdir()
    accepted = [
        cramped.submit("hang", items=["one", "two"], options={"gate": str(gate)}),
        cramped.submit("hang", total=6, options={"seconds": 0.2}),
        cramped.submit("note", items=[f"n/{number}" for number in range(30)], options=diary),
    ]
    cramped.until(accepted[0]["id"], lambda job: len(job["progress"]["current"]) == 2)
    filler = fill(cramped.data)
    refusal = None
    while refusal is None:  # submissions are still accepted, and kept, while the database's log has room
        answer = submit(cramped, "hang", total=100, options={"seconds": 0})
        if answer.status_code == 202:
            accepted.append(answer.json())
        else:
            refusal = answer
    assert (refusal.status_code, refusal.json()["code"]) == (503, "store_unavailable")
    assert "full" in refusal.json()["detail"]
    assert refusal.headers["retry-after"]
    status, troubles = ready(cramped)
    assert status == 503
    assert any("full" in trouble for trouble in troubles)
    sent = httpx.post(
        f"{cramped.url}/api/jobs", data={"kind": "checksum"}, files=[("files", ("a", bytes(3_000_000)))],
        timeout=30,
    )  # fmt: skip
    assert (sent.status_code, sent.json()["code"]) in ((507, "storage_full"), (503, "store_unavailable"))
    shown = [cramped.job(one["id"]) for one in accepted]  # reads are served
    (gate / "open").touch()  # the running items end, and cannot report that
    eventually(lambda: (gate / "one").exists() and (gate / "two").exists())
    assert submit(cramped, "hang", total=1).status_code == 503
    filler.unlink()
    eventually(lambda: ready(cramped) == (200, []))
    for one, before in zip(accepted, shown, strict=True):
        after = cramped.until_done(one["id"])
        assert after["seq"] >= before["seq"]
        if one["kind"] == "hang":
            assert (after["state"], after["progress"]["succeeded"]) == ("completed", after["progress"]["total"])
    assert_results_or_no_room(cramped, accepted[2]["id"])
    assert max(item["attempt"] for item in cramped.items(accepted[0]["id"])) == 1, "no work was repeated"
    kept = {path.name for path in (cramped.data / "files").iterdir()}
    assert kept <= {one["id"] for one in accepted}
    done = cramped.until_done(cramped.submit("note", {"a": b"x"}, options=diary)["id"])
    assert done["done"]


def assert_results_or_no_room(server: Server, job_id: str) -> None:
    """Check that each item has its result, or an error that says that there was no room for it."""
    for item in server.items(job_id):
        if item["state"] == "succeeded":
            kept = httpx.get(f"{server.url}{item['links']['result']}")
            assert kept.content == expected(item["name"], b"")
        else:
            assert item["error"]["code"] == "rehearsed" or "No space left" in item["error"]["message"]


def test_starting_on_a_full_disk(small_disk: Path) -> None:
    fill(small_disk)
    command = ["-m", "unstuck", "serve", "--port", "0", "--data", str(small_disk / "data")]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("unstuck: ")
    assert "Traceback" not in done.stderr


def test_a_database_damaged_under_a_running_server(start_server: StartServer) -> None:
    server = start_server("--workers", "1")
    for _ in range(3):
        server.until_done(server.submit("rehearsal", total=50, options={"seconds": 0})["id"])
    path = server.data / "unstuck.db"
    with contextlib.closing(sqlite3.connect(path, timeout=30)) as foreign:
        eventually(lambda: foreign.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    answer = eventually(lambda: a if (a := submit(server, "rehearsal", total=1)).status_code != 202 else None)
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    _, troubles = eventually(lambda: r if (r := ready(server))[0] == 503 else None)
    assert any("malformed" in trouble or "damaged" in trouble for trouble in troubles), troubles
    listed = httpx.get(f"{server.url}/api/jobs", timeout=30)
    assert listed.status_code in (200, 503)
    assert httpx.get(f"{server.url}/api/health/live").status_code == 200
    assert server.process is not None
    assert server.process.poll() is None, "it keeps running, and says what is wrong"
    log = server.log.read_text()
    assert log.count("Store cannot write") <= 2, "once, and not with every attempt"
    server.stop()
    damaged = path.read_bytes()
    command = ["-m", "unstuck", "serve", "--port", "0", "--data", str(server.data)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "Restore it from a backup" in done.stderr
    assert path.read_bytes() == damaged
