"""A full disk, as the store sees it: the reserve, what is refused, and what is said of jobs meanwhile.

SQLite's own limit on pages stands for the disk. tests/crash/test_disk.py fills real ones.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

import anyio.to_thread
import pytest

from tests.support.clock import Clock
from tests.support.jobs import finish, submitted
from unstuck.errors import StoreUnavailable
from unstuck.jobs.external import ExternalReport
from unstuck.jobs.job import Cancel, HealthLimits, State
from unstuck.store import disk_reserve
from unstuck.store.disk_reserve import DiskReserve, is_full
from unstuck.store.protocol import JobFilter
from unstuck.store.sqlite import SQLiteStore

LIMITS = HealthLimits(stalled_s=5.0, unresponsive_s=60.0, waiting_long_s=8.0)


class FullDisk:
    """Lets the store's database grow no more, except by the pages that the reserve gives back."""

    def __init__(self, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
        assert store._writer is not None
        self._connection = store._writer._connection
        self._pages = self._connection.execute("PRAGMA page_count").fetchone()[0]
        self._limit(self._pages)
        monkeypatch.setattr(DiskReserve, "fill", lambda reserve: self._fill(reserve))
        release = DiskReserve.release

        def more(reserve: DiskReserve) -> bool:
            given = release(reserve)
            self._pages += 64 * given
            self._limit(self._pages)
            return given

        monkeypatch.setattr(DiskReserve, "release", more)
        self.has_room = False

    def make_room(self) -> None:
        self.has_room = True
        self._limit(1_000_000)

    def _fill(self, reserve: DiskReserve) -> None:
        reserve.short = not self.has_room

    def _limit(self, pages: int) -> None:
        self._connection.execute(f"PRAGMA max_page_count = {pages}")


async def fill_pages(store: SQLiteStore) -> None:
    """Submit until that is refused."""
    while store.trouble is None:
        with contextlib.suppress(StoreUnavailable):
            await submitted(store, 50)
    with pytest.raises(StoreUnavailable, match="the disk is full"):
        await submitted(store)


async def test_ends_cancels_and_removals_are_written_and_the_rest_is_refused(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = await submitted(store, 1)
    await store.apply([finish(one) for one in await store.claim(1, 30.0)])
    running, waiting = await submitted(store, 1), await submitted(store, 3)
    outside = await submitted(store, 2, external=True)
    (claimed,) = await store.claim(1, 30.0)
    disk = FullDisk(store, monkeypatch)
    await fill_pages(store)
    assert store.trouble is not None
    assert "full" in store.trouble
    for refused in (
        store.claim(1, 30.0),
        store.check_writable(),
        store.report(outside, [ExternalReport(processed=1)]),
    ):
        with pytest.raises(StoreUnavailable, match="nothing was changed"):
            await refused
    await store.apply([finish(claimed)])
    await store.apply([Cancel(waiting)])
    await store.report(outside, [ExternalReport(state=State.COMPLETED)])
    await store.remove(ended)
    states = [(await store.snapshot(one)).job.state for one in (running, waiting, outside)]
    assert states == ["completed", "cancelled", "completed"]
    assert store.trouble is not None, "a commit with the help of the reserve is no sign of room"
    disk.make_room()
    await anyio.to_thread.run_sync(store.sweep, LIMITS)
    assert store.trouble is None
    await submitted(store)


async def test_another_trouble_is_not_hidden_by_a_disk_that_has_room_again(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FullDisk(store, monkeypatch)
    await fill_pages(store)
    with pytest.raises(StoreUnavailable, match="full"):
        await store.check_writable()
    disk.make_room()
    store.path.rename(store.path.with_name("elsewhere"))
    with pytest.raises(StoreUnavailable, match="deleted or moved"):
        await store.check_writable()
    store.path.with_name("elsewhere").rename(store.path)
    await store.check_writable()
    assert store.trouble is None


async def test_the_reserve_is_given_back_in_pieces(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store.path.with_name("reserve")
    whole = path.stat().st_size
    assert whole == disk_reserve.RESERVE_BYTES
    assert path.stat().st_blocks * 512 >= whole, "it takes real space"
    FullDisk(store, monkeypatch)
    await fill_pages(store)
    assert whole - path.stat().st_size == disk_reserve.PIECE_BYTES


async def test_health_is_told_while_it_cannot_be_written(
    store: SQLiteStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stalled, waiting = (
        await submitted(store, 1, created_at=clock.now),
        await submitted(store, created_at=clock.now),
    )
    await store.claim(1, 30.0)
    await anyio.to_thread.run_sync(store.sweep, LIMITS)
    store.path.rename(store.path.with_name("elsewhere"))
    clock.now += 6
    with pytest.raises(StoreUnavailable):
        await anyio.to_thread.run_sync(store.sweep, LIMITS)
    assert (await store.snapshot(stalled)).job.health == "stalled"
    assert (await store.snapshot(waiting)).job.health == "ok"
    clock.now += 3
    found = await store.jobs(JobFilter(healths=("stalled", "waiting_long")), before=None, limit=10)
    assert {one.job.id: one.job.health for _, one in found} == {stalled: "stalled", waiting: "waiting_long"}
    assert len(await store.jobs(JobFilter(healths=("stalled", "waiting_long")), before=None, limit=1)) == 1
    assert (await store.overview()).by_health == {"stalled": 1, "waiting_long": 1}
    store.path.with_name("elsewhere").rename(store.path)
    await anyio.to_thread.run_sync(store.sweep, LIMITS)
    assert (await store.overview()).by_health == {"stalled": 1, "waiting_long": 1}, "and it is written afterwards"


def test_a_reserve_that_is_used_is_filled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_reserve, "RESERVE_BYTES", 300_000)
    now = Clock(0.0)
    reserve = DiskReserve(tmp_path / "reserve", now)
    assert not reserve.release(), "there is none yet"
    reserve.fill()
    assert (reserve.held, reserve.short) == (300_000, False)
    held = []
    while reserve.release():
        held.append(reserve.held)
    assert held == [300_000 - disk_reserve.PIECE_BYTES, 0]
    reserve.fill()
    assert reserve.short, "not before a second has passed"
    now.now += disk_reserve.LOOK_S
    reserve.fill()
    assert (reserve.held, reserve.short) == (300_000, False)
    (tmp_path / "reserve").unlink()
    assert not reserve.release()


@pytest.mark.parametrize("free", [0, disk_reserve.NO_ROOM_BYTES * 10])
def test_an_error_of_a_full_disk_is_recognized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    path = tmp_path / "unstuck.db"
    full, other = sqlite3.OperationalError("database or disk is full"), sqlite3.OperationalError("disk I/O error")
    full.sqlite_errorcode, other.sqlite_errorcode = sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE
    disk = list(os.statvfs(tmp_path))
    disk[4] = free // disk[1]
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(disk))
    assert is_full(full, path)
    assert is_full(other, path) == (free == 0)
    assert not is_full(sqlite3.OperationalError("near SELECT"), path)
    assert not is_full(KeyError(), path)
