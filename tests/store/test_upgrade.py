"""A database that an older version left in the middle of its work is upgraded as a whole, or left unchanged."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.support.clock import Clock
from unstuck.errors import CannotStart
from unstuck.jobs.job import Finish, HealthLimits, Item, ItemState, Job, State
from unstuck.store import rows, schema
from unstuck.store.connection import open_checked
from unstuck.store.sqlite import SQLiteStore

JOB = Job(
    id="1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b", kind="checksum", name="of old", total=3, waiting=1, created_at=1.0
)
RUNNING = replace(JOB, state=State.RUNNING, seq=7, leased=1, succeeded=1, attempt=1, started_at=2.0, percent=34.0)
DONE = Item(index=0, name="done", state=ItemState.SUCCEEDED, seq=5, lease=1, attempt=1, result={"rows": 7})
HELD = Item(index=1, name="under way", state=ItemState.RUNNING, seq=7, lease=1, lease_until=31.0, attempt=1)
ITEMS = (DONE, HELD, Item(index=2, name="waits"))


def made_by(version: int, path: Path) -> None:
    """Create a database of that version with a running job, as far as the version had columns for it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.executescript("".join(schema.MIGRATIONS[:version]))
        old.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        old.execute(f"PRAGMA user_version = {version}")
        put(old, "jobs", dict(zip(rows.JOB_COLUMNS, rows.job_values(RUNNING), strict=True)))
        for item in ITEMS:
            names = ("job", *rows.ITEM_COLUMNS)
            put(old, "items", dict(zip(names, rows.item_values(1, item), strict=True)))


def put(connection: sqlite3.Connection, table: str, values: dict[str, object]) -> None:
    known = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[1] in values]
    marks = ", ".join("?" * len(known))
    connection.execute(
        f"INSERT INTO {table} ({', '.join(known)}) VALUES ({marks})", [values[name] for name in known]
    )


@pytest.mark.parametrize("version", range(1, schema.VERSION))
async def test_unfinished_work_continues(version: int, tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "unstuck.db"
    made_by(version, path)
    store = SQLiteStore(path, clock=clock)
    await store.open()
    try:
        before = (await store.snapshot(JOB.id)).job
        assert (before.state, before.seq, before.succeeded, before.percent) == (State.RUNNING, 7, 1, 34.0)
        store.sweep(HealthLimits(), everything=True)
        for claimed in await store.claim(5, 30.0):
            item = claimed.item
            await store.apply([Finish(JOB.id, item.index, item.lease, ItemState.SUCCEEDED, clock())])
        after = (await store.snapshot(JOB.id)).job
        assert (after.state, after.succeeded) == (State.COMPLETED, 3)
        assert after.seq > 7
        assert (await store.item(JOB.id, 0)) == DONE
    finally:
        await store.close()


@pytest.mark.parametrize("version", range(1, schema.VERSION))
def test_an_upgraded_database_has_the_schema_of_a_new_one(version: int, tmp_path: Path) -> None:
    made_by(version, tmp_path / "old.db")
    assert shape(tmp_path / "old.db") == shape(tmp_path / "new.db")


def shape(path: Path) -> list[tuple[str, ...]]:
    with closing(open_checked(path)) as connection:
        return connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()


def test_a_failed_upgrade_leaves_the_old_database_intact(tmp_path: Path) -> None:
    path = tmp_path / "unstuck.db"
    made_by(1, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.execute("CREATE TABLE deliveries (in_the_way INTEGER)")  # created last in the second step
    with pytest.raises(CannotStart, match="deliveries"):
        open_checked(path)
    with closing(sqlite3.connect(path)) as old:
        assert old.execute("PRAGMA user_version").fetchone() == (1,)
        assert "health" not in [row[1] for row in old.execute("PRAGMA table_info(jobs)")]
        assert old.execute("SELECT count(*) FROM items").fetchone() == (3,)
