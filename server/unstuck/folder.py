"""The data folder: who may use it, and where a job's files lie in it.

    unstuck.db              the store
    lock                    held by the one server that uses the folder
    files/JOB/in/00012.csv  an input; the number is the item's, the ending is for programs that look at it
    files/JOB/out/12-1/NAME what working on item 12 under its lease 1 left behind: nobody writes into another's

A folder below files/ that belongs to no job is litter of an upload that was cut off; the start sweeps it.
Labels never become paths (names.py). Knows no store and no HTTP.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from unstuck import names
from unstuck.errors import CannotStart, NotFound

log = logging.getLogger("unstuck.folder")


class DataFolder:
    """One server's folder on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = root / "files"
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

    def result(self, job_id: str, index: int, lease: int, file: str) -> Path:
        """A result file that is really there and really below its job's folder; NotFound."""
        folder = self.output(job_id, index, lease)
        path = folder / file
        if path.parent != folder or path.is_symlink() or not path.is_file():
            raise NotFound(f"The result file of item {index} of job {job_id} is no longer there.")
        return path

    # -- removing

    def remove(self, job_id: str) -> None:
        """Remove all files of a job; what is already gone is fine."""
        path = self.job(job_id)
        if path.exists():
            shutil.rmtree(path)

    def sweep(self, known: Callable[[list[str]], set[str]]) -> int:
        """Remove the folders that belong to no job; says how many. `known` tells which ids are jobs."""
        found = [entry.name for entry in os.scandir(self.files)]
        litter = set(found) - known(found)
        for name in litter:
            path = self.files / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        if litter:
            log.info("removed the leavings of %d uploads that never became jobs", len(litter))
        return len(litter)


def stored_name(index: int, label: str) -> str:
    """The file name of a stored input: its number, and its ending if that is plain."""
    return f"{index:05d}{names.suffix(label)}"
