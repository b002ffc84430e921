"""Rows that cannot be read in full: each is shown as far as it can be, and costs itself only."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from typing import Any

import anyio.to_thread
import msgspec
import pytest

from tests.support.jobs import submitted
from unstuck.errors import JobFinished
from unstuck.jobs.job import Cancel, HealthLimits, ItemState, Job, State
from unstuck.store.protocol import JobFilter
from unstuck.store.sqlite import SQLiteStore


def damage(store: SQLiteStore, table: str, where: str, **values: Any) -> None:
    """Put these values into the rows; bytes become a text that is no UTF-8."""
    with closing(sqlite3.connect(store.path, isolation_level=None)) as connection:
        for name, value in values.items():
            form = "CAST(? AS TEXT)" if isinstance(value, bytes) else "?"
            connection.execute(f"UPDATE {table} SET {name} = {form} WHERE {where}", (value,))


async def read(store: SQLiteStore, job_id: str) -> Job:
    return (await store.snapshot(job_id)).job


@pytest.mark.parametrize(
    "values",
    [
        {"state": "sleeping"},
        {"options": "{"},
        {"options": "[" * 5_000},
        {"total": 2**62},
        {"waiting": -1},
        {"external": 2},
        {"error": '{"code": 1}'},
        {"retry_of": "x", "priority": -(2**63)},
        {"lost_after_s": float("inf")},
        {"item_limit_s": -1.0},
    ],
)
async def test_a_job_whose_record_is_damaged_is_over_and_says_so(store: SQLiteStore, values: Any) -> None:
    bad, good = await submitted(store, priority=5), await submitted(store)
    damage(store, "jobs", f"id = '{bad}'", **values)
    job = await read(store, bad)
    assert job.done
    assert job.error is not None
    assert job.error.code == "unreadable"
    assert (job.id, job.name, job.kind) == (bad, "3 files", "checksum"), "what can be read is shown"
    assert 0 <= job.total <= 2**53
    msgspec.convert(msgspec.to_builtins(job), type(job))
    listed = [snapshot.job.id for _, snapshot in await store.jobs(JobFilter(), before=None, limit=10)]
    assert listed == [good, bad]
    claimed = await store.claim(2, 30.0)
    assert [one.job_id for one in claimed] == [good, good], "it takes no worker from the others"
    await anyio.to_thread.run_sync(store.sweep, HealthLimits(expiry_s=1.0))
    (outcome,) = await store.apply([Cancel(bad)])
    assert isinstance(outcome, JobFinished)
    await store.remove(bad)


@pytest.mark.parametrize(
    "values",
    [{"meter": "{"}, {"meter": '{"at": 1e400}'}, {"percent": 1e300}, {"partial": float("inf")}, {"health": "x"}],
)
async def test_a_job_goes_on_without_values_that_are_computed_anew(store: SQLiteStore, values: Any) -> None:
    job_id = await submitted(store)
    damage(store, "jobs", f"id = '{job_id}'", **values)
    job = await read(store, job_id)
    assert (job.state, job.error, job.waiting) == (State.QUEUED, None, 3)
    assert len(await store.claim(3, 30.0)) == 3


async def test_an_item_whose_record_is_damaged_is_shown_among_the_others(store: SQLiteStore) -> None:
    job_id = await submitted(store)
    damage(store, "items", "idx = 1", state="sleeping", result="{", name=b"\xed\xa0\x80", lease=-7)
    items = await store.items(job_id)
    assert [item.state for item in items] == [ItemState.PENDING, ItemState.FAILED, ItemState.PENDING]
    assert items[1].error is not None
    assert (items[1].error.code, items[1].lease, items[1].result) == ("unreadable", 0, None)
    assert items[1].name == "\ufffd" * 3
    assert len(await store.claim(9, 30.0)) == 2


async def test_an_item_whose_numbers_cannot_rise_keeps_none_from_being_claimed(store: SQLiteStore) -> None:
    await submitted(store)
    damage(store, "items", "idx = 1", lease=2**63 - 1, attempt=2**63 - 1)
    assert len(await store.claim(9, 30.0)) == 3


@pytest.mark.parametrize("index", [2**62, -5])
async def test_an_item_whose_index_no_command_can_name_is_left_alone(store: SQLiteStore, index: int) -> None:
    bad, good = await submitted(store, priority=5), await submitted(store)
    assert len(await store.claim(3, 1.0)) == 3
    damage(store, "items", "idx = 1 AND lease_until IS NOT NULL", idx=index)
    assert await store.rescue(bad, "tried by hand") == 2
    assert [one.item.index for one in await store.claim(9, 30.0) if one.job_id == bad] == [0, 2]
    await anyio.to_thread.run_sync(store.sweep, HealthLimits())
    assert (await read(store, good)).error is None


async def test_items_of_impossible_numbers_do_not_make_pages_endless(store: SQLiteStore) -> None:
    job_id = await submitted(store)
    damage(store, "items", "idx = 1", idx=2**62)
    damage(store, "items", "idx = 2", seq=2**62)
    assert [item.index for item in await store.items(job_id)] == [0, 2]
    assert [item.index for item in await store.items(job_id, after_seq=0)] == [0]


async def test_numbers_too_large_to_be_added_up_do_not_take_the_health_down(store: SQLiteStore) -> None:
    for _ in range(3):
        await submitted(store)
    damage(store, "jobs", "true", waiting=2**63 - 1, leased=-(2**63), created_at=float("-inf"))
    overview = await store.overview()
    assert (overview.waiting_items, overview.leased_items, overview.oldest_wait_s) == (2**53, 0, 2**53)


async def test_a_damaged_row_is_logged_and_counted_once(
    store: SQLiteStore, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = await submitted(store)
    before = (await store.overview()).unreadable
    damage(store, "jobs", f"id = '{job_id}'", options="{", total=-1)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            await store.jobs(JobFilter(), before=None, limit=10)
    assert [record.getMessage() for record in caplog.records] == [
        f"Row cannot be read in full, the rest is shown: table=jobs row='{job_id}' item=-1 fields=total,options"
    ]
    assert (await store.overview()).unreadable == before + 1
