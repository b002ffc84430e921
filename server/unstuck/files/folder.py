"""The data folder: who may use it, and where a job's files lie in it.

    unstuck.db              the store
    lock                    held by the one server that uses the folder
    files/JOB/in/00012.csv  an input; the number is the item's, the ending is for programs that look at it
    files/JOB/out/12-1/NAME what working on item 12 under its lease 1 left behind: nobody writes into another's

A folder below files/ that belongs to no job is litter: of an upload that was cut off, or of a job whose removal
was. The start sweeps it, and so does retention.py once a day.
Labels never become paths (names.py). Knows no store and no HTTP.
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
from unstuck.jobs import labels

log = logging.getLogger("unstuck.folder")


class DataFolder:
    """One server's folder on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = root / "files"
        self._files = str(self.files)  # 0.4 µs to say it anew for each item
        self._lock: int | None = None

    @property
    def database(self) -> Path:
        return self.root / "unstuck.db"

    def open(self) -> None:
        """Make the folder if need be and lock it; CannotStart says what stands in the way."""
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
                "Stop that one, or name another folder with --data."
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
        """Give the lock back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # -- where things lie

    def job(self, job_id: str) -> Path:
        return self.files / job_id

    def inputs(self, job_id: str) -> Path:
        return self.files / job_id / "in"

    def input(self, job_id: str, file: str) -> Path:
        return self.files / job_id / "in" / file

    def output(self, job_id: str, index: int, lease: int) -> Path:
        return self.files / job_id / "out" / f"{index}-{lease}"

    def paths(self, job_id: str, file: str | None, index: int, lease: int) -> tuple[str | None, str]:
        """An item's `input` and `output` as texts: joined Paths were a tenth of what a short item costs."""
        job = f"{self._files}/{job_id}"
        return None if file is None else f"{job}/in/{file}", f"{job}/out/{index}-{lease}"

    def result(self, job_id: str, index: int, lease: int, file: str) -> Path:
        """A result file that is really there and really below its job's folder; NotFound."""
        folder = self.output(job_id, index, lease)
        path = folder / file
        if path.parent != folder or path.is_symlink() or not path.is_file():
            raise NotFound(f"The result file of item {index} of job {job_id} is no longer there.")
        return path

    def make_durable(self, job_id: str, index: int, lease: int, file: str) -> None:
        """A result file is on the disk before anybody is told of it: the file, and the names that lead to it."""
        folder = self.output(job_id, index, lease)
        sync(folder / file, folder, *folder.parents[:3])

    # -- removing

    def remove(self, job_id: str) -> None:
        """Remove all files of a job; what is already gone is fine."""
        _erase(self.job(job_id))

    def remove_inputs(self, job_id: str, files: Iterable[str]) -> None:
        """Remove these inputs, and the folder of inputs when it is empty; what is already gone is fine."""
        inputs = self.inputs(job_id)
        for file in files:
            (inputs / file).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # others are still there, or it is gone
            inputs.rmdir()

    def job_folders(self) -> list[str]:
        """What lies below files/, which should be ids of jobs."""
        return [entry.name for entry in os.scandir(self.files)]

    def remove_orphans(self, litter: Iterable[str], silent_since: float | None = None) -> int:
        """Remove these folders, which belong to no job; with `silent_since` (epoch seconds) only those in which
        nothing was written after it: others may be uploads under way. Says how many were removed."""
        removed = 0
        for name in litter:
            path = self.files / name
            try:
                if silent_since is None or _last_write(path) < silent_since:
                    _erase(path)
                    removed += 1
            except FileNotFoundError:
                continue  # an upload that is refused just now takes its files with it
            except OSError as error:
                log.warning("%s belongs to no job, but cannot be removed: %s", path, error)
        return removed


def stored_name(index: int, label: str) -> str:
    """The file name of a stored input: its number, and its ending if that is plain."""
    return f"{index:05d}{labels.suffix(label)}"


def sync(*paths: Path) -> None:
    """What is in these files, and the names in these folders, are on the disk for good. Blocks."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _erase(path: Path) -> None:
    """Remove it with all below; what somebody else removes at the same time is fine."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    elif path.exists():
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            shutil.rmtree(path, ignore_errors=True)


def _last_write(path: Path) -> float:
    """When something was last written into a folder of a job to be: its inputs come as files of one folder."""
    inputs = path / "in"
    below = [entry.stat(follow_symlinks=False) for entry in os.scandir(inputs)] if inputs.is_dir() else []
    above = [one.lstat() for one in (path, inputs) if one.exists()]
    return max(one.st_mtime for one in (*above, *below))
