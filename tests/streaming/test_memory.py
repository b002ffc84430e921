"""Memory is trimmed when many viewers have disconnected, and only then."""

from __future__ import annotations

import asyncio
import gc
import weakref

from tests.support.waiting import soon
from unstuck.streaming.memory import MANY, trim_periodically


class Ring:
    """A reference cycle, which only the collector frees."""

    def __init__(self) -> None:
        self.itself = self


async def test_reference_cycles_are_freed_when_most_viewers_have_left() -> None:
    viewers, counts = 3 * MANY, 0

    def count() -> int:
        nonlocal counts
        counts += 1
        return viewers

    async def seen(now: int) -> None:
        nonlocal viewers, counts
        viewers, counts = now, 0
        await soon(lambda: counts > 3)

    ring = weakref.ref(Ring())
    gc.disable()
    trimming = asyncio.create_task(trim_periodically(count, 0.001))
    try:
        await seen(3 * MANY)
        await seen(2 * MANY)
        assert ring() is not None, "too few viewers have left"
        await seen(MANY)
        assert ring() is None
        other = weakref.ref(Ring())
        await seen(MANY)
        assert other() is not None, "no viewer has left since"
    finally:
        gc.enable()
        trimming.cancel()
