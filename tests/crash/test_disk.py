"""Test full disks and damaged databases: errors are clear, nothing acknowledged is lost, the server recovers."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
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
#: A kind that writes until the disk is full, and then fails or stays.
FILLING = """
import pathlib, time, unstuck

@unstuck.kind("fill", needs_file=False)
def fill(file: pathlib.Path | None, report: unstuck.Report, *, stay: bool = False) -> None:
    with (report.output / "fill.bin").open("wb", buffering=0) as out:
        try:
            while True:
                out.write(bytes(4096))
        except OSError:
            if not stay:
                raise unstuck.Transient("the disk is full")
            (pathlib.Path(__file__).with_name("full")).touch()
    while True:
        time.sleep(0.05)
        report()
"""


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
    (gate / "open").touch()  # the running items end, and the reserve has room for that
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


def test_cancels_ends_and_removals_are_written_on_a_full_disk(cramped: Server, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.mkdir()
    over = cramped.submit("rehearsal", total=1, options={"seconds": 0})["id"]
    cramped.until_done(over)
    ending = cramped.submit("hang", items=["one"], options={"gate": str(gate)})["id"]
    stopped = cramped.submit("hang", items=["two"], options={"gate": str(tmp_path / "never")})["id"]
    for one in (ending, stopped):
        cramped.until(one, lambda job: len(job["progress"]["current"]) == 1)
    filler = fill(cramped.data)
    while submit(cramped, "hang", total=100).status_code == 202:
        pass
    fill(cramped.data)
    assert httpx.delete(f"{cramped.url}/api/jobs/{over}", timeout=30).status_code == 204
    assert httpx.post(f"{cramped.url}/api/jobs/{stopped}/cancel", timeout=30).status_code == 202
    (gate / "open").touch()
    assert cramped.until_done(ending)["state"] == "completed"
    assert cramped.until_done(stopped)["state"] == "cancelled"
    assert ready(cramped)[0] == 503
    filler.unlink()
    eventually(lambda: ready(cramped) == (200, []))
    assert submit(cramped, "hang", total=1).status_code == 202


def test_output_that_fills_the_disk_is_removed_with_its_attempt(small_disk: Path, tmp_path: Path) -> None:
    kinds = tmp_path / "filling.py"
    kinds.write_text(FILLING)
    server = Server(small_disk / "data", "--app", str(kinds), "--workers", "2").start()
    try:
        beside = server.submit("rehearsal", total=20, options={"seconds": 0.1})["id"]
        full = server.submit("fill", items=["x"], max_attempts=2, priority=5)["id"]
        assert server.until_done(full)["state"] == "failed"
        assert server.until_done(beside)["state"] == "completed"
        eventually(lambda: not any((server.data / "files" / full).glob("out/*")))
        eventually(lambda: ready(server) == (200, []))
    finally:
        server.stop()


def test_a_killed_server_starts_although_its_work_filled_the_disk(small_disk: Path, tmp_path: Path) -> None:
    kinds = tmp_path / "filling.py"
    kinds.write_text(FILLING)
    server = Server(small_disk / "data", "--app", str(kinds), "--workers", "1").start()
    try:
        full = server.submit("fill", items=["x"], options={"stay": True})["id"]
        eventually(lambda: (tmp_path / "full").exists())
        server.stop(signal.SIGKILL)
        server.start()
        assert httpx.post(f"{server.url}/api/jobs/{full}/cancel", timeout=30).status_code == 202
        assert server.until_done(full)["state"] == "cancelled"
        eventually(lambda: ready(server) == (200, []))
    finally:
        server.stop()


def test_a_start_on_a_full_disk_makes_room_by_what_is_expired(small_disk: Path) -> None:
    data = small_disk / "data"
    server = Server(data, "--workers", "1", environ={"UNSTUCK_RETENTION_S": "0"}).start()
    old = server.submit("checksum", {"large": bytes(3_000_000)})["id"]
    finished_at = datetime.fromisoformat(server.until_done(old)["finished_at"])
    server.stop(signal.SIGKILL)
    fill(small_disk)
    eventually(lambda: datetime.now(UTC) > finished_at + timedelta(seconds=1))
    server = Server(data, "--workers", "1", environ={"UNSTUCK_RETENTION_S": "1"}).start()
    try:
        eventually(lambda: ready(server) == (200, []))
        assert httpx.get(f"{server.url}/api/jobs/{old}").status_code == 404
        assert submit(server, "rehearsal", total=1).status_code == 202
    finally:
        server.stop()


def test_a_start_on_a_full_disk_without_a_reserve_is_one_sentence(small_disk: Path) -> None:
    data = small_disk / "data"
    Server(data, "--workers", "1").start().stop()
    (data / "reserve").unlink()
    fill(small_disk)
    command = ["-m", "unstuck", "serve", "--port", "0", "--data", str(data)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    assert "full" in done.stderr or "No space" in done.stderr
    assert "Free some space" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("read_only", [True, False])
def test_a_folder_that_is_mounted_over(tmp_path: Path, read_only: bool) -> None:
    """The mount shows another file system, or the same folder without the right to write."""
    server = Server(tmp_path / "data", "--workers", "1").start()
    place = str(server.data)
    try:
        with mounted(tmp_path / "other"):
            source = place if read_only else str(tmp_path / "other")
            subprocess.run(["mount", "--bind", source, place], check=True)
            try:
                if read_only:
                    subprocess.run(["mount", "-o", "remount,ro,bind", place], check=True)
                _, troubles = eventually(lambda: r if (r := ready(server))[0] == 503 else None)
                assert ("read-only" if read_only else "moved") in troubles[0]
                assert submit(server, "rehearsal", total=1).status_code == 503
            finally:
                subprocess.run(["umount", place], check=True)
        eventually(lambda: ready(server) == (200, []))
        assert submit(server, "rehearsal", total=1).status_code == 202
    finally:
        server.stop()


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
