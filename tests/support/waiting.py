"""Wait for a condition, with a deadline that only a failure reaches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

#: Far beyond what anything here takes; a test that waits so long has failed.
PATIENCE_S = 30.0


def eventually(check: Callable[[], T], patience_s: float = PATIENCE_S) -> T:
    """The first true value of `check()`; fails after `patience_s`."""
    end = time.monotonic() + patience_s
    while True:
        if value := check():
            return value
        assert time.monotonic() < end, f"not within {patience_s} s: {check}"
        time.sleep(0.02)


async def soon(check: Callable[[], T | Awaitable[T]], patience_s: float = PATIENCE_S) -> T:
    """As `eventually`, without blocking the loop; the check may be awaitable itself."""
    end = time.monotonic() + patience_s
    while True:
        value = check()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        assert time.monotonic() < end, f"not within {patience_s} s: {check}"
        await asyncio.sleep(0.01)
