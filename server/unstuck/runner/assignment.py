"""One worker with what it was given: the item that it is at, and those sent ahead, since they seemed short.

Where the first turns out to be long after all, the others are asked back. Decides when; what becomes of items is
the runner's affair. Knows the worker's process (child.py), no store.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from unstuck.runner import protocol as pipe
from unstuck.runner.prefetch import Held
from unstuck.runner.process import Child

#: An item that takes so long is not short (seconds).
RECALL_S = 0.1


class Hand:
    """Items by run, in the order in which the worker takes them."""

    def __init__(self, child: Child, limit_s: Callable[[Held], float | None], grace_s: float) -> None:
        self.child = child
        self._limit_s = limit_s
        self._grace_s = grace_s
        self._given: dict[int, Held] = {}
        self._look: asyncio.TimerHandle | None = None

    @property
    def first(self) -> Held | None:
        """What it is at."""
        return next(iter(self._given.values()), None)

    @property
    def ahead(self) -> list[Held]:
        """What it has not begun."""
        return list(self._given.values())[1:]

    @property
    def slow(self) -> bool:
        """What it is at has proved long: nothing shall wait behind it."""
        first = self.first
        return first is not None and time.monotonic() - first.began >= RECALL_S

    def give(self, some: Sequence[tuple[Held, pipe.Run]]) -> None:
        """Have these worked on after what it has."""
        for held, run in some:
            held.run_id, held.child = run.id, self.child
            self._given[run.id] = held
        self.child.give([run for _, run in some])
        if len(self._given) > 1 and self._look is None:
            self._look_later()

    def begin(self) -> Held | None:
        """What the worker is at, as far as it was heard; from now on its time counts."""
        first = self.first
        if first is not None and not first.began:
            # Not the loop's clock, which counts milliseconds.
            first.began, first.started_at = time.monotonic(), time.time()
            if (limit_s := self._limit_s(first)) is not None:
                first.limit = asyncio.get_running_loop().call_later(limit_s, self._overrun, first, limit_s)
        return first

    def find(self, run_id: int) -> Held | None:
        return self._given.get(run_id)

    def take(self, held: Held) -> None:
        """It is done, or came back."""
        del self._given[held.run_id]
        if held.limit is not None:
            held.limit.cancel()

    def close(self) -> None:
        if self._look is not None:
            self._look.cancel()

    def _overrun(self, held: Held, limit_s: float) -> None:
        if not held.stopped:
            held.overran = limit_s
            self.child.stop(held.run_id, self._grace_s)

    def _look_later(self) -> None:
        self._look = asyncio.get_running_loop().call_later(RECALL_S, self._recall)

    def _recall(self) -> None:
        self._look = None
        ahead = self.ahead
        if ahead and not self.slow:
            self._look_later()
            return
        for held in reversed(ahead):  # each goes back to the front
            self.child.recall(held.run_id)
