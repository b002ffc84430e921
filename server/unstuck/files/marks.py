"""Marks the folders of jobs as made by unstuck, and removes folders that carry a mark.

Nothing that unstuck did not make may ever be removed. So a folder below files/ is touched only if it is a folder,
and no link to one, and its name is a job's id; and it is found to be of no use only by what is written down about
it, never by what is missing: a database may be new, restored or another one.

    files/JOB/.incoming   an upload that belongs to no job yet; after a day of silence it is left over
    files/JOB/.unstuck    the folder of a job
    identity              in the data folder: the database that the files belong to

Each of them holds the identity of the database under which it was made.
Must not know: the store, HTTP.
See also: ownership.py (compares the marks with the store), folder.py (where files are).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from unstuck.files.erase import erase as erase_folder
from unstuck.jobs.job import is_job_id

INCOMING = ".incoming"
STORED = ".unstuck"
#: How long nothing may have been written to a folder before it counts as left over (seconds).
SILENT_S = 86_400.0

_IDENTITY = re.compile(r"[0-9a-f]{32}")


def job_ids(files: Path) -> list[str]:
    """Return the names of the job folders below `files`: real folders, named by a job's id."""
    with os.scandir(files) as entries:
        return [one.name for one in entries if is_job_id(one.name) and one.is_dir(follow_symlinks=False)]


def read_identity(path: Path) -> str | None:
    """Return the identity that this file holds; None if it is missing, a link, or holds something else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = os.read(descriptor, 64).decode("ascii", "replace").strip()
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return text if _IDENTITY.fullmatch(text) else None


def write_identity(path: Path, identity: str) -> None:
    """Write the mark of the data folder durably; one that is there is replaced. Raise OSError."""
    new = path.with_name(f"{path.name}.new")
    _write(new, identity)
    sync(new)
    os.replace(new, path)
    sync(path.parent)


def begin(job: Path, identity: str) -> None:
    """Create a job's folder, marked as an upload in progress. Raise OSError."""
    make_folder(job)
    _write(job / INCOMING, identity)


def keep(job: Path) -> None:
    """Mark an upload as the folder of a job, which nothing but the job's removal removes."""
    with contextlib.suppress(FileNotFoundError):
        os.rename(job / INCOMING, job / STORED)


def adopt(job: Path, identity: str) -> None:
    """Mark the folder of a known job, if it has no mark: a worker, or an older version, made it. Raise OSError."""
    keep(job)
    if read_identity(job / STORED) is None:
        make_private(job)
        _write(job / STORED, identity)


def owner(job: Path) -> str | None:
    """Return the identity of the database under which this folder was made, or None if it carries no mark."""
    return read_identity(job / STORED) or read_identity(job / INCOMING)


def is_left_over(job: Path, identity: str, silent_since: float) -> bool:
    """Return whether this is an upload of this database in which nothing was written since (epoch seconds)."""
    return (
        read_identity(job / STORED) is None
        and read_identity(job / INCOMING) == identity
        and last_write(job) < silent_since
    )


def last_write(job: Path) -> float:
    """Return when something in this folder was last written or created (epoch seconds). Raise OSError."""
    newest = job.lstat().st_mtime
    for folder, below, files in os.walk(job):
        for name in (*below, *files):
            with contextlib.suppress(FileNotFoundError):
                newest = max(newest, os.lstat(os.path.join(folder, name)).st_mtime)
    return newest


def erase(job: Path) -> None:
    """Remove a job's folder with everything in it; anything else of this name stays. Raise OSError.

    Links in it are removed, not followed. A removal at the same time does not matter.
    """
    if job.is_symlink() or not job.is_dir():
        return
    erase_folder(job)


def erase_files(folder: Path, names: Iterable[str]) -> None:
    """Remove these files from a folder inside a job's folder, and the folder if it is then empty.

    No link is followed. Raise OSError.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.ExitStack() as opened:
        try:
            job = os.open(folder.parent, flags)
            opened.callback(os.close, job)
            inside = os.open(folder.name, flags, dir_fd=job)
            opened.callback(os.close, inside)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):  # gone, or a link
                return
            raise
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=inside)
        with contextlib.suppress(OSError):  # others are still there
            os.rmdir(folder.name, dir_fd=job)


def make_folder(folder: Path) -> None:
    """Create a folder for its owner alone, and the one above it if that is missing; it may exist."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except FileNotFoundError:
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)


def make_private(folder: Path, ours: Callable[[str], bool] = lambda _: True) -> None:
    """Take from all other users the right to look into this folder, if everything in it is ours, by its name.

    A folder of another owner stays as it is: what is in it is private by itself.
    """
    mode = stat.S_IMODE(folder.stat().st_mode)
    if not mode & 0o077:
        return
    with os.scandir(folder) as entries:
        if not all(ours(entry.name) for entry in entries):
            return
    with contextlib.suppress(PermissionError):
        folder.chmod(mode & ~0o077)


def sync(*paths: Path) -> None:
    """Write the content of these files, and the names in these folders, to disk. Blocks until that is done."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write(path: Path, identity: str) -> None:
    # Not synced, since each submission pays for it: a mark that a power cut tore leaves a folder that is never
    # removed by itself.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, f"{identity}\n".encode())
    finally:
        os.close(descriptor)
