"""Gives memory back to the system when most viewers have left.

Python keeps what it frees, and so does the C library: after 5,000 viewers the process held 51 MiB more than before
they came, and 25 after this; the rest lies beside what others use. Knows a count, and nothing of streams.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
from collections.abc import Callable

#: Between two looks (seconds).
LOOK_S = 1.0
#: Fewer are not worth a look through all that there is, which takes the loop some 10 ms.
MANY = 1_000


async def trim_periodically(viewers: Callable[[], int], look_s: float = LOOK_S) -> None:
    """Until cancelled: whenever many viewers have left, more than half of them all, and hardly any still leave."""
    most = now = 0
    while True:
        await asyncio.sleep(look_s)
        before, now = now, viewers()
        most = max(most, now)
        if most - now >= MANY and now * 2 < most and (before - now) * 100 < most:
            most = now
            gc.collect()
            await asyncio.to_thread(_trim)


def _trim() -> None:
    # Only glibc has it, and only glibc needs it.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
