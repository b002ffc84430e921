"""The database is deleted, moved, replaced, overwritten or made read-only while the store is open.

Nothing is acknowledged from then on, the reason is said, and what was acknowledged before is in the first file.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import anyio.to_thread
import pytest

from tests.support.jobs import submitted
from unstuck.errors import CannotStart, StoreUnavailable
from unstuck.jobs.job import Cancel, HealthLimits
from unstuck.store import database_file
from unstuck.store.sqlite import SQLiteStore


@pytest.fixture(autouse=True)
def look_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_file, "LOOK_S", 0.0)


def ids(path: Path) -> set[str]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return {row[0] for row in database.execute("SELECT id FROM jobs")}


def checkpoint(path: Path) -> None:
    """Bring everything into the database itself, as another program may do."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def other_database(path: Path) -> Path:
    """Make a database of the same version that this store never wrote."""
    other = path.with_name("other")
    other.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as source, contextlib.closing(
        sqlite3.connect(other / "unstuck.db")
    ) as target:  # fmt: skip
        source.backup(target)
        target.execute("DELETE FROM jobs")
        target.execute("INSERT OR REPLACE INTO pulse VALUES (1, 1.5)")
        target.commit()
        target.execute("PRAGMA journal_mode = WAL")
    return other / "unstuck.db"


def delete(path: Path) -> None:
    for name in ("unstuck.db", "unstuck.db-wal", "unstuck.db-shm"):
        (path.parent / name).unlink()


def delete_log(path: Path) -> None:
    log_of(path).unlink()


def replace_log(path: Path) -> None:
    shutil.copy(log_of(path), path.parent / "copy")
    (path.parent / "copy").replace(log_of(path))


def delete_index(path: Path) -> None:
    path.with_name("unstuck.db-shm").unlink()


def move_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))


def move_folder_and_make_another(path: Path) -> None:
    move_folder(path)
    path.parent.mkdir()
    shutil.copy(path.parent.with_name("moved") / "unstuck.db", path)


def replace(path: Path) -> None:
    other_database(path).replace(path)


def overwrite(path: Path) -> None:
    path.write_bytes(other_database(path).read_bytes())


def overwrite_by_a_same_size(path: Path) -> None:
    checkpoint(path)
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.write(content[:100] + bytes(len(content) - 100))


def empty(path: Path) -> None:
    os.truncate(path, 0)


def make_read_only(path: Path) -> None:
    path.chmod(0o444)


@pytest.fixture
async def store(tmp_path: Path) -> SQLiteStore:
    (tmp_path / "data").mkdir()
    store = SQLiteStore(tmp_path / "data" / "unstuck.db")
    await store.open()
    return store


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (delete, "deleted or moved"),
        (delete_log, "db-wal was deleted"),
        (replace_log, "db-wal was replaced"),
        (delete_index, "db-shm was deleted"),
        (move_folder, "deleted or moved"),
        (move_folder_and_make_another, "replaced by another file"),
        (replace, "replaced by another file"),
        (overwrite, "overwritten"),
        (overwrite_by_a_same_size, "overwritten"),
        (empty, "overwritten"),
        (make_read_only, "read-only"),
    ],
)
async def test_harm_is_noticed_by_the_next_write(
    store: SQLiteStore, harm: Callable[[Path], None], reason: str
) -> None:
    job_id = await submitted(store)
    harm(store.path)
    try:
        for attempt in range(3):
            with pytest.raises(StoreUnavailable, match=reason):
                await store.apply([Cancel(job_id)])
            assert store.trouble is not None, attempt
            with pytest.raises(StoreUnavailable, match=reason):
                await store.check_writable()
    finally:
        await store.close()


@pytest.mark.parametrize("harm", [delete_log, replace_log])
async def test_what_was_acknowledged_before_the_log_was_lost_is_kept(
    store: SQLiteStore, harm: Callable[[Path], None], tmp_path: Path
) -> None:
    job_id = await submitted(store)
    harm(store.path)
    with pytest.raises(StoreUnavailable):
        await store.check_writable()
    shutil.copy(store.path, tmp_path / "as_after_a_kill.db")
    assert ids(tmp_path / "as_after_a_kill.db") == {job_id}
    await store.close()


async def test_a_database_that_is_put_back_is_used_again(store: SQLiteStore) -> None:
    job_id = await submitted(store)
    folder = store.path.parent
    folder.rename(folder.with_name("moved"))
    with pytest.raises(StoreUnavailable, match="nothing was changed"):
        await submitted(store)
    assert (await store.snapshot(job_id)).job.seq == 1, "reads are served"
    folder.with_name("moved").rename(folder)
    await store.apply([Cancel(job_id)])
    assert store.trouble is None
    await store.close()
    assert ids(store.path) == {job_id}


async def test_a_database_that_becomes_writable_is_used_again(store: SQLiteStore) -> None:
    store.path.chmod(0o400)
    with pytest.raises(StoreUnavailable, match="read-only"):
        await store.check_writable()
    with pytest.raises(StoreUnavailable, match="nothing was changed"):
        await submitted(store)
    store.path.chmod(0o600)
    await submitted(store)
    assert store.trouble is None
    await store.close()


async def test_an_older_copy_of_the_same_database_is_recognized(store: SQLiteStore, tmp_path: Path) -> None:
    await submitted(store)
    checkpoint(store.path)
    shutil.copy(store.path, tmp_path / "backup")
    await submitted(store)
    await submitted(store)
    checkpoint(store.path)
    await submitted(store)
    store.path.write_bytes((tmp_path / "backup").read_bytes())
    with pytest.raises(StoreUnavailable, match="overwritten"):
        await submitted(store)
    await store.close()


async def test_checkpoints_of_this_store_and_of_other_programs_are_no_harm(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store._writer is not None
    store._writer._connection.execute("PRAGMA wal_autocheckpoint = 2")
    for _ in range(20):
        await submitted(store)
    for _ in range(5):
        await submitted(store)
        await store.check_writable()
        checkpoint(store.path)
    os.utime(store.path)
    store.path.chmod(0o600)
    await submitted(store)
    assert store.trouble is None
    assert len(store._file._marks) < 5
    await store.close()


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
async def test_a_checkpoint_that_stopped_halfway_is_no_harm(
    store: SQLiteStore, tmp_path: Path, share: float
) -> None:
    """On a full disk SQLite writes the first pages, in the order of their numbers, and stops."""
    assert store._writer is not None
    store._writer._connection.execute("PRAGMA wal_autocheckpoint = 0")
    job_id = await submitted(store, 3000)
    shutil.copy(store.path, tmp_path / "unstuck.db")
    shutil.copy(log_of(store.path), tmp_path / "unstuck.db-wal")
    checkpoint(tmp_path / "unstuck.db")
    whole = (tmp_path / "unstuck.db").read_bytes()
    with store.path.open("r+b") as file:
        file.write(whole[: int(len(whole) * share) // 4096 * 4096])
    await store.check_writable()
    await store.apply([Cancel(job_id)])
    assert store.trouble is None
    assert (await store.snapshot(job_id)).job.total == 3000
    overwrite(store.path)
    with pytest.raises(StoreUnavailable, match="overwritten"):
        await store.check_writable()
    await store.close()


async def test_the_files_of_a_replaced_database_survive_the_close(store: SQLiteStore) -> None:
    await submitted(store)
    delete(store.path)
    restored = SQLiteStore(store.path)
    await restored.open()
    job_id = await submitted(restored)
    await store.close()
    assert log_of(store.path).exists()
    await restored.close()
    assert ids(store.path) == {job_id}


async def test_a_read_only_database_is_refused_at_the_start(store: SQLiteStore) -> None:
    await store.close()
    store.path.chmod(0o400)
    with pytest.raises(CannotStart, match=r"it is read-only\)\. Make it and its folder"):
        await SQLiteStore(store.path).open()


async def test_the_log_is_cut_once_no_reader_holds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_file, "LOG_LIMIT", 200_000)
    store = SQLiteStore(tmp_path / "unstuck.db")
    await store.open()
    with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as foreign:
        foreign.execute("BEGIN")
        foreign.execute("SELECT count(*) FROM jobs").fetchone()
        while store.log_bytes < 1_000_000:
            await submitted(store, 300)
        assert log_of(store.path).stat().st_size == store.log_bytes
        foreign.execute("COMMIT")
    await anyio.to_thread.run_sync(store.sweep, HealthLimits())  # it writes nothing, as on an idle server
    assert store.log_bytes <= 200_000
    await store.close()
