"""`checksum`: the SHA-256 of a file of any size, read one block at a time.

It must not know where files come from.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from unstuck.kinds.declare import kind
from unstuck.kinds.report import Report

# Larger blocks are no faster: the hash itself is the limit.
_BLOCK = 256 * 1024  # bytes


@kind("checksum", title="SHA-256 checksum", description="Computes the SHA-256 checksum of each file.")
def checksum(file: Path, report: Report) -> dict[str, object]:
    """Return {"sha256": 64 hexadecimal digits, "bytes": size}."""
    # This avoids a file object, a cleared buffer and, for a file of one block, fstat: 4 KB take 8.5 µs, not 12.
    # Large files take equally long.
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        digest, done = hashlib.sha256(), 0
        block = os.read(descriptor, _BLOCK)
        size = len(block) if len(block) < _BLOCK else os.fstat(descriptor).st_size
        while block:
            digest.update(block)
            done += len(block)
            report(done, size)
            block = os.read(descriptor, _BLOCK)
    finally:
        os.close(descriptor)
    return {"sha256": digest.hexdigest(), "bytes": done}
