"""One worker with what it was given: the item that it is at, and those sent ahead, since they seemed short.

Where the first turns out to be long after all, the others are asked back. Decides when; what becomes of items is
the runner's affair. Knows the worker's process (child.py), no store.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from unstuck.runner import protocol as pipe
from unstuck.runner.prefetch import ClaimedItem
from unstuck.runner.process import WorkerProcess

#: An item that takes so long is not short (seconds).
RECALL_S = 0.1


class Assignment:
    """Items by run, in the order in which the worker takes them."""

    def __init__(
        self, process: WorkerProcess, limit_s: Callable[[ClaimedItem], float | None], grace_s: float
    ) -> None:
        self.process = process
        self._limit_s = limit_s
        self._grace_s = grace_s
        self._given: dict[int, ClaimedItem] = {}
        self._look: asyncio.TimerHandle | None = None

    @property
    def current(self) -> ClaimedItem | None:
        """What it is at."""
        return next(iter(self._given.values()), None)

    @property
    def ahead(self) -> list[ClaimedItem]:
        """What it has not begun."""
        return list(self._given.values())[1:]

    @property
    def current_is_slow(self) -> bool:
        """What it is at has proved long: nothing shall wait behind it."""
        first = self.current
        return first is not None and time.monotonic() - first.began_at >= RECALL_S

    def assign(self, some: Sequence[tuple[ClaimedItem, pipe.Run]]) -> None:
        """Have these worked on after what it has."""
        for held, run in some:
            held.run_id, held.process = run.id, self.process
            self._given[run.id] = held
        self.process.send_runs([run for _, run in some])
        if len(self._given) > 1 and self._look is None:
            self._look_later()

    def start_current(self) -> ClaimedItem | None:
        """What the worker is at, as far as it was heard; from now on its time counts."""
        first = self.current
        if first is not None and not first.began_at:
            # Not the loop's clock, which counts milliseconds.
            first.began_at, first.started_at = time.monotonic(), time.time()
            if (limit_s := self._limit_s(first)) is not None:
                first.limit = asyncio.get_running_loop().call_later(limit_s, self._overrun, first, limit_s)
        return first

    def get(self, run_id: int) -> ClaimedItem | None:
        return self._given.get(run_id)

    def remove(self, held: ClaimedItem) -> None:
        """It is done, or came back."""
        del self._given[held.run_id]
        if held.limit is not None:
            held.limit.cancel()

    def close(self) -> None:
        if self._look is not None:
            self._look.cancel()

    def _overrun(self, held: ClaimedItem, limit_s: float) -> None:
        if not held.stopped:
            held.exceeded_limit_s = limit_s
            self.process.stop(held.run_id, self._grace_s)

    def _look_later(self) -> None:
        self._look = asyncio.get_running_loop().call_later(RECALL_S, self._recall)

    def _recall(self) -> None:
        self._look = None
        ahead = self.ahead
        if ahead and not self.current_is_slow:
            self._look_later()
            return
        for held in reversed(ahead):  # each goes back to the front
            self.process.recall(held.run_id)
