"""What goes, when, and what must not: on a real store and a real folder, with clocks that the test moves."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.clock import Clock
from tests.support.jobs import finish
from tests.support.machine import mounted
from tests.support.waiting import soon
from unstuck.errors import JobNotFound, StoreUnavailable
from unstuck.files import retention as r
from unstuck.files.folder import DataFolder
from unstuck.files.retention import Retention, remove_orphans
from unstuck.jobs.job import Cancel, Item, Job, JobError
from unstuck.store.sqlite import SQLiteStore

KEEP_S = 7 * 86_400.0


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    one = DataFolder(tmp_path)
    one.files.mkdir()
    return one


@pytest.fixture
def steady() -> Clock:
    return Clock(5.0)


def pass_time(seconds: float, *clocks: Clock) -> None:
    for one in clocks:
        one.now += seconds


async def uploaded(store: SQLiteStore, folder: DataFolder, total: int) -> str:
    """A job with inputs, as a submission leaves it."""
    job_id = str(uuid4())
    items = [Item(index=n, name=f"{n}.csv", file=f"{n:05d}.csv") for n in range(total)]
    folder.inputs(job_id).mkdir(parents=True)
    for item in items:
        folder.input(job_id, str(item.file)).write_text("a")
    await store.create(Job(id=job_id, kind="k", name="n", total=total, waiting=total, created_at=1.0), items)
    return job_id


async def finished(store: SQLiteStore, folder: DataFolder, total: int = 2) -> str:
    job_id = await uploaded(store, folder, total)
    await store.apply([finish(one) for one in await store.claim(total, 30.0)])
    assert (await store.snapshot(job_id)).job.done
    return job_id


def inputs(folder: DataFolder, job_id: str) -> list[str]:
    return sorted(path.name for path in folder.inputs(job_id).iterdir())


async def test_only_what_finished_long_enough_ago_goes(
    store: SQLiteStore, folder: DataFolder, clock: Clock, steady: Clock
) -> None:
    keeping = Retention(store, folder, KEEP_S, wall=clock, steady=steady)
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


async def test_more_than_one_batch_goes_in_one_look(
    store: SQLiteStore, folder: DataFolder, clock: Clock, steady: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(r, "BATCH", 3)
    keeping = Retention(store, folder, KEEP_S, wall=clock, steady=steady)
    for _ in range(10):
        await finished(store, folder, 1)
    pass_time(KEEP_S + 1, clock, steady)
    assert await keeping.expire() == 10
    assert folder.job_folders() == []


async def test_zero_keeps_for_ever(store: SQLiteStore, folder: DataFolder, clock: Clock, steady: Clock) -> None:
    keeping = Retention(store, folder, None, wall=clock, steady=steady)
    job_id = await finished(store, folder)
    pass_time(KEEP_S * 1000, clock, steady)
    assert await keeping.expire() == 0
    assert folder.job_folders() == [job_id]


async def test_a_clock_that_is_wrong_for_a_while_costs_nothing(
    store: SQLiteStore, folder: DataFolder, clock: Clock, steady: Clock
) -> None:
    keeping = Retention(store, folder, KEEP_S, wall=clock, steady=steady)
    job_id = await finished(store, folder)
    for jump in (365 * 86_400.0, -365 * 86_400.0):
        clock.now += jump
        for _ in range(5):
            assert await keeping.expire() == 0
            assert await keeping.remove_leftovers() is None
            pass_time(60, clock, steady)
    # A clock that stays where it was set is believed after an hour.
    clock.now += KEEP_S
    assert await keeping.expire() == 0
    pass_time(3_599, clock, steady)
    assert await keeping.expire() == 0
    pass_time(2, clock, steady)
    assert await keeping.expire() == 1
    assert job_id not in folder.job_folders()


async def test_litter_goes_and_an_upload_under_way_stays(
    store: SQLiteStore, folder: DataFolder, steady: Clock
) -> None:
    """The times of files are the machine's, so the wall clock is too."""
    keeping = Retention(store, folder, KEEP_S, wall=time.time, steady=time.monotonic)
    job_id = await finished(store, folder)
    begun = time.time() - 3 * r.DAY_S
    for name in (job_id, "dead", "writing", "starting"):
        folder.inputs(name).mkdir(parents=True, exist_ok=True)
        (folder.inputs(name) / "00000.csv").write_text("half")
    (folder.root / "elsewhere").mkdir()
    (folder.files / "link").symlink_to(folder.root / "elsewhere")
    (folder.files / "stray").write_text("")
    for name in (job_id, "dead", "writing", "starting"):
        for path in (folder.inputs(name) / "00000.csv", folder.inputs(name), folder.job(name)):
            os.utime(path, (begun, begun))
    for name in ("link", "stray"):
        os.utime(folder.files / name, (begun, begun), follow_symlinks=False)
    os.utime(folder.inputs("writing") / "00000.csv")  # a large file that takes days
    os.utime(folder.inputs("starting"))  # files of another job were given to it just now
    assert await keeping.remove_leftovers() == 3
    assert set(folder.job_folders()) == {job_id, "writing", "starting"}
    assert (folder.root / "elsewhere").is_dir()
    await remove_orphans(folder, store)  # the start knows that nothing is under way
    assert folder.job_folders() == [job_id]


async def test_inputs_go_with_their_job_unless_it_is_said(
    store: SQLiteStore, folder: DataFolder, clock: Clock, steady: Clock
) -> None:
    keeping = Retention(store, folder, KEEP_S, wall=clock, steady=steady)
    job_id = await finished(store, folder, 3)
    await keeping.remove_inputs()
    await keeping.remove_leftovers()
    assert len(inputs(folder, job_id)) == 3


async def test_inputs_of_what_succeeded_go_and_others_wait_for_a_retry(
    store: SQLiteStore, folder: DataFolder, clock: Clock, steady: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(r, "BATCH", 2)
    keeping = Retention(store, folder, KEEP_S, keep_inputs=False, wall=clock, steady=steady)
    job_id = await uploaded(store, folder, 8)
    shared = folder.root / "of-a-retry"
    os.link(folder.input(job_id, "00000.csv"), shared)
    claimed = await store.claim(6, 30.0)
    bad = JobError("bad", "no good")
    await store.apply([finish(one) for one in claimed[:4]] + [finish(claimed[4], "failed", bad)])
    await keeping.remove_inputs()
    assert len(inputs(folder, job_id)) == 8, "the job is not over"
    await store.apply([finish(claimed[5], "skipped"), Cancel(job_id)])
    await soon(lambda: keeping._finished)
    await keeping.remove_inputs()
    assert inputs(folder, job_id) == ["00004.csv", "00006.csv", "00007.csv"]
    assert shared.read_text() == "a"


async def test_inputs_that_a_crash_left_behind_go_with_the_daily_look(
    store: SQLiteStore, folder: DataFolder, clock: Clock, steady: Clock
) -> None:
    job_id = await finished(store, folder, 3)
    at_work = await uploaded(store, folder, 3)
    keeping = Retention(store, folder, KEEP_S, keep_inputs=False, wall=clock, steady=steady)
    await keeping.remove_leftovers()
    assert not folder.inputs(job_id).exists()
    assert len(inputs(folder, at_work)) == 3


async def test_no_file_goes_before_its_job_is_gone_for_good(
    store: SQLiteStore, folder: DataFolder, clock: Clock, steady: Clock
) -> None:
    keeping = Retention(store, folder, KEEP_S, wall=clock, steady=steady)
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


async def test_what_cannot_be_removed_is_told_and_stops_nothing(
    store: SQLiteStore, folder: DataFolder, clock: Clock, steady: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A mount point in a job's folder can be removed by nobody, root included."""
    job_id, other = await finished(store, folder, 1), await finished(store, folder, 1)
    pinned = folder.job(job_id) / "out"
    with mounted(pinned):
        keeping = Retention(store, folder, KEEP_S, wall=clock, steady=steady)
        pass_time(KEEP_S + 1, clock, steady)
        assert await keeping.expire() == 2
        assert folder.job_folders() == [job_id]
        assert f"Files cannot be removed, trying again within a day: job={job_id} error=" in caplog.text
        await remove_orphans(folder, store)
        assert f"Orphaned folder cannot be removed; check its owner: path={folder.job(job_id)}" in caplog.text
    await remove_orphans(folder, store)
    assert folder.job_folders() == []
    assert other not in folder.job_folders()


async def test_the_task_outlives_a_store_that_fails(folder: DataFolder, tmp_path: Path) -> None:
    closed = SQLiteStore(tmp_path / "closed.db")
    looks = []

    def steady() -> float:
        looks.append(time.monotonic())
        return looks[-1]

    task = asyncio.create_task(Retention(closed, folder, 0.5, steady=steady).run())
    try:
        await soon(lambda: len(looks) > 10)  # the store is not open yet, and every look fails
        await closed.open()
        job_id = await finished(closed, folder, 1)
        await soon(lambda: job_id not in folder.job_folders())
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await closed.close()
