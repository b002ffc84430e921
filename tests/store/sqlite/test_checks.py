"""The file of the SQLite store belongs to one server, and is opened, refused, or held by another program."""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path

import anyio.to_thread
import pytest

from tests.support.jobs import finish, submitted
from unstuck.errors import CannotStart, LeaseLost, StoreUnavailable
from unstuck.jobs.job import Cancel, HealthLimits, State
from unstuck.store import schema
from unstuck.store.sqlite import SQLiteStore


async def test_jobs_survive_a_restart(tmp_path: Path) -> None:
    first = SQLiteStore(tmp_path / "s.db")
    await first.open()
    job_id = await submitted(first, 2)
    (claimed,) = await first.claim(1, 30.0)
    await first.apply([finish(claimed)])
    await first.close()
    second = SQLiteStore(tmp_path / "s.db")
    await second.open()
    items = await second.items(job_id)
    assert [item.state for item in items] == ["succeeded", "pending"]
    assert items[0].result == {"n": 0}
    await second.close()


async def test_a_foreign_lock_is_reported_and_passes(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = await submitted(store, 1)
    foreign = sqlite3.connect(store.path, isolation_level=None)
    foreign.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        await store.apply([Cancel(job_id)])
    assert (await store.snapshot(job_id)).job.state is State.QUEUED, "reads still work"
    foreign.execute("ROLLBACK")
    foreign.close()
    await store.check_writable()
    await store.apply([Cancel(job_id)])
    assert (await store.snapshot(job_id)).job.state is State.CANCELLED


async def opened(path: Path) -> None:
    store = SQLiteStore(path)
    await store.open()
    await store.close()


async def test_a_foreign_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "unstuck.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (a)")
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(CannotStart, match="not a database of unstuck"):
        await opened(path)
    assert path.read_bytes() == before


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "unstuck.db"
    await opened(path)
    newer = sqlite3.connect(path)
    newer.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    newer.close()
    with pytest.raises(CannotStart, match="newer version of unstuck"):
        await opened(path)


@pytest.mark.parametrize("offset", [0, 4096])
async def test_a_damaged_database_is_refused(tmp_path: Path, offset: int) -> None:
    path = tmp_path / "unstuck.db"
    store = SQLiteStore(path)
    await store.open()
    await submitted(store, 500)
    await store.close()
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 2000)
    damaged = path.read_bytes()
    with pytest.raises(CannotStart, match="Restore it from a backup"):
        await opened(path)
    assert path.read_bytes() == damaged


async def test_a_foreign_write_is_noticed(store: SQLiteStore) -> None:
    await submitted(store, 1)
    (claimed,) = await store.claim(1, 30.0)
    foreign = sqlite3.connect(store.path)
    with foreign:
        foreign.execute("UPDATE items SET lease = lease + 1")
    foreign.close()
    (refusal,) = await store.apply([finish(claimed)])
    assert isinstance(refusal, LeaseLost)


async def test_all_leases_of_an_ended_server_lapse_at_once(store: SQLiteStore) -> None:
    job_id = await submitted(store, 3)
    await store.claim(2, 30.0)
    swept = await anyio.to_thread.run_sync(partial(store.sweep, HealthLimits(), ended="an earlier run"))
    assert list(swept.lapsed) == [(job_id, 0, 1), (job_id, 1, 1)]
    assert len(await store.claim(3, 30.0)) == 3
