"""One worker with what it was given: the item that it is at, and those sent ahead, since they seemed short.

Where the first turns out to be long after all, the others are asked back. Decides when; what becomes of items is
the runner's affair. Knows the worker's process (child.py), no store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from unstuck import pipe
from unstuck.child import Child
from unstuck.reserve import Held

#: An item that takes so long is not short (seconds).
RECALL_S = 0.1


class Hand:
    """Items by run, in the order in which the worker takes them."""

    def __init__(self, child: Child) -> None:
        self.child = child
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
        return first is not None and asyncio.get_running_loop().time() - first.began >= RECALL_S

    def give(self, some: Sequence[tuple[Held, pipe.Run]]) -> None:
        """Have these worked on after what it has."""
        for held, run in some:
            held.run_id, held.child = run.id, self.child
            self._given[run.id] = held
        self.child.give([run for _, run in some])
        if len(self._given) > 1 and self._look is None:
            self._look_later()

    def find(self, run_id: int) -> Held | None:
        return self._given.get(run_id)

    def take(self, held: Held) -> None:
        """It is done, or came back."""
        del self._given[held.run_id]

    def close(self) -> None:
        if self._look is not None:
            self._look.cancel()

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
