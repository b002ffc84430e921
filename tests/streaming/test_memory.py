"""Memory is given back when many have left, and only then."""

from __future__ import annotations

import asyncio
import gc
import weakref

from tests.support.waiting import soon
from unstuck.streaming.memory import MANY, trim_periodically


class Ring:
    """Only the collector gets rid of it."""

    def __init__(self) -> None:
        self.itself = self


async def test_what_lies_in_rings_goes_when_most_have_left() -> None:
    viewers, looks = 3 * MANY, 0

    def count() -> int:
        nonlocal looks
        looks += 1
        return viewers

    async def seen(now: int) -> None:
        nonlocal viewers, looks
        viewers, looks = now, 0
        await soon(lambda: looks > 3)

    ring = weakref.ref(Ring())
    gc.disable()
    giving_back = asyncio.create_task(trim_periodically(count, 0.001))
    try:
        await seen(3 * MANY)
        await seen(2 * MANY)
        assert ring() is not None, "too few have left"
        await seen(MANY)
        assert ring() is None
        other = weakref.ref(Ring())
        await seen(MANY)
        assert other() is not None, "nobody has left since"
    finally:
        gc.enable()
        giving_back.cancel()
