"""Retention: which jobs and files are removed, when, and which must stay.

The store and the folder are real; the test moves the clocks.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from pathlib import Path

import pytest

from tests.support.clock import Clock
from tests.support.files import finished, uploaded
from tests.support.jobs import finish
from tests.support.machine import mounted
from tests.support.waiting import soon
from unstuck.errors import JobNotFound, StoreUnavailable
from unstuck.files import retention as r
from unstuck.files.folder import DataFolder
from unstuck.files.local import LocalFiles
from unstuck.files.retention import Retention, finish_removals
from unstuck.jobs.job import Cancel, JobError
from unstuck.store.sqlite import SQLiteStore

KEEP_S = 7 * 86_400.0


def pass_time(seconds: float, *clocks: Clock) -> None:
    for one in clocks:
        one.now += seconds


def inputs(folder: DataFolder, job_id: str) -> list[str]:
    return sorted(path.name for path in folder.inputs(job_id).iterdir())


async def test_only_jobs_that_finished_long_enough_ago_expire(
    store: SQLiteStore, folder: DataFolder, clock: Clock, steady: Clock
) -> None:
    keeping = Retention(store, LocalFiles(folder), KEEP_S, wall=clock, steady=steady)
    old = [await finished(store, folder) for _ in range(3)]
    pass_time(KEEP_S - 10, clock, steady)
    young = await finished(store, folder, 1)
    waiting = await uploaded(store, folder, 1)
    assert await keeping.expire() == 0
    pass_time(11, clock, steady)
    assert await keeping.expire() == 3
    assert set(folder.job_folders()) == {waiting, young}
    for job_id in old:
        with pytest.raises(JobNotFound):
            await store.snapshot(job_id)


async def test_one_run_removes_more_than_one_batch(
    store: SQLiteStore, folder: DataFolder, clock: Clock, steady: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(r, "BATCH", 3)
    keeping = Retention(store, LocalFiles(folder), KEEP_S, wall=clock, steady=steady)
    for _ in range(10):
        await finished(store, folder, 1)
    pass_time(KEEP_S + 1, clock, steady)
    assert await keeping.expire() == 10
    assert folder.job_folders() == []


async def test_zero_keeps_forever(store: SQLiteStore, folder: DataFolder, clock: Clock, steady: Clock) -> None:
    keeping = Retention(store, LocalFiles(folder), None, wall=clock, steady=steady)
    job_id = await finished(store, folder)
    pass_time(KEEP_S * 1000, clock, steady)
    assert await keeping.expire() == 0
    assert folder.job_folders() == [job_id]


async def test_a_clock_that_is_wrong_for_a_while_removes_nothing(
    store: SQLiteStore, folder: DataFolder, clock: Clock, steady: Clock
) -> None:
    keeping = Retention(store, LocalFiles(folder), KEEP_S, wall=clock, steady=steady)
    job_id = await finished(store, folder)
    for jump in (365 * 86_400.0, -365 * 86_400.0):
        clock.now += jump
        for _ in range(5):
            assert await keeping.expire() == 0
            assert await keeping.remove_leftovers() is None
            pass_time(60, clock, steady)
    # After an hour, a clock that was set is trusted.
    clock.now += KEEP_S
    assert await keeping.expire() == 0
    pass_time(3_599, clock, steady)
    assert await keeping.expire() == 0
    pass_time(2, clock, steady)
    assert await keeping.expire() == 1
    assert job_id not in folder.job_folders()


async def test_a_clock_that_was_set_does_not_shorten_what_is_kept(
    folder: DataFolder, clock: Clock, steady: Clock
) -> None:
    """A machine starts without a clock, works, and gets the time from the network."""
    clock.now = 1_000.0
    path = folder.root / "unstuck.db"
    store = SQLiteStore(path, clock=clock, steady=steady)
    await store.open()
    before = await finished(store, folder, 1)
    clock.now += 50 * 365 * 86_400.0
    await store.check_writable()  # any write notices the step
    after = await finished(store, folder, 1)
    await store.close()
    store = SQLiteStore(path, clock=clock, steady=steady)
    await store.open()
    keeping = Retention(store, LocalFiles(folder), KEEP_S, wall=clock, steady=steady)
    pass_time(KEEP_S - 10, clock, steady)
    assert await keeping.expire() == 0
    pass_time(20, clock, steady)
    assert await keeping.expire() == 2
    for job_id in (before, after):
        with pytest.raises(JobNotFound):
            await store.snapshot(job_id)
    await store.close()


async def test_inputs_are_kept_by_default(
    store: SQLiteStore, folder: DataFolder, clock: Clock, steady: Clock
) -> None:
    keeping = Retention(store, LocalFiles(folder), KEEP_S, wall=clock, steady=steady)
    job_id = await finished(store, folder, 3)
    await keeping.remove_inputs()
    await keeping.remove_leftovers()
    assert len(inputs(folder, job_id)) == 3


async def test_inputs_of_succeeded_items_are_removed_and_others_wait_for_a_retry(
    store: SQLiteStore, folder: DataFolder, clock: Clock, steady: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(r, "BATCH", 2)
    keeping = Retention(store, LocalFiles(folder), KEEP_S, keep_inputs=False, wall=clock, steady=steady)
    job_id = await uploaded(store, folder, 8)
    shared = folder.root / "of-a-retry"
    os.link(folder.input(job_id, "00000.csv"), shared)
    claimed = await store.claim(6, 30.0)
    bad = JobError("bad", "no good")
    await store.apply([finish(one) for one in claimed[:4]] + [finish(claimed[4], "failed", bad)])
    await keeping.remove_inputs()
    assert len(inputs(folder, job_id)) == 8, "the job is not done"
    await store.apply([finish(claimed[5], "skipped"), Cancel(job_id)])
    await soon(lambda: keeping._finished)
    await keeping.remove_inputs()
    assert inputs(folder, job_id) == ["00004.csv", "00006.csv", "00007.csv"]
    assert shared.read_text() == "a"


async def test_inputs_left_behind_by_a_crash_are_removed_daily(
    store: SQLiteStore, folder: DataFolder, clock: Clock, steady: Clock
) -> None:
    job_id = await finished(store, folder, 3)
    at_work = await uploaded(store, folder, 3)
    keeping = Retention(store, LocalFiles(folder), KEEP_S, keep_inputs=False, wall=clock, steady=steady)
    await keeping.remove_leftovers()
    assert not folder.inputs(job_id).exists()
    assert len(inputs(folder, at_work)) == 3


async def test_no_file_is_removed_before_its_job_is_deleted(
    store: SQLiteStore, folder: DataFolder, clock: Clock, steady: Clock
) -> None:
    keeping = Retention(store, LocalFiles(folder), KEEP_S, wall=clock, steady=steady)
    job_id = await finished(store, folder, 3)
    pass_time(KEEP_S + 1, clock, steady)
    foreign = sqlite3.connect(store.path, isolation_level=None)
    foreign.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable):
        await keeping.expire()
    assert len(inputs(folder, job_id)) == 3
    foreign.execute("ROLLBACK")
    foreign.close()
    assert await keeping.expire() == 1
    assert folder.job_folders() == []


async def test_a_folder_that_cannot_be_removed_is_logged_and_stops_nothing(
    store: SQLiteStore, folder: DataFolder, clock: Clock, steady: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even root can remove a mount point in a job's folder."""
    job_id, other = await finished(store, folder, 1), await finished(store, folder, 1)
    pinned = folder.job(job_id) / "out"
    with mounted(pinned):
        keeping = Retention(store, LocalFiles(folder), KEEP_S, wall=clock, steady=steady)
        pass_time(KEEP_S + 1, clock, steady)
        assert await keeping.expire() == 2
        assert folder.job_folders() == [job_id]
        assert f"Files cannot be removed, trying again within a day: job={job_id} error=" in caplog.text
        assert await store.removals(10) == [job_id]
    await finish_removals(LocalFiles(folder), store)
    assert folder.job_folders() == []
    assert await store.removals(10) == []
    assert other not in folder.job_folders()


async def test_the_task_survives_a_failing_store(folder: DataFolder, tmp_path: Path) -> None:
    closed = SQLiteStore(tmp_path / "closed.db")
    looks = []

    def steady() -> float:
        looks.append(time.monotonic())
        return looks[-1]

    task = asyncio.create_task(Retention(closed, LocalFiles(folder), 0.5, steady=steady).run())
    try:
        await soon(lambda: len(looks) > 10)  # the store is not open, so every attempt fails
        await closed.open()
        job_id = await finished(closed, folder, 1)
        await soon(lambda: job_id not in folder.job_folders())
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await closed.close()
