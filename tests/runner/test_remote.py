"""`unstuck work` in its own process, on a real server without workers of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.server import Server, StartServer
from tests.support.waiting import PATIENCE_S

TOKEN = "secret-of-the-workers"
COPY = 'copy=sh -c \'cat "$0" > "$1.txt"\' {input} {output}'
StartWorker = Callable[..., "subprocess.Popen[str]"]


def command(server: str, tmp_path: Path, *arguments: str, token: str = TOKEN) -> tuple[list[str], dict[str, str]]:
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    environ = {name: text for name, text in os.environ.items() if not name.startswith("UNSTUCK_")}
    environ |= {"TMPDIR": str(scratch), "COLUMNS": "200"} | ({"UNSTUCK_WORK_TOKEN": token} if token else {})
    return [sys.executable, "-m", "unstuck", "work", "--server", server, "--workers", "1", *arguments], environ


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[StartWorker]:
    started: list[subprocess.Popen[str]] = []

    def start(server: Server, *arguments: str) -> subprocess.Popen[str]:
        line, environ = command(server.url, tmp_path, *arguments)
        with (tmp_path / "work.log").open("a") as log:
            process = subprocess.Popen(line, env=environ, stdout=subprocess.PIPE, stderr=log, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def serve(start_server: StartServer, *arguments: str) -> Server:
    return start_server(*arguments, own_workers="0", work_token=TOKEN, lease_s="2")


def test_files_come_and_results_go_and_a_stop_leaves_nothing(
    start_server: StartServer, start_worker: StartWorker, tmp_path: Path
) -> None:
    server = serve(start_server, "--command", COPY)
    files = {f"{name}.txt": name.encode() * 1000 for name in "abc"}
    job = server.submit("copy", files=files)
    worker = start_worker(server, "--command", COPY, "--kind", "copy")
    done = server.until_done(job["id"])
    assert done["state"] == "completed", [item["error"] for item in server.items(job["id"])]
    for item in server.items(job["id"]):
        result = httpx.get(f"{server.url}/api/jobs/{job['id']}/items/{item['index']}/result")
        assert result.content == files[item["name"]]
    running = server.submit("copy", files={"a.txt": b"a"})["id"]
    server.until_done(running)
    assert server.get("/api/health")["workers"]["elsewhere"] == 1
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0, (tmp_path / "work.log").read_text()
    assert list((tmp_path / "scratch").glob("unstuck-work-*")) == []


def test_what_a_killed_worker_was_at_goes_on_elsewhere_and_a_cancel_arrives(
    start_server: StartServer, start_worker: StartWorker
) -> None:
    server = serve(start_server)
    job = server.submit("rehearsal", total=2, options={"seconds": 2})
    worker = start_worker(server)
    server.until(job["id"], lambda job: bool(job["progress"]["current"]))
    worker.send_signal(signal.SIGKILL)
    start_worker(server)
    done = server.until_done(job["id"])
    assert (done["state"], done["progress"]["succeeded"], done["attempt"]) == ("completed", 2, 2)
    long = server.submit("rehearsal", total=1, options={"seconds": 60})["id"]
    server.until(long, lambda job: bool(job["progress"]["current"]))
    httpx.post(f"{server.url}/api/jobs/{long}/cancel")
    assert server.until_done(long)["state"] == "cancelled"


def test_mistakes_are_one_sentence_and_exit_code_2(start_server: StartServer, tmp_path: Path) -> None:
    server = serve(start_server)
    for url, arguments, token, words in (
        (server.url, (), "another-secret-here", "token is missing or wrong"),
        (f"{server.url}/nowhere", (), TOKEN, "no server here that gives work"),
        (server.url, ("--kind", "unheard-of"), TOKEN, "There is no kind 'unheard-of'"),
    ):
        line, environ = command(url, tmp_path, *arguments, token=token)
        ended = subprocess.run(line, env=environ, capture_output=True, text=True, timeout=PATIENCE_S)
        assert (ended.returncode, words in ended.stderr) == (2, True), ended.stderr
        assert "Traceback" not in ended.stderr
    assert list((tmp_path / "scratch").glob("unstuck-work-*")) == []
