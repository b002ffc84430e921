"""Items of a kind that no worker knows: they wait for a runner that does, and a person is told so."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import anyio.to_thread

from tests.support.command import unstuck_from_a_shell
from tests.support.jobs import submitted, until_done
from tests.support.running import serving
from tests.support.waiting import soon
from tests.webhooks.receiver import Receiver
from unstuck.files.folder import DataFolder
from unstuck.files.local import LocalFiles
from unstuck.jobs.job import Cancel
from unstuck.runner.runner import Runner, RunnerConfig
from unstuck.store.sqlite import SQLiteStore
from unstuck.supervision.supervisor import supervising

SHARED = """
from pathlib import Path
import time, unstuck

@unstuck.kind("shared", needs_file=False)
def shared(file: Path | None, report: unstuck.Report) -> None: ...
"""
NEW = """
@unstuck.kind("new", needs_file=False)
def new(file: Path | None, report: unstuck.Report, *, gate: str) -> None:
    while not Path(gate).exists():
        time.sleep(0.01)
"""


async def test_work_of_a_newer_version_is_left_to_its_runner(store: SQLiteStore, tmp_path: Path) -> None:
    app, gate = tmp_path / "mywork.py", tmp_path / "gate"
    app.write_text(SHARED + NEW)
    runner = Runner(store, LocalFiles(DataFolder(tmp_path)), RunnerConfig(app=str(app), workers=1))
    async with supervising() as supervisor:
        await runner.start(supervisor)
        job_id = await submitted(store, 3, kind="new", options={"gate": str(gate)}, max_attempts=9)
        await soon(lambda: any(item.run_id for item in runner._items.held()))
        await _restart(runner, app, SHARED)

        async def left() -> bool:
            return (await store.snapshot(job_id)).job.waiting == 3

        await soon(left)
        await until_done(store, await submitted(store, 3, kind="shared"))  # a later job does not wait for it
        job = (await store.snapshot(job_id)).job
        assert (job.waiting, job.failed, job.error) == (3, 0, None)
        gate.touch()
        await _restart(runner, app, SHARED + NEW)
        await until_done(store, await submitted(store, 1, kind="shared"))
        assert (await until_done(store, job_id)).state == "completed"
    await runner.stop()


async def _restart(runner: Runner, app: Path, text: str) -> None:
    """Make the worker load this app instead of the one before."""
    app.write_text(text)
    (before,) = runner._processes
    os.kill(before.pid, signal.SIGKILL)
    await soon(lambda: before not in runner._processes and runner.workers == 1)


async def test_health_and_show_name_a_kind_that_no_worker_knows(tmp_path: Path) -> None:
    receiver = Receiver()
    async with serving(tmp_path, receiver) as server:
        store = server.app.state.services.store
        assert (await server.health())["troubles"] == []
        job_id = await submitted(store, 2, kind="of-a-newer-version")
        await submitted(store, 2, kind="elsewhere", external=True)
        health = await server.health()
        assert health["status"] == "ok"
        assert (await server.ready()) == (200, [])
        assert health["troubles"] == [
            "No worker here knows the kind 'of-a-newer-version', and 1 job waits for it: "
            "start a server that has it, or cancel what is not wanted."
        ]
        url = str(server.http.base_url).rstrip("/")
        shown: Any = await anyio.to_thread.run_sync(lambda: unstuck_from_a_shell("show", job_id, "--url", url))
        assert "no worker of this server knows its kind" in shown.stdout, shown
        await store.apply([Cancel(job_id)])
        assert (await server.health())["troubles"] == []
    receiver.close()
