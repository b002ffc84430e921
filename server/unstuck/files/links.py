"""The inputs of one job given to another: the same files under two names each, so that nothing is copied.

Removing either job leaves the other whole. Where the file system cannot have a file under two names, it is
copied. Knows files, and no job; everything here blocks.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from unstuck.files.folder import DataFolder, sync

#: What `link` says where a file cannot have one more name: no such file system, another one, too many names.
_CANNOT_LINK = frozenset({errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS})


def link_inputs(folder: DataFolder, old: str, new: str, files: Iterable[tuple[str, str]]) -> None:
    """Let each input of job `old` be one of job `new` too, under the second name of its pair.

    Raises FileNotFoundError where an input is gone, OSError where nothing can be written.
    """
    folder.inputs(new).mkdir(parents=True, exist_ok=True)
    for before, after in files:
        _link(folder.input(old, before), folder.input(new, after))


def sync_links(folder: DataFolder, new: str) -> None:
    """The names that were made are on the disk for good."""
    sync(folder.inputs(new), folder.job(new), folder.files)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
        shutil.copyfile(source, target)
        sync(target)
