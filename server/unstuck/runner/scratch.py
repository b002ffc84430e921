"""A folder for what a worker on another machine is working on: inputs that came, outputs that go to the server.

Must not know: requests; `upload` sends a file. To the runner it is WorkFiles, as files/local.py is.
See also: remote_queue.py (fills it and empties it).

    unstuck-work-…/lock                  held while the program lives; what a killed one left, the next one removes
    unstuck-work-…/JOB-INDEX-LEASE/in    the input; `out` is the output
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio.to_thread

from unstuck.files.erase import erase
from unstuck.runner.claimed_item import LeaseKey

PREFIX = "unstuck-work-"


class Scratch:
    """The folder of one program, until `close()`. Raises OSError if it cannot be made."""

    def __init__(self, upload: Callable[[LeaseKey, Path], None], parent: Path | None = None) -> None:
        self._upload = upload
        parent = Path(tempfile.gettempdir()) if parent is None else parent
        for left in parent.glob(f"{PREFIX}*"):
            _remove_if_left(left)
        self.root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        self._lock = _locked(self.root)

    def close(self) -> None:
        """Remove everything."""
        with contextlib.suppress(OSError):  # the next one removes it
            erase(self.root)
        if self._lock is not None:
            os.close(self._lock)

    def input(self, key: LeaseKey, file: str) -> Path:
        """Return where the input of this lease goes; its folder is made."""
        folder = self._folder(*key) / "in"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / file

    # -- as the runner sees it

    def paths(self, job_id: str, file: str | None, index: int, lease: int) -> tuple[str | None, str]:
        """Return an item's input and output."""
        folder = self._folder(job_id, index, lease)
        return None if file is None else str(folder / "in" / file), str(folder / "out")

    async def adopt(self, job_id: str, index: int, lease: int, file: str) -> None:
        """Send a result file to the server, which keeps it. Raises OSError."""
        key = job_id, index, lease
        await anyio.to_thread.run_sync(self._upload, key, self._folder(*key) / "out" / file)

    async def remove_outputs(self, keys: Sequence[LeaseKey]) -> list[Exception | None]:
        """Remove all that belongs to these leases; return how each removal failed."""
        return await asyncio.to_thread(self._remove, keys)

    def remove_output(self, job_id: str, index: int, lease: int) -> None:
        """Remove all that belongs to this lease. Raises OSError."""
        erase(self._folder(job_id, index, lease))

    def _remove(self, keys: Sequence[LeaseKey]) -> list[Exception | None]:
        outcomes: list[Exception | None] = []
        for key in keys:
            try:
                self.remove_output(*key)
                outcomes.append(None)
            except OSError as error:
                outcomes.append(error)
        return outcomes

    def _folder(self, job_id: str, index: int, lease: int) -> Path:
        return self.root / f"{job_id}-{index}-{lease}"


def _locked(folder: Path) -> int | None:
    """Return the descriptor that holds the folder's lock, or None if another program holds it."""
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def _remove_if_left(folder: Path) -> None:
    """Remove the folder if its program is gone; another user's is left to that user."""
    with contextlib.suppress(OSError):
        if not (folder / "lock").is_file():
            return  # being made at this moment
        lock = _locked(folder)
        if lock is not None:
            erase(folder)
            os.close(lock)
