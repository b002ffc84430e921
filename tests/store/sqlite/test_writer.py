"""The writer's thread breaks outside of any caller's work: all waiting callers get an answer, and it restarts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.jobs import submitted
from tests.support.waiting import soon
from unstuck.errors import StoreUnavailable
from unstuck.jobs.job import Cancel, HealthLimits
from unstuck.store import writer
from unstuck.store.sqlite import SQLiteStore
from unstuck.store.sqlite_writer import SQLiteWriter
from unstuck.store.transaction import Work
from unstuck.supervision.backoff import Backoff


@pytest.fixture
def break_once(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make the writer's method of this name raise once."""

    def prepare(name: str) -> None:
        whole = getattr(SQLiteWriter, name)

        def broken(*_: Any) -> None:
            monkeypatch.setattr(SQLiteWriter, name, whole)
            raise KeyError("as the test asks")

        monkeypatch.setattr(SQLiteWriter, name, broken)

    return prepare


async def test_a_commit_is_not_repeated_when_the_publishing_breaks(
    store: SQLiteStore, break_once: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    job_id = await submitted(store)
    break_once("_publish")
    with pytest.raises(StoreUnavailable, match="is not known"):
        await store.apply([Cancel(job_id)])
    assert store.trouble == "its writer broke (KeyError('as the test asks'))"
    await soon(lambda: store.writer_loop.restarts == 1)
    (record,) = [one for one in caplog.records if one.name == "unstuck.supervision"]
    assert record.getMessage().startswith("Loop failed, starting it again: loop='store writer' pause_s=")
    assert record.exc_info is not None
    snapshot = await store.snapshot(job_id)
    assert (snapshot.job.state, snapshot.job.seq) == ("cancelled", 2)
    await store.check_writable()
    assert store.trouble is None


async def test_waiting_and_new_callers_are_refused_while_the_writer_is_down(
    store: SQLiteStore, break_once: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "BATCH", 1)  # so that some requests are being served and others still queued
    monkeypatch.setattr(store.writer_loop, "_pause", Backoff(2.0, 2.0))
    job_id = await submitted(store)
    held = threading.Event()
    blocking = asyncio.ensure_future(store._write(Work(lambda _: held.wait(30))))
    await soon(lambda: store._writer is not None and store._writer._requests.empty())
    waiting = [asyncio.ensure_future(store.apply([Cancel(job_id)])) for _ in range(3)]
    sweeping = asyncio.ensure_future(asyncio.to_thread(store.sweep, HealthLimits()))
    await soon(lambda: store._writer is not None and store._writer._requests.qsize() == 4)
    break_once("_serve")
    held.set()
    assert await blocking
    outcomes = await asyncio.gather(*waiting, sweeping, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 4
    with pytest.raises(StoreUnavailable, match="nothing was changed"):
        await store.apply([Cancel(job_id)])
    assert store.writer_loop.restarts == 0, "the refusal did not wait for the restart"
    await soon(lambda: store.writer_loop.restarts == 1)
    await store.apply([Cancel(job_id)])
    assert (await store.snapshot(job_id)).job.seq == 2


async def test_a_store_with_a_broken_writer_can_be_closed(
    store: SQLiteStore, break_once: Callable[[str], None]
) -> None:
    break_once("_serve")
    with pytest.raises(StoreUnavailable):
        await submitted(store)
    async with asyncio.timeout(10):
        await store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.check_writable()
