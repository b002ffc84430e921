"""An asyncio event loop in which waiting takes no time: when nothing is ready, its clock jumps to the next timer.

Five minutes of silence pass in microseconds, and the same program always runs the same way. The loop has no
sockets, threads or signals, and must not know what runs on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

#: Iterations of the loop at the same instant; a program that needs more is stuck in a busy loop.
MAX_ITERATIONS = 20_000


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop with a virtual clock."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = self  # the base class calls its `select` to wait
        self._now = 0.0
        self._iterations = 0

    def time(self) -> float:
        """Seconds since the loop was created."""
        return self._now

    def select(self, timeout: float | None) -> list[object]:
        """Advance the clock by `timeout`, where a selector would wait."""
        if timeout is None:
            raise RuntimeError("every task waits for another, and nothing will ever happen")
        self._iterations = 0 if timeout > 0 else self._iterations + 1
        if self._iterations > MAX_ITERATIONS:
            raise RuntimeError(f"busy forever at {self._now:.3f} s")
        self._now += timeout
        return []

    def _process_events(self, event_list: list[object]) -> None:
        """Do nothing: there are no sockets, so there are no events."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine as `asyncio.run` does, on a virtual loop."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
