"""Shares the inputs of one job with another, by hard links, so that nothing is copied.

Must not know: jobs. Everything here blocks.
See also: folder.py (where inputs are), local.py (the only caller).

Removing either job leaves the other whole. If the file system has no hard links, the files are copied.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from unstuck.files.folder import DataFolder
from unstuck.files.marks import sync

#: Errors of `link` where a file cannot have one more name: no hard links, another file system, too many links.
_CANNOT_LINK = frozenset({errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS})


def link_inputs(folder: DataFolder, old: str, new: str, files: Iterable[tuple[str, str]]) -> None:
    """Link these inputs of job `old` into job `new`; each pair holds the old name and the new one.

    The folder of job `new` exists. Raises FileNotFoundError if an input is gone, and OSError if nothing can be
    written.
    """
    for before, after in files:
        _link(folder.input(old, before), folder.input(new, after))


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
        shutil.copyfile(source, target)
        sync(target)
