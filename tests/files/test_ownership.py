"""Whose the files are: nothing is removed but what this database is known to have left over."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.contents import contents
from tests.support.files import finished, uploaded
from unstuck.files import marks, ownership
from unstuck.files.folder import DataFolder
from unstuck.files.local import LocalFiles
from unstuck.files.retention import DAY_S, Retention, finish_removals
from unstuck.store.sqlite import SQLiteStore

LONG_AGO = time.time() - 30 * DAY_S


def age(path: Path, moment: float = LONG_AGO) -> None:
    """Make everything below `path` look as old as this."""
    for one in (*path.rglob("*"), path):
        os.utime(one, (moment, moment), follow_symlinks=False)


def put(job: Path, mark: str | None = None, identity: str = "") -> None:
    """Create a folder as a job's may look, with this mark."""
    (job / "in").mkdir(parents=True)
    (job / "in" / "00000.csv").write_text("precious")
    if mark is not None:
        (job / mark).write_text(f"{identity}\n")


def strange_things(folder: DataFolder, own: str) -> None:
    """Fill files/ with what unstuck did not make, or what may still be of use."""
    files, elsewhere = folder.files, folder.root / "elsewhere"
    put(elsewhere, marks.INCOMING, own)
    (files / "thesis.txt").write_text("thesis")
    (files / str(uuid4())).write_text("a plain file")
    (files / "holiday").mkdir()
    (files / "holiday" / "img.jpg").write_text("photo")
    put(files / "named-by-a-user", marks.INCOMING, own)
    put(files / str(uuid4()).upper(), marks.INCOMING, own)
    put(files / str(uuid4()))
    put(files / str(uuid4()), marks.INCOMING, "0" * 32)
    put(files / str(uuid4()), marks.STORED, "0" * 32)
    put(files / str(uuid4()), marks.STORED, own)  # its job is in a newer copy of the database
    put(files / str(uuid4()), marks.INCOMING, "")
    put(files / str(uuid4()), marks.INCOMING, "x" * 10_000)
    (files / str(uuid4())).symlink_to(elsewhere)
    (files / "link").symlink_to(elsewhere)
    linked_mark = files / str(uuid4())
    put(linked_mark)
    (linked_mark / marks.INCOMING).symlink_to(elsewhere / marks.INCOMING)
    os.mkfifo(files / str(uuid4()))
    fifo_mark = files / str(uuid4())
    put(fifo_mark)
    os.mkfifo(fifo_mark / marks.INCOMING)
    age(folder.root)


def in_real_time(store: SQLiteStore, folder: DataFolder, **more: bool) -> Retention:
    """Files have the machine's times, so these tests use the machine's clock too."""
    return Retention(store, LocalFiles(folder), 1e9, wall=time.time, steady=time.monotonic, **more)


async def test_nothing_but_silent_uploads_of_this_database_are_left_over(
    store: SQLiteStore, folder: DataFolder
) -> None:
    await ownership.claim(folder, store)
    job_id = await finished(store, folder)
    strange_things(folder, store.identity)
    before = contents(folder.files)
    silent, writing, young = (str(uuid4()) for _ in range(3))
    for name in (silent, writing, young):
        folder.begin(name)
        folder.input(name, "00000.csv").write_text("half")
    for name in (silent, writing):
        age(folder.job(name))
    os.utime(folder.input(writing, "00000.csv"))  # a large file that takes days
    retention = in_real_time(store, folder, keep_inputs=False)
    assert await retention.remove_leftovers() == 1
    assert set(folder.job_folders()) >= {writing, young, job_id}
    assert silent not in folder.job_folders()
    after = contents(folder.files)
    assert {name: after.get(name) for name in before if job_id not in name} == {
        name: content for name, content in before.items() if job_id not in name
    }
    assert contents(folder.root / "elsewhere") != {}


@pytest.mark.parametrize("named", [None, "1" * 32])
async def test_a_new_database_removes_nothing_and_warns_once(
    store: SQLiteStore, folder: DataFolder, caplog: pytest.LogCaptureFixture, named: str | None
) -> None:
    """The database was moved away, or lost: the files of all its jobs are still there."""
    for mark in (marks.STORED, marks.INCOMING, None):
        put(folder.files / str(uuid4()), mark, named or "2" * 32)
    strange_things(folder, "1" * 32)
    if named is not None:
        marks.write_identity(folder.mark, named)
    before = contents(folder.files)
    for _ in range(2):
        await ownership.claim(folder, store)
        await in_real_time(store, folder).remove_leftovers()
    assert contents(folder.files) == before
    warnings = [one.getMessage() for one in caplog.records if "does not belong to the files" in one.getMessage()]
    assert len(warnings) == (1 if named is None else 2), "one at each start, until the files are the database's"
    assert "unstuck restore" in warnings[0]
    assert "unstuck prune --orphans" in warnings[0]


async def test_the_first_start_names_the_database(
    store: SQLiteStore, folder: DataFolder, caplog: pytest.LogCaptureFixture
) -> None:
    (folder.files / "thesis.txt").write_text("thesis")
    await ownership.claim(folder, store)
    assert marks.read_identity(folder.mark) == store.identity == folder.identity
    assert folder.mark.stat().st_mode & 0o777 == 0o600
    await ownership.claim(folder, store)
    assert caplog.text == ""


async def test_folders_of_an_older_version_are_adopted(store: SQLiteStore, folder: DataFolder) -> None:
    """They have no marks, and nor has the folder of a job without inputs, which a worker makes."""
    job_id = await uploaded(store, folder, 2)
    os.unlink(folder.job(job_id) / marks.STORED)
    folder.job(job_id).chmod(0o755)
    await ownership.claim(folder, store)
    assert marks.owner(folder.job(job_id)) == store.identity
    assert folder.job(job_id).stat().st_mode & 0o777 == 0o700
    assert folder.input(job_id, "00001.csv").read_text() == "a"
    os.unlink(folder.job(job_id) / marks.STORED)
    await in_real_time(store, folder).remove_leftovers()
    assert marks.owner(folder.job(job_id)) == store.identity


async def test_a_job_whose_upload_was_not_marked_as_stored_keeps_its_files(
    store: SQLiteStore, folder: DataFolder
) -> None:
    """The server was killed after the commit and before the mark."""
    job_id = await uploaded(store, folder, 1)
    os.rename(folder.job(job_id) / marks.STORED, folder.job(job_id) / marks.INCOMING)
    age(folder.job(job_id))
    assert await in_real_time(store, folder).remove_leftovers() == 0
    assert (folder.job(job_id) / marks.STORED).exists()


async def test_jobs_of_a_database_that_was_set_back_keep_their_files(
    store: SQLiteStore, folder: DataFolder, tmp_path: Path
) -> None:
    """A copy from before a job has the same identity, and knows nothing of the job."""
    await ownership.claim(folder, store)
    job_id = await finished(store, folder)
    age(folder.root)
    before = contents(folder.files)
    set_back = SQLiteStore(tmp_path / "copy.db")
    await set_back.open()
    try:
        set_back._identity = store.identity
        await ownership.claim(folder, set_back)
        assert await in_real_time(set_back, folder).remove_leftovers() == 0
    finally:
        await set_back.close()
    assert contents(folder.files) == before
    assert job_id in folder.job_folders()


async def test_a_removal_that_was_cut_off_is_finished(store: SQLiteStore, folder: DataFolder) -> None:
    first, second = await finished(store, folder), await finished(store, folder)
    await store.remove(first)  # and the server is killed
    assert set(folder.job_folders()) == {first, second}
    await finish_removals(LocalFiles(folder), store)
    assert folder.job_folders() == [second]
    assert await store.removals(10) == []


def as_link(job: Path, elsewhere: Path) -> None:
    job.rename(elsewhere)
    job.symlink_to(elsewhere)


def with_linked_inputs(job: Path, elsewhere: Path) -> None:
    (job / "in").rename(elsewhere)
    (job / "in").symlink_to(elsewhere)


@pytest.mark.parametrize("change", [as_link, with_linked_inputs])
async def test_nothing_is_removed_through_a_link(
    store: SQLiteStore, folder: DataFolder, change: Callable[[Path, Path], None]
) -> None:
    await ownership.claim(folder, store)
    job_id = await finished(store, folder)
    elsewhere = folder.root / "elsewhere"
    change(folder.job(job_id), elsewhere)
    before = contents(elsewhere)
    folder.remove_inputs(job_id, ["00000.csv", "00001.csv"])
    assert contents(elsewhere) == before
    await store.remove(job_id)
    await finish_removals(LocalFiles(folder), store)
    assert contents(elsewhere) == before
    assert "in/00000.csv" in before or "00000.csv" in before


def test_all_folders_are_for_their_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        root = tmp_path / "data"
        root.mkdir(mode=0o755)
        (root / "files").mkdir(mode=0o777)
        data = DataFolder(root)
        data.open()
        data.begin("a")
        data.close()
        for path in (root, data.files, data.job("a"), data.inputs("a"), root / "lock"):
            assert path.stat().st_mode & 0o077 == 0, path
        assert tmp_path.stat().st_mode & 0o777 == 0o700  # pytest's
    finally:
        os.umask(before)


def test_the_mode_of_a_folder_with_other_things_in_it_stays(tmp_path: Path) -> None:
    root = tmp_path / "project"
    (root / "files" / "holiday").mkdir(parents=True)
    (root / "README").write_text("")
    for path in (tmp_path, root, root / "files"):
        path.chmod(0o755)
    data = DataFolder(root)
    data.open()
    data.begin("a")
    data.close()
    assert [path.stat().st_mode & 0o777 for path in (tmp_path, root, data.files)] == [0o755] * 3
    assert data.job("a").stat().st_mode & 0o777 == 0o700
