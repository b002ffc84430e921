"""The command `unstuck serve`: refused starts, the end by a signal, and restarts."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.support.certificate import make_certificate
from tests.support.command import refused_to_start
from tests.support.events import Event, events, open_and_never_read
from tests.support.machine import mounted
from tests.support.server import Server, StartServer
from tests.support.waiting import PATIENCE_S, eventually
from unstuck import __version__


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_second_server_on_the_same_folder(start_server: StartServer) -> None:
    first = start_server("--workers", "1")
    assert first.process is not None
    said = refused_to_start("serve", "--port", "0", "--data", str(first.data))
    assert "in use by another unstuck server" in said
    assert str(first.process.pid) in said
    assert first.get("/api/health/ready")["status"] == "ok"


def test_unusable_folders(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("x")
    assert "data folder" in refused_to_start("serve", "--port", "0", "--data", str(blocked / "below"))
    assert "data folder" in refused_to_start("serve", "--port", "0", "--data", "/proc/nowhere")


def test_a_read_only_folder(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    with mounted(locked, "ro"):
        assert "Read-only" in refused_to_start("serve", "--port", "0", "--data", str(locked / "data"))
        assert "Read-only" in refused_to_start("serve", "--port", "0", "--data", str(locked))


def test_unusable_databases(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "files").mkdir(parents=True)
    database = folder / "unstuck.db"
    for content in (
        b"this is no database, but long enough to look at" * 100,
        b"SQLite format 3\0" + b"\xff" * 5000,
    ):
        database.write_bytes(content)
        before = snapshot(folder)
        said = refused_to_start("serve", "--port", "0", "--data", str(folder))
        assert "unstuck.db" in said
        after = snapshot(folder)
        after.pop(str(folder / "lock"))
        before.pop(str(folder / "lock"), None)
        assert after == before
    database.unlink()
    sqlite3.connect(database).execute("CREATE TABLE theirs (a)").connection.close()
    assert "not a database of unstuck" in refused_to_start("serve", "--port", "0", "--data", str(folder))


def test_invalid_settings(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path / "data"))
    assert "whole number" in refused_to_start("serve", *data, UNSTUCK_MAX_FILES="many")
    assert "no setting" in refused_to_start("serve", *data, UNSTUCK_MAX_FLIES="1")
    assert "--tls-key" in refused_to_start("serve", *data, "--tls-cert", "x.pem")
    assert "x.pem" in refused_to_start("serve", *data, "--port", "0", "--tls-cert", "x.pem", "--tls-key", "y.pem")
    assert "port" in refused_to_start("serve", *data, "--port", "70000")
    assert "address" in refused_to_start("serve", *data, "--host", "no.such.host.invalid")
    assert "mywork.py" in refused_to_start("serve", *data, "--port", "0", "--app", str(tmp_path / "mywork.py"))
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_that_name\n")
    assert "nothing_of_that_name" in refused_to_start("serve", *data, "--port", "0", "--app", str(broken))
    assert "no-such-program" in refused_to_start(
        "serve", *data, "--port", "0", "--command", "x=no-such-program {input}"
    )
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "--port" in refused_to_start("serve", *data, "--port", str(taken.getsockname()[1]))


def test_version_and_settings() -> None:
    run = [sys.executable, "-m", "unstuck"]
    assert subprocess.check_output([*run, "--version"], text=True).startswith("unstuck 0.")
    listed = subprocess.check_output([*run, "settings"], text=True, env={**os.environ, "COLUMNS": "200"})
    assert "UNSTUCK_HEARTBEAT_S" in listed


class Watcher(threading.Thread):
    """Follows one job's stream to its end."""

    def __init__(self, server: Server, job_id: str) -> None:
        super().__init__(daemon=True)
        self.events: list[Event] = []
        self._address = f"{server.url}/api/jobs/{job_id}/events"
        self.start()
        eventually(lambda: self.events)

    def run(self) -> None:
        with httpx.stream("GET", self._address, timeout=30) as answer:
            for one in events(answer.iter_lines()):
                self.events.append(one)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_and_the_next_start_continues(start_server: StartServer, sig: int) -> None:
    server = start_server("--workers", "2")
    # Ten seconds of work, so that it does not end before all watchers are there, even on a busy machine.
    job = server.submit("rehearsal", total=40, options={"seconds": 0.5})
    watchers = [Watcher(server, job["id"]) for _ in range(20)]
    lazy = [open_and_never_read(server, job["id"]) for _ in range(5)]
    server.until(job["id"], lambda job: job["progress"]["processed"] >= 2)
    asked = time.monotonic()
    code = server.stop(sig)
    took = time.monotonic() - asked
    assert code == 0, server.log.read_text()
    assert took < 10, "the server waited for readers that never read"
    for watcher in watchers:
        watcher.join(PATIENCE_S)
        assert watcher.events[-1][0] == "leaving"
    for one in lazy:
        one.close()
    log = server.log.read_text()
    assert "Traceback" not in log
    started, stopping, stopped = re.findall("INFO unstuck (Server .*)", log)
    beginning = f"Server started: version={__version__} data={server.data} workers=2 name={socket.gethostname()}/"
    assert re.fullmatch(rf"{re.escape(beginning)}[0-9a-f]{{6}}", started)
    assert re.fullmatch(rf"Server is stopping: signal={signal.Signals(sig).name} streams=2\d", stopping)
    assert stopped == f"Server stopped: data={server.data}"

    again = start_server("--workers", "2")
    found = again.job(job["id"])
    assert found["progress"]["succeeded"] >= 2
    done = again.until_done(job["id"])
    assert (done["state"], done["progress"]["succeeded"]) == ("completed", 40)
    assert max(item["attempt"] for item in again.items(job["id"])) == 1, "a shutdown costs no attempt"


def test_the_start_after_a_kill_continues_too(start_server: StartServer) -> None:
    server = start_server("--workers", "2")
    job = server.submit("rehearsal", total=8, options={"seconds": 0.3})
    server.until(job["id"], lambda job: job["progress"]["processed"] >= 2)
    before = server.job(job["id"])
    server.stop(signal.SIGKILL)
    again = start_server("--workers", "2")
    after = again.job(job["id"])
    assert after["seq"] >= before["seq"]
    assert after["progress"]["succeeded"] >= before["progress"]["succeeded"]
    done = again.until_done(job["id"])
    assert (done["state"], done["progress"]["succeeded"]) == ("completed", 8)


def test_jobs_that_fail_are_logged(start_server: StartServer) -> None:
    server = start_server("--workers", "1")
    late = server.submit("rehearsal", total=1, options={"seconds": 60}, deadline_seconds=0.5)
    assert server.until_done(late["id"])["state"] == "failed"
    line = f"WARNING unstuck Job failed: job={late['id']} code=deadline_exceeded failed=0"
    eventually(lambda: line in server.log.read_text())

    lost = server.submit("rehearsal", total=1, options={"seconds": 60}, max_attempts=1)
    server.until(lost["id"], lambda job: bool(job["progress"]["current"]))
    server.stop(signal.SIGKILL)
    again = start_server("--workers", "1")
    assert again.until_done(lost["id"])["state"] == "failed"
    log = again.log.read_text()
    assert "INFO unstuck Items of an earlier run of the server were taken back: items=1" in log
    assert f"WARNING unstuck Job failed: job={lost['id']} code=all_items_failed failed=1" in log
    assert log.count("Job failed: ") == 2


def test_the_start_removes_nothing_that_it_did_not_make(start_server: StartServer) -> None:
    server = start_server("--workers", "1")
    job = server.submit("checksum", {"a": b"x"})
    server.until_done(job["id"])
    server.stop()
    files = server.data / "files"
    foreign = files / "00000000-0000-0000-0000-000000000000" / "in"
    foreign.mkdir(parents=True)
    (foreign / "00000").write_text("half")
    (files / "thesis.txt").write_text("whole")
    again = start_server("--workers", "1")
    assert {path.name for path in (again.data / "files").iterdir()} == {
        job["id"],
        foreign.parent.name,
        "thesis.txt",
    }
    assert (foreign / "00000").read_text() == "half"


def test_a_failing_store_is_reported_everywhere_and_recovers(start_server: StartServer) -> None:
    server = start_server("--workers", "1")
    foreign = sqlite3.connect(server.data / "unstuck.db", isolation_level=None)
    foreign.execute("BEGIN IMMEDIATE")
    answer = httpx.post(f"{server.url}/api/jobs", json={"kind": "rehearsal", "total": 1}, timeout=30)
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    assert answer.headers["retry-after"]
    ready = httpx.get(f"{server.url}/api/health/ready", timeout=30)
    assert ready.status_code == 503
    assert "locked" in ready.json()["troubles"][0]
    foreign.execute("ROLLBACK")
    foreign.close()
    eventually(lambda: httpx.get(f"{server.url}/api/health/ready", timeout=30).status_code == 200)
    done = server.until_done(server.submit("rehearsal", total=1, options={"seconds": 0})["id"])
    assert done["state"] == "completed"
    log = server.log.read_text()
    assert "ERROR unstuck.store Store cannot write; check the disk and its free space: error=database is" in log
    assert "INFO unstuck.store Store can write again: last_error=database is locked" in log


def test_tls_and_http2(start_server: StartServer, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    server = start_server("--workers", "1", "--tls-cert", certificate, "--tls-key", key)
    answer = httpx.get(f"{server.url}/api/health/live", verify=False)
    assert answer.json() == {"status": "ok"}
    if os.system("curl --version | grep -q HTTP2") == 0:
        job = httpx.post(
            f"{server.url}/api/jobs",
            json={"kind": "rehearsal", "total": 2, "options": {"seconds": 0.2}},
            verify=False,
        ).json()
        command = [
            "curl",
            "-skN",
            "--http2",
            "-w",
            "version %{http_version}",
            f"{server.url}{job['links']['events']}",
        ]
        said = subprocess.check_output(command, text=True, timeout=30)
        assert '"done":true' in said
        assert said.endswith("version 2")
