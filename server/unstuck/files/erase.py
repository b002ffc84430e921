"""Removes a folder with everything in it, whatever user code has put there.

Must not know: what the folder is for.
See also: folder.py (jobs), runner/worker.py (an earlier attempt's results).

Before Python 3.13 shutil.rmtree recurses, so a thousand nested folders break it. Here a nested folder is first
moved up, so depth does not matter. Links are removed, never followed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import uuid
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def erase(path: Path | str) -> None:
    """Remove this folder. A removal of the same files at the same time does not matter. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        empty(path)
        os.rmdir(path)


def empty(path: Path | str) -> None:
    """Remove everything in this folder, but not the folder itself. Raises OSError."""
    names = (f"{uuid.uuid4().hex}-{number}" for number in itertools.count())
    top = _open(path)
    try:
        while folders := _remove_files(top):
            for name in folders:
                with contextlib.suppress(FileNotFoundError):
                    folder = _open(name, top)
                    try:
                        for below in _remove_files(folder):
                            os.rename(below, next(names), src_dir_fd=folder, dst_dir_fd=top)
                    finally:
                        os.close(folder)
                    os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)


def _open(path: Path | str, inside: int | None = None) -> int:
    """Open a folder; give its owner the rights to empty it if it lacks them."""
    try:
        descriptor = os.open(path, _FOLDER, dir_fd=inside)
    except PermissionError:
        os.chmod(path, 0o700, dir_fd=inside)  # not a link: O_NOFOLLOW would have said so
        descriptor = os.open(path, _FOLDER, dir_fd=inside)
    with contextlib.suppress(PermissionError):  # of another owner: removing will tell
        os.fchmod(descriptor, 0o700)
    return descriptor


def _remove_files(folder: int) -> list[str]:
    """Remove what is directly in this folder, and return the names of the folders in it."""
    folders: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            else:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(entry.name, dir_fd=folder)
    return folders
