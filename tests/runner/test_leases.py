"""Leases: time limits, lapses, and runners that wrongly believe that they hold an item."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.clock import Clock
from tests.support.jobs import submitted, until_done
from tests.support.waiting import soon
from unstuck.files.folder import DataFolder
from unstuck.files.local import LocalFiles
from unstuck.jobs.job import HealthLimits, Item, Lapse, Report
from unstuck.runner.leases import LeaseKeeper
from unstuck.runner.runner import Runner, RunnerConfig
from unstuck.store.sqlite import SQLiteStore
from unstuck.supervision.backoff import Backoff
from unstuck.supervision.supervisor import supervising

KINDS = """
import os
import time
from pathlib import Path
import unstuck

@unstuck.kind("write", needs_file=False)
def write(file: Path | None, report: unstuck.Report, *, gate: str = "") -> Path:
    report(0.1)
    while gate and not (Path(gate) / str(report.attempt)).exists():
        time.sleep(0.01)
    result = report.output / "result.txt"
    result.write_text(f"attempt {report.attempt}")
    return result

@unstuck.kind("hang", needs_file=False)
def hang(file: Path | None, report: unstuck.Report) -> None:
    while True:
        time.sleep(0.01)

@unstuck.kind("die", needs_file=False)
def die(file: Path | None, report: unstuck.Report) -> None:
    os._exit(3)

@unstuck.kind("flaky", needs_file=False)
def flaky(file: Path | None, report: unstuck.Report) -> dict:
    if report.attempt < 3:
        raise unstuck.Transient("not yet")
    return {"attempt": report.attempt}
"""


@asynccontextmanager
async def running(store: SQLiteStore, tmp_path: Path, **more: object) -> AsyncIterator[Runner]:
    app = tmp_path / "mywork.py"
    app.write_text(KINDS)
    folder = DataFolder(tmp_path)
    config = RunnerConfig(app=str(app), **{"lease_s": 3.0, "pause": Backoff(0.01), **more})  # type: ignore[arg-type]
    runner = Runner(store, LocalFiles(folder), config)
    try:
        async with supervising() as supervisor:
            await runner.start(supervisor)
            yield runner
    finally:
        await runner.stop()


async def item_of(store: SQLiteStore, job_id: str, index: int = 0) -> Item:
    item = await store.item(job_id, index)
    assert item is not None
    return item


async def until_running(store: SQLiteStore, job_id: str, attempt: int = 1) -> Item:
    while (item := await item_of(store, job_id)).state != "running" or item.attempt != attempt:
        await asyncio.sleep(0.01)
    return item


async def test_a_worker_that_dies_is_logged_with_its_item(
    store: SQLiteStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(store, tmp_path):
        job_id = await submitted(store, 1, kind="die", max_attempts=2)
        assert (await until_done(store, job_id)).state == "failed"
    why = "The worker process ended in the middle of the work, with exit code 3."
    line = rf"Worker died, starting another: worker=(\d+) job={job_id} item=0 reason={why}"
    assert len(set(re.findall(line, caplog.text))) == 2


async def test_an_item_whose_runner_is_gone_is_logged(
    store: SQLiteStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = await submitted(store, 1, kind="write", max_attempts=1)
    (work,) = await store.claim(1, 0.1, "a runner that is gone")
    await store.apply([Report(job_id, 0, work.item.lease, time.time())])  # it runs, so this attempt counts
    line = f"Item taken from a runner that stopped renewing its lease: job={job_id} item=0"
    async with running(store, tmp_path):
        assert (await until_done(store, job_id)).state == "failed"
        await soon(lambda: line in caplog.text)


async def test_an_item_beyond_its_time_limit_is_stopped_by_force(
    store: SQLiteStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(store, tmp_path, cancel_grace_s=0.1):
        job_id = await submitted(store, 1, kind="hang", item_limit_s=0.3)
        job = await until_done(store, job_id)
        item = await item_of(store, job_id)
        assert (job.state, item.attempt) == ("failed", 1)
        assert item.error is not None
        assert (item.error.code, item.error.transient) == ("time_limit_exceeded", False)
        line = rf"Worker killed to stop its item: worker=\d+ job={job_id} item=0\b"
        assert len(re.findall(line, caplog.text)) == 1
        again = await submitted(store, 1, kind="write")
        assert (await until_done(store, again)).state == "completed", "the worker was replaced"


async def test_a_transient_failure_is_retried_after_a_pause(store: SQLiteStore, tmp_path: Path) -> None:
    async with running(store, tmp_path):
        job_id = await submitted(store, 1, kind="flaky")
        assert (await until_done(store, job_id)).state == "completed"
        assert (await item_of(store, job_id)).result == {"attempt": 3}


async def test_a_runner_drops_an_item_whose_lease_has_lapsed(store: SQLiteStore, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.mkdir()
    async with running(store, tmp_path) as runner:
        job_id = await submitted(store, 1, kind="write", options={"gate": str(gate)})
        first = await until_running(store, job_id)
        await store.apply([Lapse(job_id, 0, first.lease, "an operator says so", forced=True)])
        second = await until_running(store, job_id, attempt=2)
        assert second.lease == first.lease + 1
        (gate / "1").touch()  # the first attempt would continue now if it were still running
        (gate / "2").touch()
        assert (await until_done(store, job_id)).state == "completed"
        item = await item_of(store, job_id)
        assert item.result_file is not None
        assert DataFolder(tmp_path).result(job_id, 0, item.lease, item.result_file).read_text() == "attempt 2"
        assert runner.alive


async def test_leases_are_renewed_while_the_loop_is_blocked(store: SQLiteStore, tmp_path: Path) -> None:
    """An app that unstuck is mounted in may block the event loop with its own work."""
    async with running(store, tmp_path, lease_s=0.9, limits=HealthLimits(unresponsive_s=600.0)):
        job_id = await submitted(store, 1, kind="hang")
        before = (await until_running(store, job_id)).lease_until
        assert before is not None
        time.sleep(2.0)  # blocks the event loop on purpose
        item = await item_of(store, job_id)
        assert (item.attempt, item.lease) == (1, 1)
        assert item.lease_until is not None
        assert item.lease_until > before
        assert "attempt_failed" not in {entry.what for entry in await store.timeline(job_id)}


async def test_two_runners_share_one_large_job(store: SQLiteStore, tmp_path: Path) -> None:
    async with running(store, tmp_path, name="one"), running(store, tmp_path, name="the other"):
        job_id = await submitted(store, 60, kind="write")
        job = await until_done(store, job_id)
        assert (job.state, job.succeeded) == ("completed", 60)
        items = await store.items(job_id, limit=100)
        assert {item.worker for item in items} == {"one", "the other"}
        assert {(item.attempt, item.lease) for item in items} == {(1, 1)}


async def test_a_runner_that_cannot_renew_leases_is_not_alive(
    store: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(store, tmp_path) as runner:
        assert runner.alive
        with monkeypatch.context() as broken:
            broken.setattr(LeaseKeeper, "_sweep", lambda *_: 1 // 0)
            await soon(lambda: not runner.alive)
        await soon(lambda: runner.alive)


async def test_a_server_that_was_suspended_between_renewals_loses_nothing(tmp_path: Path) -> None:
    clock = Clock(time.time())
    store = SQLiteStore(tmp_path / "unstuck.db", clock=clock)
    await store.open()
    async with running(store, tmp_path, lease_s=30.0) as runner:
        job_id = await submitted(store, 1, kind="hang")
        before = await until_running(store, job_id)
        for _ in range(2):
            # Any sweep that follows knows which items this runner holds.
            clock.now += 40
            while (item := await item_of(store, job_id)).lease_until == before.lease_until:
                await asyncio.sleep(0.01)
            assert (item.attempt, item.lease) == (1, 1)
            before = item
        assert runner.lapsed == 0
    await store.close()


async def test_an_end_that_cannot_be_written_is_kept(tmp_path: Path) -> None:
    """A store that is unwritable for longer than a lease causes neither a second attempt nor a lost item."""
    clock = Clock(time.time())
    store = SQLiteStore(tmp_path / "unstuck.db", clock=clock)
    await store.open()
    gate = tmp_path / "gate"
    gate.mkdir()
    async with running(store, tmp_path, lease_s=30.0) as runner:
        job_id = await submitted(store, 1, kind="write", options={"gate": str(gate)}, max_attempts=1)
        await until_running(store, job_id)
        foreign = sqlite3.connect(tmp_path / "unstuck.db", isolation_level=None)
        foreign.execute("BEGIN IMMEDIATE")
        (gate / "1").touch()
        await soon(lambda: store.trouble and not len(runner._items) and runner._items.renewals())
        clock.now += 40
        foreign.execute("ROLLBACK")
        foreign.close()
        job = await until_done(store, job_id)
        assert (job.state, job.succeeded) == ("completed", 1)
    await store.close()
