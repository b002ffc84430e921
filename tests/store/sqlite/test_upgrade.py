"""A database that an older version left in the middle of its work is upgraded as a whole, or left unchanged.

Two migrations were edited after their version was in use, so two versions have two editions each.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.clock import Clock
from tests.support.editions import DONE, EDITIONS, JOB, made_by
from unstuck.errors import CannotStart
from unstuck.jobs.job import Finish, HealthLimits, ItemState, State
from unstuck.store.connection import open_checked
from unstuck.store.sqlite import SQLiteStore

#: Each edition, and each as the versions until 4 upgraded it, which did not see what an edition lacked.
HISTORIES = [(edition, version) for edition in EDITIONS for version in range(int(edition[0]), 5)]


def test_there_is_an_edition_of_every_version_until_4() -> None:
    assert {int(edition[0]) for edition in EDITIONS} == {1, 2, 3, 4}


@pytest.mark.parametrize(("edition", "version"), HISTORIES)
async def test_unfinished_work_continues(edition: str, version: int, tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "unstuck.db"
    made_by(edition, path, version)
    store = SQLiteStore(path, clock=clock)
    await store.open()
    try:
        before = (await store.snapshot(JOB.id)).job
        assert (before.state, before.seq, before.succeeded, before.percent) == (State.RUNNING, 7, 1, 34.0)
        assert (await store.overview()).by_state == {"running": 1}
        store.sweep(HealthLimits(), ended="an earlier run")
        for claimed in await store.claim(5, 30.0):
            item = claimed.item
            await store.apply([Finish(JOB.id, item.index, item.lease, ItemState.SUCCEEDED, clock())])
        after = (await store.snapshot(JOB.id)).job
        assert (after.state, after.succeeded) == (State.COMPLETED, 3)
        assert after.seq > 7
        assert (await store.item(JOB.id, 0)) == DONE
        await store.remove(JOB.id)
        assert sum((await store.overview()).by_state.values()) == 0
    finally:
        await store.close()


@pytest.mark.parametrize(("edition", "version"), HISTORIES)
def test_an_upgraded_database_has_the_schema_of_a_new_one(edition: str, version: int, tmp_path: Path) -> None:
    made_by(edition, tmp_path / "old.db", version)
    assert shape(tmp_path / "old.db") == shape(tmp_path / "new.db")


def shape(path: Path) -> list[tuple[str, str, str]]:
    """Return the statements that created what is in the database, without their comments."""
    with closing(open_checked(path)) as connection:
        found = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return sorted((kind, name, re.sub(r"--[^\n]*|\s+", "", sql)) for kind, name, sql in found)


def test_a_failed_upgrade_leaves_the_old_database_intact(tmp_path: Path) -> None:
    path = tmp_path / "unstuck.db"
    made_by("1", path)
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.execute("CREATE TABLE deliveries (in_the_way INTEGER)")  # created last in the second step
    with pytest.raises(CannotStart, match="deliveries"):
        open_checked(path)
    with closing(sqlite3.connect(path)) as old:
        assert old.execute("PRAGMA user_version").fetchone() == (1,)
        assert "health" not in [row[1] for row in old.execute("PRAGMA table_info(jobs)")]
        assert old.execute("SELECT count(*) FROM items").fetchone() == (3,)


def test_each_database_has_its_own_identity(tmp_path: Path) -> None:
    def identity(name: str) -> str:
        with closing(open_checked(tmp_path / name)) as connection:
            return str(connection.execute("SELECT id FROM identity").fetchone()[0])

    made_by("4", tmp_path / "old.db")
    found = [identity(name) for name in ("old.db", "a.db", "b.db", "a.db")]
    assert len(set(found)) == 3
    assert found[1] == found[3]
