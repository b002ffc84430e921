"""An update writes every changed column of a job or an item, whichever columns changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from unstuck.jobs.job import Health, Item, ItemState, Job, JobError, State
from unstuck.jobs.rate import Meter
from unstuck.store import rows, schema
from unstuck.store.row_updates import ITEMS, JOBS, RowUpdates
from unstuck.store.sqlite_connection import SQLiteConnection

JOB = Job(id="1", kind="checksum", name="", total=3, waiting=3, created_at=1.0)
ITEM = Item(index=4, name="4.csv", size=1, file="4")
#: A different value for every field that may change.
JOB_MOVES: dict[str, Any] = {
    "total": 7, "waiting": 2, "state": State.RUNNING, "health": Health.STALLED, "seq": 2, "attempt": 2,
    "open_end": True, "leased": 1, "succeeded": 1, "failed": 1, "skipped": 1, "cancelled": 1, "partial": 0.1,
    "percent": 33.3, "meter": Meter(0.1, 20.0, 5.0), "cancel_requested": True, "cancel_requested_at": 3.0,
    "error": JobError("broken", "no"), "stage": "packing", "message": "so far", "started_at": 2.5,
    "progress_at": 2.6, "heartbeat_at": 2.7, "finished_at": 2.8,
}  # fmt: skip
ITEM_MOVES: dict[str, Any] = {
    "state": ItemState.FAILED, "seq": 2, "lease": 1, "lease_until": 9.5, "not_before": 8.5, "worker": "w",
    "attempt": 1, "progress": 0.25, "message": "a word", "error": JobError("broken", "no", transient=True),
    "result": {"a": [1]}, "result_file": "result", "started_at": 2.5, "finished_at": 3.5,
}  # fmt: skip
FIXED = {"id", "kind", "name", "created_at", "options", "priority", "max_attempts", "max_errors", "item_limit_s",
         "deadline_at", "webhook_url", "retry_of", "external", "counted", "unit", "units", "lost_after_s", "index",
         "size", "file"}  # fmt: skip


@pytest.fixture
def connection() -> Iterator[SQLiteConnection]:
    connection = sqlite3.connect(":memory:", isolation_level=None, factory=SQLiteConnection)
    schema.migrate(connection)
    connection.execute(connection.statements.insert_job, rows.job_values(JOB)).fetchone()
    connection.insert_items([rows.item_values(1, ITEM)])
    yield connection
    connection.close()


def test_every_changeable_field_is_covered() -> None:
    assert set(Job.__struct_fields__) - FIXED == set(JOB_MOVES)
    assert set(Item.__struct_fields__) - FIXED == set(ITEM_MOVES)


def combinations(moves: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each change alone, each with a change of `seq`, and all together."""
    return [*({name: moves[name]} for name in moves), *({"seq": 2, name: moves[name]} for name in moves), moves]


@pytest.mark.parametrize("moves", combinations(JOB_MOVES), ids=lambda moves: "+".join(moves))
def test_a_changed_job_is_read_as_it_was_written(connection: SQLiteConnection, moves: dict[str, Any]) -> None:
    job = JOB
    for after in (replace(JOB, **moves), JOB):  # changed, and changed back
        updates = RowUpdates()
        updates.add(JOBS, 1, job, after)
        updates.execute(connection)
        assert rows.find_job(connection, "1") == (1, after)
        job = after


@pytest.mark.parametrize("moves", combinations(ITEM_MOVES), ids=lambda moves: "+".join(moves))
def test_a_changed_item_is_read_as_it_was_written(connection: SQLiteConnection, moves: dict[str, Any]) -> None:
    item = ITEM
    for after in (replace(ITEM, **moves), ITEM):
        updates = RowUpdates()
        updates.add(ITEMS, 1, item, after)
        updates.execute(connection)
        assert rows.find_item(connection, 1, 4) == after
        item = after
