"""Copies a data folder into a backup, also beside a running server, and puts a backup back.

A backup is a folder with `unstuck.db`, the `files/` of its jobs, and, written last, `identity`: without that it is
not complete. The database is copied first, as of one moment; then the files of the jobs that the copy knows. Files
are written before the database names them, and never changed afterwards, so they are there, unless the job was
removed meanwhile.
A restore erases nothing: what it replaces is moved aside. Both are durable when they return.
Must not know: jobs, HTTP.
See also: folder.py (where files are), store/connection.py (opens databases).
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from unstuck.errors import CannotStart
from unstuck.files import marks
from unstuck.files.folder import ASIDE, RESTORING, DataFolder
from unstuck.store.connection import SUFFIXES, check, open_checked, open_to_read, read_identity, refusal

#: What a backup consists of.
DATABASE, FILES, MARK = "unstuck.db", "files", "identity"
#: What is copied at once (bytes).
PIECE_BYTES = 1024 * 1024


#: Files that were copied and have more names, by device and inode: a retry shares its inputs with the first job.
Links = dict[tuple[int, int], Path]


@dataclass(frozen=True, slots=True)
class Copied:
    """The jobs and bytes of a backup; `aside` is where a restore put what it replaced, if anything was there."""

    jobs: int
    bytes: int
    aside: Path | None = None


def back_up(data: Path, target: Path) -> Copied:
    """Copy the data folder into `target`, which must be empty or absent. Raise CannotStart, and leave nothing."""
    database = data / DATABASE
    if (data / RESTORING).exists():
        raise CannotStart(
            f"A restore into {data} was cut off. Finish it first: unstuck restore BACKUP --data {data}"
        )
    if not database.is_file():
        raise CannotStart(
            f"There is no database in {data}, so there is nothing to back up. Name the data folder with --data."
        )
    _check_target(data, target)
    made = not target.exists()
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.ExitStack() as undo:
            if made:
                undo.callback(target.rmdir)
            undo.callback(_erase_backup, target)
            job_ids, identity = _copy_database(database, target / DATABASE)
            marks.make_folder(target / FILES)
            copied: Links = {}
            for job_id in job_ids:
                _copy_folder(data / FILES / job_id, target / FILES / job_id, copied)
            size = _sync_tree(target)
            marks.write_identity(target / MARK, identity)
            marks.sync(target.parent)
            undo.pop_all()
    except sqlite3.Error as error:
        raise refusal(database, error) from error
    except OSError as error:
        raise CannotStart(
            f"The backup {target} was not made ({error}); nothing of it was kept. Mend the cause, such as a full "
            "disk, or name another folder."
        ) from error
    return Copied(len(job_ids), size)


def restore(source: Path, data: Path) -> Copied:
    """Put a backup into the data folder, whose server must be stopped, and move aside what was there.

    Raise CannotStart; then nothing was changed, unless the message says otherwise.
    """
    jobs, job_ids = _check_backup(source, data)
    size = sum({(one.st_dev, one.st_ino): _room(one) for one in map(os.lstat, source.rglob("*"))}.values())
    folder = DataFolder(data)
    folder.lock()
    try:
        if os.statvfs(data).f_bavail * os.statvfs(data).f_frsize < size:
            raise CannotStart(
                f"The backup has {size:,} bytes, and {data} has no room for them. Free some space there."
            )
        try:
            (data / RESTORING).touch(mode=0o600)
            marks.sync(data)
            aside = _set_aside(folder)
            _put_back(source, folder, job_ids)
            (data / RESTORING).unlink()
            marks.sync(data)
        except OSError as error:
            raise CannotStart(
                f"The restore into {data} was cut off ({error}). Mend the cause and run it again; until then the "
                f"server does not start there. What was there before is kept in {data}/{ASIDE}…"
            ) from error
    finally:
        folder.close()
    return Copied(jobs, size, aside)


def _room(file: os.stat_result) -> int:
    """Return the bytes that a file takes, without its holes."""
    return min(file.st_size, file.st_blocks * 512)


def _check_target(data: Path, target: Path) -> None:
    if target.resolve().is_relative_to(data.resolve()):
        raise CannotStart(f"The backup {target} would be inside the data folder. Name a folder outside of it.")
    try:
        if any(target.iterdir()):
            raise CannotStart(f"The folder {target} is not empty. Name an empty or a new folder for the backup.")
    except FileNotFoundError:
        pass
    except OSError as error:
        raise CannotStart(f"{target} cannot be used ({error.strerror}). Name an empty or a new folder.") from error


def _copy_database(database: Path, copy: Path) -> tuple[list[str], str]:
    """Copy the database as of one moment, bring the copy up to date, and return its jobs and its identity."""
    copy.touch(mode=0o600)
    with closing(open_to_read(database)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    check(copy)  # its errors say what is wrong with the database, since the copy is the same
    with closing(open_checked(copy)) as connection:
        job_ids = [row[0] for row in connection.execute("SELECT id FROM jobs ORDER BY n")]
        identity = read_identity(connection)
        # A write-ahead log could not be made where a backup can only be read.
        connection.execute("PRAGMA journal_mode = DELETE")
    return job_ids, identity


def _erase_backup(target: Path) -> None:
    """Remove what was written of a backup that failed; the folder was empty before it."""
    shutil.rmtree(target / FILES, ignore_errors=True)
    for name in (MARK, f"{MARK}.new", *(f"{DATABASE}{suffix}" for suffix in (*SUFFIXES, "-journal"))):
        (target / name).unlink(missing_ok=True)


def _check_backup(source: Path, data: Path) -> tuple[int, list[str]]:
    """Return the number of jobs and the ids of those with files. Raise CannotStart if the backup is not whole."""
    identity = marks.read_identity(source / MARK)
    database = source / DATABASE
    if identity is None or not database.is_file():
        raise CannotStart(f"{source} is no complete backup. Name a folder that `unstuck backup` made.")
    if source.resolve().is_relative_to(data.resolve()) or data.resolve().is_relative_to(source.resolve()):
        raise CannotStart(f"The backup {source} and the data folder {data} contain one another. Move the backup.")
    try:
        check(database)
        with closing(open_to_read(database)) as connection:
            found = read_identity(connection)
            jobs = int(connection.execute("SELECT count(*) FROM jobs").fetchone()[0])
    except sqlite3.Error as error:
        raise CannotStart(f"The backup {source} cannot be used ({error}). Restore another one.") from error
    if found != identity:
        raise CannotStart(
            f"The files in {source} belong to another database than its own. Restore another backup."
        )
    return jobs, marks.job_ids(source / FILES) if (source / FILES).is_dir() else []


def _set_aside(folder: DataFolder) -> Path | None:
    """Move the database and the folders of jobs to where no server uses them; return where the database is."""
    names = [f"{DATABASE}{suffix}" for suffix in SUFFIXES] + [MARK]
    names = [name for name in names if os.path.lexists(folder.root / name)]
    job_ids = folder.job_folders() if folder.files.is_dir() else []
    if not names and not job_ids:
        return None
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = next(path for path in _numbered(folder.root, stamp) if not path.exists())
    marks.make_folder(aside)
    for name in names:
        os.rename(folder.root / name, aside / name)
    if job_ids:
        # Below files/, which may be on another disk than the database.
        below = folder.files / aside.name
        marks.make_folder(below)
        for job_id in job_ids:
            os.rename(folder.job(job_id), below / job_id)
        marks.sync(below, folder.files)
    marks.sync(aside, folder.root)
    return aside


def _numbered(root: Path, stamp: str) -> Iterator[Path]:
    yield root / f"{ASIDE}{stamp}"
    for number in range(2, 10_000):
        yield root / f"{ASIDE}{stamp}-{number}"


def _put_back(source: Path, folder: DataFolder, job_ids: list[str]) -> None:
    marks.make_folder(folder.files)
    copied: Links = {}
    for job_id in job_ids:
        _copy_folder(source / FILES / job_id, folder.job(job_id), copied)
        _sync_tree(folder.job(job_id))
    _copy_file(source / DATABASE, folder.database, copied)
    marks.sync(folder.database, folder.files, folder.root)
    identity = marks.read_identity(source / MARK)
    assert identity is not None
    marks.write_identity(folder.mark, identity)
    _give_to_owner(folder, job_ids)


def _copy_folder(source: Path, target: Path, copied: Links) -> None:
    """Copy a folder, if it is one. What vanishes meanwhile is left out; links are copied, not followed."""
    if source.is_symlink() or not source.is_dir():
        return
    marks.make_folder(target)
    with contextlib.suppress(FileNotFoundError):
        for entry in list(os.scandir(source)):
            path, copy = Path(entry.path), target / entry.name
            if entry.is_symlink():
                with contextlib.suppress(FileNotFoundError):
                    copy.symlink_to(os.readlink(path))
            elif entry.is_dir(follow_symlinks=False):
                _copy_folder(path, copy, copied)
            elif entry.is_file(follow_symlinks=False):
                _copy_file(path, copy, copied)


def _copy_file(source: Path, target: Path, copied: Links) -> None:
    try:
        opened = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    with open(opened, "rb", buffering=0) as reading:  # a buffer would not notice that the place is changed
        about = os.fstat(opened)
        key = (about.st_dev, about.st_ino)
        if (first := copied.get(key)) is not None:
            os.link(first, target)
            return
        created = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(created, "wb") as writing:
            _copy_content(reading, writing, about.st_size)
    if about.st_nlink > 1:
        copied[key] = target


def _copy_content(reading: FileIO, writing: BinaryIO, size: int) -> None:
    """Copy the data of a file and leave out its holes: a result of a terabyte may have hardly any data."""
    end = 0
    while end < size:
        try:
            start = os.lseek(reading.fileno(), end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # only a hole is left
        end = os.lseek(reading.fileno(), start, os.SEEK_HOLE)
        reading.seek(start)
        writing.seek(start)
        while (left := end - reading.tell()) > 0 and (piece := reading.read(min(left, PIECE_BYTES))):
            writing.write(piece)
    writing.truncate(size)


def _sync_tree(root: Path) -> int:
    """Write everything below this folder to disk, and return its bytes."""
    # After all of it was written: by then most files are on disk, by the sync of another one.
    size = 0
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if not path.is_symlink():
                size += path.stat().st_size
                marks.sync(path)
        marks.sync(Path(folder))
    return size


def _give_to_owner(folder: DataFolder, job_ids: list[str]) -> None:
    """Give what root restored to the owner of the data folder, whose server could not read it otherwise."""
    owner = folder.root.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    given = [folder.database, folder.mark, folder.root / "lock", folder.files]
    for job_id in job_ids:
        given += [folder.job(job_id), *folder.job(job_id).rglob("*")]
    for path in given:
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
