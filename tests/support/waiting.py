"""Wait for a condition, with a deadline that only a failure reaches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar, overload

T = TypeVar("T")
#: What a check returns until its condition holds.
Falsy = Literal[False] | None

#: Far longer than anything here takes; a test that waits this long has failed.
PATIENCE_S = 30.0


def eventually(check: Callable[[], T | Falsy], patience_s: float = PATIENCE_S) -> T:
    """Return the first true value of `check()`; fail after `patience_s`."""
    end = time.monotonic() + patience_s
    while True:
        if value := check():
            return value
        assert time.monotonic() < end, f"not within {patience_s} s: {check}"
        time.sleep(0.02)


@overload
async def soon(check: Callable[[], Awaitable[T | Falsy]], patience_s: float = PATIENCE_S) -> T: ...
@overload
async def soon(check: Callable[[], T | Falsy], patience_s: float = PATIENCE_S) -> T: ...
async def soon(check: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """Do as `eventually` does, without blocking the event loop; `check` may be a coroutine function."""
    end = time.monotonic() + patience_s
    while True:
        value = check()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        assert time.monotonic() < end, f"not within {patience_s} s: {check}"
        await asyncio.sleep(0.01)
