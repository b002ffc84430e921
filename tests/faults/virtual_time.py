"""An asyncio event loop in which waiting takes no time: when nobody has anything to do, its clock jumps to
the next timer. Five minutes of silence pass in microseconds, and the same program always runs the same way.

There are no sockets, threads or signals in it. It must not know what runs on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

#: Turns of the loop at one and the same instant; more is a program that runs in a circle.
MOST_TURNS = 20_000


class VirtualLoop(asyncio.BaseEventLoop):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = self  # what the loop asks to wait for sockets, and for how long
        self._now = 0.0
        self._turns = 0

    def time(self) -> float:
        """Seconds since it was made."""
        return self._now

    def select(self, timeout: float | None) -> list[object]:
        """Let the time pass, as `selectors` would."""
        if timeout is None:
            raise RuntimeError("everybody waits for somebody else, and nothing will ever happen")
        self._turns = 0 if timeout > 0 else self._turns + 1
        if self._turns > MOST_TURNS:
            raise RuntimeError(f"busy for ever at {self._now:.3f} s")
        self._now += timeout
        return []

    def _process_events(self, event_list: list[object]) -> None:
        """There are none."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
