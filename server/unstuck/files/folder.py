"""Locks the data folder for one server, and decides where the files of each job are stored.

Must not know: the store, HTTP. Labels never become paths (jobs/labels.py).
See also: links.py (inputs that two jobs share), retention.py (what is removed, and when).

    unstuck.db              the store
    lock                    held by the one server that uses the folder
    files/JOB/in/00012.csv  an input; the number is the item's, the suffix is for programs that look at it
    files/JOB/out/12-1/NAME what the work on item 12 under its lease 1 produced; no other lease writes there

A folder below files/ that belongs to no job is an orphan, left by an upload or a removal that was cut off. It is
removed at the start, and by retention.py once a day.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from unstuck.errors import CannotStart, NotFound
from unstuck.files.erase import erase
from unstuck.jobs import labels

log = logging.getLogger("unstuck.folder")


class DataFolder:
    """One server's folder on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = root / "files"
        self._files = str(self.files)  # converting it again for each item would take 0.4 µs
        self._lock: int | None = None

    @property
    def database(self) -> Path:
        return self.root / "unstuck.db"

    def open(self) -> None:
        """Create the folder if necessary, and lock it. Raises CannotStart, which says what is in the way."""
        made = not self.root.exists()
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CannotStart(
                f"The data folder {self.root} cannot be used ({error.strerror}). Make it writable for this "
                "user, or name another one with --data."
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(lock)
            raise CannotStart(
                f"The data folder {self.root} is in use by another unstuck server (process {holder}). "
                "Stop that server, or name another folder with --data."
            ) from error
        self._lock = lock
        try:
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
            self.files.mkdir(exist_ok=True, mode=0o700)
            sync(self.root)
        except OSError as error:
            self.close()
            if made:
                shutil.rmtree(self.root, ignore_errors=True)
            raise CannotStart(
                f"Nothing can be written to the data folder {self.root} ({error.strerror}). Free some space, "
                "or name another folder with --data."
            ) from error

    def close(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # -- where files are

    def job(self, job_id: str) -> Path:
        return self.files / job_id

    def inputs(self, job_id: str) -> Path:
        return self.files / job_id / "in"

    def input(self, job_id: str, file: str) -> Path:
        return self.files / job_id / "in" / file

    def output(self, job_id: str, index: int, lease: int) -> Path:
        return self.files / job_id / "out" / f"{index}-{lease}"

    def paths(self, job_id: str, file: str | None, index: int, lease: int) -> tuple[str | None, str]:
        """Return an item's `input` and `output` as strings: joining Paths took a tenth of a short item's time."""
        job = f"{self._files}/{job_id}"
        return None if file is None else f"{job}/in/{file}", f"{job}/out/{index}-{lease}"

    def result(self, job_id: str, index: int, lease: int, file: str) -> Path:
        """Return the path of a result file that exists in its item's folder and is not a link. Raises NotFound."""
        folder = self.output(job_id, index, lease)
        path = folder / file
        if path.parent != folder or path.is_symlink() or not path.is_file():
            raise NotFound(f"The result file of item {index} of job {job_id} is no longer there.")
        return path

    def make_durable(self, job_id: str, index: int, lease: int, file: str) -> None:
        """Write a result file, and the names that lead to it, to disk: call this before the result is reported."""
        folder = self.output(job_id, index, lease)
        sync(folder / file, folder, *folder.parents[:3])

    # -- removing

    def remove(self, job_id: str) -> None:
        """Remove all files of a job. Files that are already gone do not matter."""
        _erase(self.job(job_id))

    def remove_inputs(self, job_id: str, files: Iterable[str]) -> None:
        """Remove these inputs, and their folder if it is then empty. Files that are already gone do not matter."""
        inputs = self.inputs(job_id)
        for file in files:
            (inputs / file).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # others are still there, or it is gone
            inputs.rmdir()

    def job_folders(self) -> list[str]:
        """Return the names below files/, which should be job ids."""
        return [entry.name for entry in os.scandir(self.files)]

    def remove_orphans(self, names: Iterable[str], silent_since: float | None = None) -> int:
        """Remove these folders, which belong to no job, and return how many were removed.

        With `silent_since` (epoch seconds) remove only those in which nothing was written after it: the others may
        be uploads in progress.
        """
        removed = 0
        for name in names:
            path = self.files / name
            try:
                if silent_since is None or _last_write(path) < silent_since:
                    _erase(path)
                    removed += 1
            except FileNotFoundError:
                continue  # an upload that has just been refused removes its own files
            except OSError as error:
                log.warning("Orphaned folder cannot be removed; check its owner: path=%s error=%s", path, error)
        return removed


def stored_name(index: int, label: str) -> str:
    """Return the file name of a stored input: its number, and its suffix if that is plain."""
    return f"{index:05d}{labels.suffix(label)}"


def sync(*paths: Path) -> None:
    """Write the content of these files, and the names in these folders, to disk. Blocks until that is done."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _erase(path: Path) -> None:
    """Remove a file, or a folder with everything in it. A removal at the same time does not matter."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    elif path.exists():
        erase(path)


def _last_write(path: Path) -> float:
    """Return when something was last written into a folder that has no job yet (epoch seconds).

    An upload writes only into its folder of inputs, which has no folders in it.
    """
    inputs = path / "in"
    below = [entry.stat(follow_symlinks=False) for entry in os.scandir(inputs)] if inputs.is_dir() else []
    above = [one.lstat() for one in (path, inputs) if one.exists()]
    return max(one.st_mtime for one in (*above, *below))
