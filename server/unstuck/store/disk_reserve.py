"""Keeps some space of the disk for what must be written even when the disk is full.

The space is held by a file beside the database. The writer gives it back piece by piece, when a commit finds no
room: another program that fills the disk takes at most the rest of one piece. It takes the space again when there
is room.
It must not know what is written, or in which order.
See also: writer.py (the only user), DECISIONS.md ("A reserve for a full disk").
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

#: The size of the reserve, but at most this share of the disk: tests and devices have small ones.
RESERVE_BYTES = 8 * 1024 * 1024
SHARE = 16
#: What one failed commit gives back.
PIECE_BYTES = 256 * 1024
#: How often a reserve that was used is filled again, if there is room (seconds).
LOOK_S = 1.0
#: With less room than this, an error that does not name its cause is one of a full disk.
NO_ROOM_BYTES = 128 * 1024

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
#: SQLite's primary error codes for a file that cannot be created, extended or mapped.
_MAY_MEAN_FULL = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY})


class DiskReserve:
    """The file that holds space. Used by one thread; `short` may be read by any."""

    def __init__(self, path: Path, steady: Callable[[], float] = time.monotonic) -> None:
        #: True from the first commit that found no room until the reserve is whole again.
        self.short = False
        self._path = path
        self._steady = steady
        self._next_look = 0.0
        self._size = RESERVE_BYTES

    def fill(self) -> None:
        """Take the space, if the disk has twice as much, and not more often than every LOOK_S seconds."""
        if self._steady() < self._next_look:
            return
        self._next_look = self._steady() + LOOK_S
        try:
            disk = os.statvfs(self._path.parent)
            self._size = min(RESERVE_BYTES, disk.f_blocks * disk.f_frsize // SHARE)
            if disk.f_bavail * disk.f_frsize < 2 * (self._size - self.held):
                return
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                _allocate(descriptor, max(self._size, 1))
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno in _NO_ROOM:
                return
        self.short = False  # also where no space can be held: then the writer has to do without

    def release(self) -> bool:
        """Give a piece back; return False if nothing is left."""
        self.short = True
        left = self.held
        if not left:
            return False
        with contextlib.suppress(OSError):
            os.truncate(self._path, max(left - PIECE_BYTES, 0))
            return True
        return False

    @property
    def held(self) -> int:
        """The bytes that are held now."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0


def _allocate(descriptor: int, size: int) -> None:
    """Have the disk hold `size` bytes for the file. Raise OSError."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    # macOS has no such call, and a file that is only made longer holds nothing.
    held = os.fstat(descriptor).st_size
    while held < size:
        held += os.pwrite(descriptor, bytes(min(size - held, PIECE_BYTES)), held)


def is_full(error: BaseException | None, path: Path) -> bool:
    """Return whether this error says that the disk of `path` is full."""
    if isinstance(error, OSError):
        return error.errno in _NO_ROOM
    if not isinstance(error, sqlite3.Error):
        return False
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return True
    if code not in _MAY_MEAN_FULL:
        return False
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < NO_ROOM_BYTES or (disk.f_files > 0 and disk.f_favail == 0)
