"""Everything in a folder, to compare it with what was there before."""

from __future__ import annotations

import os
from pathlib import Path


def contents(root: Path) -> dict[str, bytes | str | None]:
    """Return everything below a folder: the content of files, the target of links, None for folders."""
    found: dict[str, bytes | str | None] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        found[name] = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
    return found
