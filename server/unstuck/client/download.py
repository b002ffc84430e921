"""Saves what a server sends as a file: whole under its name, or not at all.

It must not know jobs or their addresses.
See also: client.py, whose `download` uses it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

from unstuck.errors import FileUnusable


async def save(pieces: AsyncIterator[bytes], path: Path) -> int:
    """Write to a new file beside the path, rename it when it is whole, and return its size (bytes)."""
    partial = path.with_name(f"{path.name}.partial-{uuid4().hex[:8]}")
    try:
        with partial.open("xb") as file:
            async for piece in pieces:
                await asyncio.to_thread(file.write, piece)
            size = file.tell()
        partial.replace(path)
    except OSError as error:
        raise FileUnusable(str(path), f"cannot be written: {error.strerror or error}.") from error
    finally:
        partial.unlink(missing_ok=True)
    return size
