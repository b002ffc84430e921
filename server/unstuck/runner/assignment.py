"""Decides when an item of one worker starts, is recalled or stopped, and when the process is killed for it.

Must not know: the store, or what becomes of an item.
See also: claimed_item.py (an item's states), process.py (the worker process), prefetch.py (what is sent ahead).

A worker has the item it is working on, and short ones sent ahead. The first is RUNNING and those behind it are
SENT, in the order in which the worker takes them. If the first turns out to be long after all, the others are
recalled. A LOST item keeps its place until the worker has answered.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from unstuck.runner import protocol
from unstuck.runner.claimed_item import ClaimedItem, ClaimState
from unstuck.runner.process import WorkerProcess

#: An item that takes this long is not short (seconds).
RECALL_S = 0.1


class Assignment:
    """The items of one process; call `close()` when the process is gone."""

    def __init__(self, process: WorkerProcess, grace_s: float, limit_s: float | None = None) -> None:
        self.process = process
        self.kinds = {info.name: info for info in process.kinds}
        self._grace_s = grace_s
        self._limit_s = limit_s
        #: The item that the worker is working on, as far as known here: the first of `_items`.
        self.current: ClaimedItem | None = None
        self._items: dict[int, ClaimedItem] = {}  # by run id
        self._recall_timer: asyncio.TimerHandle | None = None
        self._limit_timer: asyncio.TimerHandle | None = None

    @property
    def ahead(self) -> list[ClaimedItem]:
        """The items that the worker has not started."""
        return list(self._items.values())[1:]

    @property
    def current_is_slow(self) -> bool:
        """Return whether the current item has proved long (or is lost), so that none should wait behind it."""
        return self.current is not None and time.monotonic() - self.current.began_at >= RECALL_S

    def assign(self, runs: Sequence[tuple[ClaimedItem, protocol.Run]]) -> None:
        """Send these to the worker, to be worked on after the items that it has."""
        for item, run in runs:
            item.send(run.id, self)
            self._items[run.id] = item
        self.process.send(*(run for _, run in runs))
        self._start_first()
        if len(self._items) > 1 and self._recall_timer is None:
            self._schedule_recall()

    def finish_current(self) -> None:
        """Remove the current item, which the worker has finished; it takes the next one."""
        assert self.current is not None
        self._remove(self.current.run_id)

    def take_back(self, run_id: int) -> list[ClaimedItem]:
        """Take back the item of this run, and return it in a list; empty if there is no such run or it is lost."""
        return _taken_back([self._remove(run_id)] if run_id in self._items else [])

    def take_back_all(self) -> list[ClaimedItem]:
        """Take back all items from a worker that will start none of them."""
        current, ahead = self.close()
        return [*_taken_back([] if current is None else [current]), *ahead]

    def close(self) -> tuple[ClaimedItem | None, list[ClaimedItem]]:
        """Drop all items, and return the one that the worker was working on and those it had not started."""
        current, ahead = self.current, self.ahead
        self._items.clear()
        self.current = None
        for timer in (self._recall_timer, self._limit_timer):
            if timer is not None:
                timer.cancel()
        return current, _taken_back(ahead)

    # -- called by a ClaimedItem (claimed_item.Worker)

    def stop(self, run_id: int) -> None:
        """Recall or stop the item; kill the process if it is still working on it after the grace period."""
        if run_id in self._items:
            self.process.send(protocol.Recall(id=run_id), protocol.Stop(id=run_id))
            asyncio.get_running_loop().call_later(self._grace_s, self._stop_by_force, run_id)

    def drop(self, run_id: int) -> None:
        """Stop the run as `stop` does, but kill the process at once if it is working on this item."""
        if self._is_current(run_id):
            self.process.kill("the lease of its item was lost")
        else:
            self.stop(run_id)

    # -- inside

    def _is_current(self, run_id: int) -> bool:
        return self.current is not None and self.current.run_id == run_id

    def _stop_by_force(self, run_id: int) -> None:
        if self._is_current(run_id):
            self.process.kill("its item did not stop when asked to")
        elif run_id in self._items:  # the answer to the recall is late, or the worker has not reached the item
            asyncio.get_running_loop().call_later(self._grace_s, self._stop_by_force, run_id)

    def _remove(self, run_id: int) -> ClaimedItem:
        item = self._items.pop(run_id)
        if item is self.current:
            if self._limit_timer is not None:
                self._limit_timer.cancel()
            self._start_first()
        return item

    def _start_first(self) -> None:
        item = self.current = next(iter(self._items.values()), None)
        if item is None or item.state is not ClaimState.SENT:
            return
        item.start(time.monotonic(), time.time())  # not the loop's clock, which counts in milliseconds
        limit_s = self._limit_of(item)
        if limit_s is not None:
            self._limit_timer = asyncio.get_running_loop().call_later(limit_s, item.exceed_limit, limit_s)

    def _limit_of(self, item: ClaimedItem) -> float | None:
        limit_s, of_kind_s = item.work.limit_s, self.kinds[item.work.kind].limit_s
        if of_kind_s is not None and (limit_s is None or of_kind_s < limit_s):
            limit_s = of_kind_s
        return self._limit_s if limit_s is None else limit_s

    def _schedule_recall(self) -> None:
        self._recall_timer = asyncio.get_running_loop().call_later(RECALL_S, self._recall)

    def _recall(self) -> None:
        self._recall_timer = None
        ahead = self.ahead
        if ahead and not self.current_is_slow:
            self._schedule_recall()
            return
        for item in reversed(ahead):  # each is put back at the front
            self.process.send(protocol.Recall(id=item.run_id))


def _taken_back(items: Sequence[ClaimedItem]) -> list[ClaimedItem]:
    held = [item for item in items if item.held]
    for item in held:
        item.take_back()
    return held
