"""Short items are claimed in batches and sent ahead, without delaying other jobs."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.support.jobs import submitted, until_done
from tests.support.waiting import soon
from unstuck.files.folder import DataFolder
from unstuck.files.local import LocalFiles
from unstuck.jobs.job import Cancel, Item, Job
from unstuck.runner import assignment
from unstuck.runner.prefetch import MOST_AHEAD, Prefetch
from unstuck.runner.registry import ItemRegistry
from unstuck.runner.runner import Runner, RunnerConfig
from unstuck.runner.write_buffer import WriteBuffer
from unstuck.store.sqlite import SQLiteStore
from unstuck.supervision.supervisor import supervising

KINDS = """
import os, time
from pathlib import Path
import unstuck

@unstuck.kind("quick", needs_file=False)
def quick(
    file: Path | None, report: unstuck.Report, *,
    gate: str = "", at: int = -1, bad_from: int = 9_999, size: int = 0,
) -> dict:
    if int(report.name.removesuffix(".csv")) >= bad_from:
        raise unstuck.Failed("as was asked for")
    if int(report.name.removesuffix(".csv")) == at and report.attempt == 1:
        report(None, message=str(os.getpid()))
        while not Path(gate).exists():
            time.sleep(0.005)
            if report.cancelled:
                raise unstuck.Cancelled
    return {"attempt": report.attempt, "pid": os.getpid(), "text": "x" * size}
"""


#: A worker on a busy machine: it reads each message from the runner late.
SLOW_LISTENER = """
import __main__

handle = __main__.Worker._handle

def handle_late(worker, message):
    handle(worker, message)
    time.sleep(0.001)

__main__.Worker._handle = handle_late
"""


@asynccontextmanager
async def running(
    store: SQLiteStore, tmp_path: Path, workers: int = 2, more_code: str = ""
) -> AsyncIterator[Runner]:
    app = tmp_path / "mywork.py"
    app.write_text(KINDS + more_code)
    runner = Runner(
        store, LocalFiles(DataFolder(tmp_path)), RunnerConfig(app=str(app), workers=workers, cancel_grace_s=0.5)
    )
    try:
        async with supervising() as supervisor:
            await runner.start(supervisor)
            yield runner
    finally:
        await runner.stop()


def gated(tmp_path: Path, at: int) -> dict[str, object]:
    return {"gate": str(tmp_path / "gate"), "at": at}


async def until_gated(store: SQLiteStore, job_id: str, at: int) -> Item:
    """Wait until the item `at` waits at the gate, and return it."""
    while (item := await store.item(job_id, at)) is None or item.message is None:
        await asyncio.sleep(0.01)
    return item


async def processed(store: SQLiteStore, job_id: str) -> int:
    return (await store.snapshot(job_id)).job.processed


async def test_workers_have_many_short_items_at_once(store: SQLiteStore, tmp_path: Path) -> None:
    async with running(store, tmp_path) as runner:
        job_id = await submitted(store, 2_000, kind="quick")
        most = 0
        while not (await store.snapshot(job_id)).job.done:
            most = max(most, sum(item.worker is not None for item in runner._items.held()))
            await asyncio.sleep(0.001)
        assert 20 < most <= 2 * (1 + MOST_AHEAD)


async def test_results_that_fill_a_pipe_get_through(store: SQLiteStore, tmp_path: Path) -> None:
    async with running(store, tmp_path) as runner:
        job_id = await submitted(store, 200, kind="quick", options={"size": 60_000})
        assert (await until_done(store, job_id)).succeeded == 200
        assert {len(str((item.result or {})["text"])) for item in await store.items(job_id, limit=200)} == {60_000}
        assert runner.deaths == 0


async def test_few_items_fail_beyond_max_errors_after_a_good_start(store: SQLiteStore, tmp_path: Path) -> None:
    async with running(store, tmp_path):
        job_id = await submitted(store, 2_000, kind="quick", options={"bad_from": 500}, max_errors=3)
        job = await until_done(store, job_id)
        assert job.error is not None
        assert (job.state, job.error.code) == ("failed", "too_many_errors")
        assert 3 < job.failed < 20


async def test_items_sent_behind_a_long_one_are_done_by_other_workers(store: SQLiteStore, tmp_path: Path) -> None:
    async with running(store, tmp_path):
        job_id = await submitted(store, 600, kind="quick", options=gated(tmp_path, 300))
        while await processed(store, job_id) < 599:
            await asyncio.sleep(0.01)
        (tmp_path / "gate").touch()
        job = await until_done(store, job_id)
        assert (job.state, job.succeeded) == ("completed", 600)
        assert {(item.attempt, item.lease) for item in await store.items(job_id, limit=600)} == {(1, 1)}
        assert {entry.what for entry in await store.timeline(job_id)} <= {"submitted", "state"}


@pytest.mark.parametrize("more_code", ["", SLOW_LISTENER], ids=["", "slow listener"])
async def test_a_cancel_ends_what_was_sent_ahead(
    store: SQLiteStore, tmp_path: Path, more_code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assignment, "RECALL_S", 60.0)  # else they may have been recalled before the cancel
    async with running(store, tmp_path, 1, more_code):
        job_id = await submitted(store, 600, kind="quick", options=gated(tmp_path, 300))
        await until_gated(store, job_id, 300)
        await store.apply([Cancel(job_id)])
        job = await until_done(store, job_id)
        assert (job.state, job.succeeded, job.cancelled) == ("cancelled", 300, 300)
        other = await submitted(store, 3, kind="quick")
        assert (await until_done(store, other)).state == "completed"


async def test_a_dying_worker_costs_its_current_item_an_attempt(store: SQLiteStore, tmp_path: Path) -> None:
    async with running(store, tmp_path, workers=1) as runner:
        job_id = await submitted(store, 400, kind="quick", options=gated(tmp_path, 200))
        item = await until_gated(store, job_id, 200)
        os.kill(int(item.message or ""), signal.SIGKILL)
        assert (await until_done(store, job_id)).state == "completed"
        attempts = {one.index: one.attempt for one in await store.items(job_id, limit=400)}
        assert {index for index, attempt in attempts.items() if attempt != 1} == {200}
        assert attempts[200] == 2
        assert runner.deaths == 1


async def test_a_small_job_overtakes_the_prefetched_items_of_a_large_one(
    store: SQLiteStore, tmp_path: Path
) -> None:
    async with running(store, tmp_path):
        large = await submitted(store, 5_000, kind="quick")
        while await processed(store, large) < 500:
            await asyncio.sleep(0.005)
        small = await submitted(store, 3, kind="quick")
        before = await processed(store, large)
        assert (await until_done(store, small)).state == "completed"
        # Only items that were sent ahead, or are written in the same batch, come first. It takes 0.06 s, in which
        # a thousand items are done.
        assert await processed(store, large) - before < 2_500
        await store.apply([Cancel(large)])
        await until_done(store, large)


async def test_only_short_items_are_claimed_in_batches(store: SQLiteStore) -> None:
    held = ItemRegistry(30.0)
    prefetch = Prefetch(store, held, WriteBuffer(store, held, 0.2), workers=2, worker="us")
    claiming = asyncio.create_task(prefetch.run())
    try:
        job_id = await submitted(store, 500, kind="quick")
        await prefetch.next()
        job = (await store.snapshot(job_id)).job
        prefetch.on_commit(job_id, job)
        assert len(held) == 4, "the duration is not known"
        assert prefetch.take_ahead(job_id, 0) == []
        prefetch.record_duration(job_id, 1.0)
        for _ in range(4):
            await prefetch.next()
        assert len(held) == 8, "the items take long"
        prefetch.record_duration(job_id, 0.0005, 60)
        for _ in range(4):
            await prefetch.next()
        assert len(held) == 8 + 2 * 128
        ahead = prefetch.take_ahead(job_id, 0)
        assert 50 < len(ahead) <= 60
        assert prefetch.take_ahead(job_id, 31) == [], "the worker has enough"
        prefetch.put_back(ahead)
        assert await prefetch.next() is ahead[0]
        assert prefetch.take_ahead("another", 0) == []
        prefetch.on_commit(job_id, replace(job, max_errors=5))
        assert len(prefetch.take_ahead(job_id, 0)) == 5, "as many as are allowed to fail"
        prefetch.on_commit(job_id, replace(job, max_errors=0))
        assert prefetch.take_ahead(job_id, 0) == []
        renewals = held.renewals()
        assert len(renewals) == 8 + 2 * 128
        assert all(isinstance(outcome, Job) for outcome in await store.apply(renewals))
    finally:
        claiming.cancel()
        await soon(claiming.done)
