"""The plain functions beside a running loop, in many threads, in children, and without a server."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import unstuck
from tests.client.raw import Raw, job_of
from tests.support.server import Server
from unstuck.client import plain
from unstuck.client import portal as portal_module
from unstuck.errors import FileUnusable, JobNotFound, NoAnswer

JOB = "00000000-0000-4000-8000-000000000000"


async def test_plain_functions_work_beside_a_running_loop(server: Server) -> None:
    job = plain.submit("import", external=True, url=server.url)
    with plain.report(job.id, url=server.url) as reporter:
        reporter.progress(1, 1)
    assert [one.done for one in plain.watch(job.id, url=server.url)][-1]
    assert plain.job(job.id, url=server.url).state == "completed"
    assert plain.wait(job.id, url=server.url).done
    assert job.id in [one.id for one in plain.jobs(limit=200, url=server.url).jobs]
    plain.remove(job.id, url=server.url)


def test_plain_functions_work_in_many_threads_over_one_portal(server: Server) -> None:
    def one(number: int) -> str:
        job = plain.submit("import", external=True, total=1, name=str(number), url=server.url)
        with plain.report(job.id, url=server.url) as reporter:
            reporter.item(0, "succeeded")
        assert plain.items(job.id, url=server.url).items[0].state == "succeeded"
        return plain.job(job.id, url=server.url).state

    with ThreadPoolExecutor(12) as pool:
        assert set(pool.map(one, range(24))) == {"completed"}
    assert [one.name for one in threading.enumerate()].count("unstuck-client") == 1


def run(program: str, server: Server) -> Any:
    """Run a program beside this file as a user would, and return what it prints."""
    paths = os.pathsep.join([str(Path(unstuck.__file__).parents[1]), str(Path(__file__).parents[2])])
    ran = subprocess.run(
        [sys.executable, str(Path(__file__).with_name(program))],
        env={**os.environ, "UNSTUCK_URL": server.url, "PYTHONPATH": paths},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_greenlets_submit_and_report(server: Server) -> None:
    assert run("under_gevent.py", server) == ["completed"] * 5


def test_children_report_for_themselves_and_never_end_the_job(server: Server) -> None:
    seen = run("in_children.py", server)
    assert seen["during"] == ["running", 4]
    assert seen["after"] == "completed"
    assert "Enter the reporter" in seen["said"]


def test_results_are_downloaded(server: Server, tmp_path: Path) -> None:
    job = plain.wait(plain.submit("checksum", files=[("a", b"a")], url=server.url).id, url=server.url)
    path = tmp_path / "results.zip"
    size = plain.download(job.id, path, url=server.url)
    assert (path.read_bytes()[:2], path.stat().st_size) == (b"PK", size)
    assert plain.download_errors(job.id, path, url=server.url) == path.stat().st_size
    assert path.read_text().startswith("index,name,code,message")
    with pytest.raises(JobNotFound):
        plain.download(JOB, tmp_path / "other.zip", url=server.url)
    with pytest.raises(FileUnusable, match="cannot be written"):
        plain.download(job.id, tmp_path / "none" / "results.zip", url=server.url)
    assert list(tmp_path.iterdir()) == [path]


def test_the_portal_is_kept_and_a_child_has_its_own() -> None:
    kept = portal_module.portal()
    assert portal_module.portal() is kept
    child = os.fork()
    if child == 0:
        try:
            own = portal_module.portal()
            done = own.run(asyncio.sleep(0, "done"))
            os._exit(7 if own is not kept and done == "done" else 8)
        finally:
            os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert kept.run(asyncio.sleep(0, "still")) == "still"


def test_a_callback_cannot_call_a_plain_function() -> None:
    async def call() -> None:
        plain.job(JOB)

    with pytest.raises(RuntimeError, match="callback"):
        portal_module.portal().run(call())


async def test_identities_do_not_share_cookies() -> None:
    async with Raw() as raw:
        raw.poll = Raw.json(job_of(JOB, 1)).replace(b"\r\n", b"\r\nSet-Cookie: session=1\r\n", 1)
        for who in ("a", "b"):
            await asyncio.to_thread(plain.job, JOB, url=raw.url, headers={"Authorization": who})
        heads = raw.heads
    assert ["authorization: " + who in head.lower() for who, head in zip("ab", heads, strict=True)] == [True, True]
    assert not any("cookie" in head.lower() for head in heads)


def test_a_submission_is_given_up_within_its_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    slept = []
    real = asyncio.sleep

    async def sleep(seconds: float, result: object = None) -> object:
        slept.append(seconds)
        return await real(0, result)

    monkeypatch.setattr("unstuck.client.client.asyncio.sleep", sleep)
    for patience_s in (0.0, 5.0):
        slept.clear()
        with pytest.raises(NoAnswer, match="nothing accepts connections"):
            plain.submit("k", total=1, url="http://127.0.0.1:1", patience_s=patience_s)
        assert sum(slept) <= patience_s or patience_s
        assert bool(slept) == bool(patience_s)


async def test_a_submission_to_a_server_that_hangs_is_given_up() -> None:
    async with Raw(posts=[None]) as raw:
        with pytest.raises(NoAnswer, match="no response in time"):
            await asyncio.to_thread(plain.submit, "k", total=1, url=raw.url, patience_s=0.1)


def test_a_reporter_is_used_in_one_block_at_a_time(server: Server) -> None:
    job = plain.submit("import", external=True, url=server.url)
    reporter = plain.report(job.id, url=server.url, ends=False)
    with pytest.raises(RuntimeError, match="Enter the reporter first"):
        reporter.progress(1)
    with reporter:
        with pytest.raises(RuntimeError, match="is in use"), reporter:
            pass
        reporter.progress(1)
    with reporter:
        assert reporter.job.progress.processed == 1
    plain.cancel(job.id, url=server.url)
