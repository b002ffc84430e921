"""Reads orders from stdin in a program with an event loop, and publishes at the rate that an order asks for.

It must not know what publishes.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Publish:
    """An order: `rate` events a second, `count` in all (0: until the next order), each with `size` bytes."""

    rate: float
    count: int
    size: int

    @staticmethod
    def of(order: str) -> Publish:
        word, rate, count, size = order.split()
        if word != "publish":
            raise ValueError(order)
        return Publish(float(rate), int(count), int(size))


async def read_orders() -> AsyncIterator[str]:
    """Yield the lines of stdin until it ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line.decode().strip()


async def pace(asked: Publish, publish: Callable[[int], None]) -> None:
    """Call `publish` with 1, 2, 3 …, each when it is due; late calls catch up."""
    start, number = time.monotonic(), 0
    while not asked.count or number < asked.count:
        await asyncio.sleep(max(start + number / asked.rate - time.monotonic(), 0))
        while time.monotonic() >= start + number / asked.rate and (not asked.count or number < asked.count):
            number += 1
            publish(number)
