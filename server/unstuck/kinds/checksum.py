"""`checksum`: the SHA-256 of a file of any size, in the memory of one block.

Decides: the block size and what is reported. Must not know: where files come from.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from unstuck.kinds.declare import kind
from unstuck.kinds.report import Report

# Read into one buffer again and again; from 256 KiB on, the speed is that of the hash itself.
_BLOCK = 1024 * 1024  # bytes


@kind("checksum", title="SHA-256 checksum", description="Computes the SHA-256 checksum of each file.")
def checksum(file: Path, report: Report) -> dict[str, object]:
    """{"sha256": 64 hexadecimal digits, "bytes": size}."""
    digest = hashlib.sha256()
    done = 0
    with file.open("rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        buffer = memoryview(bytearray(min(_BLOCK, size + 1)))  # of a small file, one more than it holds
        while read := stream.readinto(buffer):
            digest.update(buffer[:read])
            done += read
            report(done, size)
    return {"sha256": digest.hexdigest(), "bytes": done}
