"""The runner's own code breaks once while it holds items: its loops restart, and no item is lost."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.jobs import submitted, until_done
from tests.support.waiting import soon
from unstuck.files.folder import DataFolder
from unstuck.files.local import LocalFiles
from unstuck.jobs.job import Finish
from unstuck.runner.process import WorkerProcess
from unstuck.runner.runner import Runner, RunnerConfig
from unstuck.store.sqlite import SQLiteStore
from unstuck.supervision.backoff import Backoff
from unstuck.supervision.supervisor import Supervisor, supervising

KINDS = """
import time
from pathlib import Path
import unstuck

@unstuck.kind("quick", needs_file=False)
def quick(file: Path | None, report: unstuck.Report) -> dict:
    return {"attempt": report.attempt}

@unstuck.kind("file", needs_file=False)
def file(file: Path | None, report: unstuck.Report) -> Path:
    (report.output / "made").write_text("x")
    return report.output / "made"

@unstuck.kind("waiting", needs_file=False)
def waiting(file: Path | None, report: unstuck.Report, *, gate: str) -> dict:
    while not Path(gate).exists():
        time.sleep(0.01)
    return {"attempt": report.attempt}
"""


@pytest.fixture
def store(store_in_real_time: SQLiteStore) -> SQLiteStore:
    return store_in_real_time


@asynccontextmanager
async def working(store: SQLiteStore, tmp_path: Path, **more: Any) -> AsyncIterator[tuple[Runner, Supervisor]]:
    app = tmp_path / "mywork.py"
    app.write_text(KINDS)
    config = RunnerConfig(app=str(app), workers=2, pause=Backoff(0.0), **more)
    folder = DataFolder(tmp_path)
    folder.open()
    files = LocalFiles(folder, config.workers)
    await files.open(store)
    runner = Runner(store, files, config)
    try:
        async with supervising(Backoff(0.01, 0.1), 0.1) as supervisor:
            await runner.start(supervisor)
            yield runner, supervisor
    finally:
        await runner.stop()
        await files.close()
        folder.close()


def break_at(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, call: int) -> None:
    """Make the method raise at its `call`-th call."""
    whole = getattr(owner, name)
    calls = 0

    def broken(*arguments: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise KeyError(name)
        return whole(*arguments, **more)

    monkeypatch.setattr(owner, name, broken)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        *((name, call) for name in ("_run", "_end") for call in (1, 100)),  # once for each item
        *((name, call) for name in ("_report_start", "_on_messages") for call in (1, 2)),  # for many at once
    ],
)
async def test_a_broken_worker_task_gives_its_items_back(
    store: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, call: int
) -> None:
    break_at(monkeypatch, Runner, name, call)
    async with working(store, tmp_path) as (runner, supervisor):
        job_id = await submitted(store, 600, kind="quick")
        job = await until_done(store, job_id)
        assert (job.state, job.succeeded) == ("completed", 600)
        assert supervisor.loops["worker 1"].restarts + supervisor.loops["worker 2"].restarts == 1
        await soon(lambda: runner.alive and runner.workers == 2)
        assert not runner._items.held()
    again = {item.attempt for item in await store.items(job_id, limit=600)}
    assert again <= {1, 2}


async def test_an_item_that_always_breaks_the_runner_fails_in_the_end(
    store: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Runner, held: Any) -> Any:
        if held.item.index == 1:
            raise KeyError("as the test asks")
        return whole(self, held)

    whole = Runner._run
    monkeypatch.setattr(Runner, "_run", broken)
    async with working(store, tmp_path):
        job_id = await submitted(store, 3, kind="quick", max_attempts=3)
        job = await until_done(store, job_id)
    assert (job.state, job.failed, job.succeeded) == ("completed_with_errors", 1, 2)
    item = await store.item(job_id, 1)
    assert item is not None
    assert item.error is not None
    assert (item.error.code, item.attempt) == ("worker_lost", 3)


@pytest.mark.parametrize(
    ("loop", "name", "call"),
    [
        *(("write buffer", "apply", call) for call in (1, 2)),
        *(("prefetch", "claim", call) for call in (1, 2, 3)),
    ],
)
async def test_a_broken_write_or_claim_is_repeated(
    store: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop: str, name: str, call: int
) -> None:
    break_at(monkeypatch, SQLiteStore, name, call)
    async with working(store, tmp_path) as (_, supervisor):
        job_id = await submitted(store, 300, kind="quick")
        assert (await until_done(store, job_id)).succeeded == 300
        assert supervisor.loops[loop].restarts == 1
    assert {item.attempt for item in await store.items(job_id, limit=300)} == {1}


async def test_an_outcome_that_cannot_be_written_costs_its_own_item(
    store: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write buffer would otherwise repeat the same write until the server is restarted."""

    async def broken(self: SQLiteStore, commands: Any) -> Any:
        if any(isinstance(one, Finish) and one.index == 1 and one.result for one in commands):
            raise KeyError("as the test asks")
        return await whole(self, commands)

    whole = SQLiteStore.apply
    monkeypatch.setattr(SQLiteStore, "apply", broken)
    async with working(store, tmp_path) as (runner, supervisor):
        job_id = await submitted(store, 30, kind="quick", max_attempts=2)
        job = await until_done(store, job_id)
        assert (job.state, job.failed, job.succeeded) == ("completed_with_errors", 1, 29)
        await soon(lambda: runner.alive)
        assert supervisor.loops["write buffer"].restarts <= 2
    item = await store.item(job_id, 1)
    assert item is not None
    assert item.error is not None
    assert (item.error.code, item.attempt) == ("result_not_kept", 2)


async def test_an_item_that_cannot_be_ended_is_given_up_and_tried_again(
    store: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but the lapse of its lease is left: it must not be renewed any longer."""
    broken_until = 2

    def broken(self: Runner, item: Any, how: Any) -> None:
        if item.item.index == 1 and item.item.attempt < broken_until:
            raise KeyError("as the test asks")
        whole(self, item, how)

    whole = Runner._end
    monkeypatch.setattr(Runner, "_end", broken)
    async with working(store, tmp_path, lease_s=0.6) as (runner, _):
        job_id = await submitted(store, 3, kind="quick", max_attempts=3)
        assert (await until_done(store, job_id)).succeeded == 3
        assert runner.lapsed == 1


async def test_a_worker_that_cannot_be_started_is_started_later(
    store: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*arguments: Any) -> WorkerProcess:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("unstuck.runner.runner.RESTART_S", (0.01,))
    async with working(store, tmp_path) as (runner, supervisor):
        with monkeypatch.context() as patch:
            patch.setattr(WorkerProcess, "start", refused)
            for process in tuple(runner._processes):
                process.kill("the test asks for it")
            job_id = await submitted(store, 5, kind="quick")
            await soon(lambda: runner.trouble == "can't start new thread")
            assert not runner.alive
        assert (await until_done(store, job_id)).succeeded == 5
        await soon(lambda: runner.alive)
        assert not any(loop.restarts for loop in supervisor.loops.values())


async def test_result_files_are_kept_although_no_thread_can_be_started(
    store: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another item's threads may have used up the limit of the machine."""

    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with working(store, tmp_path) as (runner, _):
        await soon(lambda: runner.workers == 2)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refused)
            job_id = await submitted(store, 3, kind="file", max_attempts=1)
            await soon(lambda: (tmp_path / "files" / job_id / "out" / "2-1" / "made").exists())
            await soon(lambda: not runner._items.held())
        assert (await until_done(store, job_id)).succeeded == 3


async def test_leases_are_renewed_after_a_renewal_broke(
    store: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_at(monkeypatch, SQLiteStore, "sweep", 1)
    async with working(store, tmp_path, lease_s=0.9) as (runner, supervisor):
        job_id = await submitted(store, 1, kind="waiting", options={"gate": str(tmp_path / "gate")})
        await soon(runner._items.held)
        (held,) = runner._items.held()
        await soon(lambda: supervisor.loops["leases"].restarts == 1)
        lease_until = held.item.lease_until
        assert lease_until is not None
        while (item := await store.item(job_id, 0)) is None or (item.lease_until or 0.0) <= lease_until:
            await asyncio.sleep(0.01)
        (tmp_path / "gate").touch()
        assert (await until_done(store, job_id)).succeeded == 1
        assert runner.lapsed == 0


async def test_a_start_that_is_cancelled_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[asyncio.subprocess.Process] = []
    whole = asyncio.create_subprocess_exec

    async def recorded(*arguments: Any, **more: Any) -> asyncio.subprocess.Process:
        started.append(await whole(*arguments, **more))
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", recorded)
    starting = asyncio.create_task(WorkerProcess.start("", (), 0))
    await soon(lambda: started)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert started[0].returncode == -signal.SIGKILL
