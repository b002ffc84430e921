"""Locks the data folder for one server, and decides where the files of each job are stored.

Must not know: the store, HTTP. Labels never become paths (jobs/labels.py).
See also: marks.py (which folders are ours), links.py (inputs that two jobs share), retention.py (what is removed).

    unstuck.db              the store
    identity                the database that the files belong to
    reserve                 space for what must be written on a full disk, see store/disk_reserve.py
    lock                    held by the one server that uses the folder
    files/JOB/in/00012.csv  an input; the number is the item's, the suffix is for programs that look at it
    files/JOB/out/12-1/NAME what the work on item 12 under its lease 1 produced; no other lease writes there
    restoring               a restore was cut off here (backup.py)
    before-restore-TIME     what a restore replaced; nothing in it is used or removed
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path

from unstuck.errors import CannotStart, NotFound, StorageFull, StoreUnavailable
from unstuck.files import marks
from unstuck.jobs import labels
from unstuck.jobs.job import is_job_id

log = logging.getLogger("unstuck.folder")

#: What a data folder holds: of one with anything else in it, unstuck is not the only user.
_OURS = re.compile(
    r"unstuck\.db(-wal|-shm|-journal)?|identity(\.new)?|reserve|lock|files|restoring|before-restore-.*"
)
#: What a restore sets aside, in the data folder and below files/.
ASIDE = "before-restore-"
RESTORING = "restoring"
#: How to name another folder, on the command line and in a host app.
ANOTHER_FOLDER = "name another folder with --data, UNSTUCK_DATA or create_app(data=…)"


class DataFolder:
    """One server's folder on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        #: Of the database that is in use; ownership.py sets it.
        self.identity = ""
        self.files = root / "files"
        self._files = str(self.files)  # converting it again for each item would take 0.4 µs
        self._lock: int | None = None

    @property
    def database(self) -> Path:
        return self.root / "unstuck.db"

    @property
    def mark(self) -> Path:
        """The file that names the database to which the files belong."""
        return self.root / "identity"

    def open(self) -> None:
        """Create the folder if necessary, and lock it. Raises CannotStart, which says what is in the way."""
        self.lock()
        try:
            if (self.root / RESTORING).exists():
                raise CannotStart(
                    f"A restore into the data folder {self.root} was cut off. Run it again with: unstuck restore "
                    f"BACKUP --data {self.root} (what it replaced is kept in {self.root}/{ASIDE}…)."
                )
            try:
                os.pwrite(self._held, f"{os.getpid()}\n".ljust(32).encode(), 0)  # in place, which needs no space
                marks.make_folder(self.files)
                marks.make_private(self.files, lambda name: is_job_id(name) or name.startswith(ASIDE))
                marks.sync(self.root)
            except OSError as error:
                raise self.refusal(error) from error
        except CannotStart:
            self.close()
            raise

    def write_refusal(self, error: OSError) -> StorageFull | StoreUnavailable:
        """Return the refusal of a request whose files could not be written."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StorageFull(
                "The server's data folder has no room for these files; nothing was kept. "
                "Free some space there, or send less."
            )
        log.error("Files of a new job cannot be written; check the data folder: error=%s", error)
        return StoreUnavailable(
            f"The server's data folder cannot be used now ({error.strerror or error}); nothing was kept. "
            "Try again in a moment."
        )

    def refusal(self, error: OSError) -> CannotStart:
        """Return why a server cannot start with this folder: nothing can be written to it."""
        return CannotStart(
            f"Nothing can be written to the data folder {self.root} ({error.strerror}). Free some space, "
            f"or {ANOTHER_FOLDER}."
        )

    def lock(self) -> None:
        """Create the folder if necessary, and hold its lock. Raises CannotStart, as of a folder in use."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            marks.make_private(self.root, lambda name: _OURS.fullmatch(name) is not None)
            lock = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CannotStart(
                f"The data folder {self.root} cannot be used ({error.strerror}). Make it a folder that this user "
                f"can write to, or {ANOTHER_FOLDER}."
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(lock)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise CannotStart(
                    f"The data folder {self.root} cannot be locked ({error.strerror}), so two servers could use "
                    "it at once. Name a folder on a local disk with --data, UNSTUCK_DATA or create_app(data=…)."
                ) from error
            raise CannotStart(
                f"The data folder {self.root} is in use by another unstuck server (process {holder}); a folder "
                f"serves one process. Stop that server, or {ANOTHER_FOLDER}. A host app with several processes "
                "cannot share a folder among them: run it with one, or run `unstuck serve` beside it."
            ) from None
        self._lock = lock

    @property
    def _held(self) -> int:
        assert self._lock is not None
        return self._lock

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
        try:
            usable = path.parent == folder and not path.is_symlink() and path.is_file()
        except (OSError, ValueError):  # no system has a file of such a name
            usable = False
        if not usable:
            raise NotFound(f"The result file of item {index} of job {job_id} is no longer there.")
        return path

    def make_durable(self, job_id: str, index: int, lease: int, file: str) -> None:
        """Write a result file, and the names that lead to it, to disk: call this before the result is reported."""
        folder = self.output(job_id, index, lease)
        marks.sync(folder / file, folder, *folder.parents[:3])

    # -- creating and removing

    def begin(self, job_id: str) -> None:
        """Create the folders of a job that is not stored yet. Raise OSError."""
        marks.begin(self.job(job_id), self.identity)
        marks.make_folder(self.inputs(job_id))

    def keep(self, job_id: str) -> None:
        """Note that the job is stored, so that its files stay until it is removed. Call this before the answer."""
        try:
            marks.keep(self.job(job_id))
        except OSError as error:  # retention does it later
            log.warning("Folder of a new job cannot be marked: job=%s error=%s", job_id, error)

    def remove(self, job_id: str) -> None:
        """Remove all files of a job. Files that are already gone do not matter. Raise OSError."""
        if is_job_id(job_id):  # any other text in a damaged database might name another folder
            marks.erase(self.job(job_id))

    def remove_all(self, job_ids: Iterable[str]) -> list[str]:
        """Remove all files of these jobs, and return the jobs of which nothing is left."""
        gone = []
        for job_id in job_ids:
            try:
                self.remove(job_id)
                gone.append(job_id)
            except OSError as error:
                log.warning("Files cannot be removed, trying again within a day: job=%s error=%s", job_id, error)
        return gone

    def remove_output(self, job_id: str, index: int, lease: int) -> None:
        """Remove what the work on an item wrote under this lease. It does not matter if that is nothing."""
        marks.erase(self.output(job_id, index, lease))

    def remove_inputs(self, job_id: str, files: Iterable[str]) -> None:
        """Remove these inputs, and their folder if it is then empty. Files that are already gone do not matter."""
        marks.erase_files(self.inputs(job_id), files)

    def job_folders(self) -> list[str]:
        """Return the ids of the jobs that have a folder."""
        return marks.job_ids(self.files)


def stored_name(index: int, label: str) -> str:
    """Return the file name of a stored input: its number, and its suffix if that is plain."""
    return f"{index:05d}{labels.suffix(label)}"
