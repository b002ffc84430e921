"""Decides how many items are claimed and when, and which of them a worker gets next.

Must not know: worker processes, or how an item ends.
See also: claimed_item.py (one item), runner.py (where items go next), store/claims.py (which ones are claimed).

A long item is claimed when a worker is free for it, with one in reserve. If the items of a job turn out to be
short, a tenth of a second's worth is claimed at once, and more before half of it is used up, so that no worker
waits for a commit. Some are sent ahead to the worker, so that it does not wait for the runner either. A new job
may overtake prefetched items once. Only items of kinds that the workers know are claimed: the others wait for a
runner that knows them, such as one of a newer version.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
from collections import deque
from collections.abc import Callable, Collection, Sequence

from unstuck.errors import StoreUnavailable
from unstuck.jobs.job import Job
from unstuck.runner.claimed_item import ClaimedItem, ClaimState
from unstuck.runner.registry import ItemRegistry
from unstuck.runner.write_buffer import WriteBuffer
from unstuck.store.protocol import WorkQueue

#: Items claimed at once for each worker: one to work on, and one in reserve while the next claim is written.
CLAIM_PER_WORKER = 2
#: Short items claimed at once for each worker: this many seconds' worth, and at most this many.
HANDFUL_S, MOST_CLAIMED = 0.1, 128
#: Short items sent ahead to a worker, likewise.
AHEAD_S, MOST_AHEAD = 0.03, 128
#: The store is asked for work at least this often (seconds), since no commit marks the end of a retry's pause.
LOOK_S = 1.0
#: Weight of the newest item in the average duration of its job's items.
NEWEST = 0.2


class Prefetch:
    """Claims in the name of `worker` while `run()` runs; `next()` and `take_ahead()` hand items out.

    `kinds` returns the kinds to claim, None for all.
    """

    def __init__(
        self,
        store: WorkQueue,
        items: ItemRegistry,
        writes: WriteBuffer,
        *,
        workers: int,
        worker: str,
        kinds: Callable[[], Collection[str] | None] = lambda: None,
    ) -> None:
        self._store = store
        self._items = items
        self._writes = writes
        self._workers = workers
        self._worker = worker
        self._kinds = kinds
        self._ready: deque[ClaimedItem] = deque()
        self._refill_below = 0  # claim more when fewer than this are ready
        self._durations: dict[str, float] = {}  # by job: average seconds per item
        self._error_budget: dict[str, float] = {}  # by job: failures still allowed, as far as known here
        self._stopping: set[str] = set()  # jobs of which no item may start
        self._newcomer = False  # claim from a new job before anything else is handed out
        self._items_needed = asyncio.Event()
        self._changed = asyncio.Event()
        self._work_waiting = asyncio.Event()

    # -- handing items out, and taking them back

    async def next(self) -> ClaimedItem:
        """Wait for the next item to work on, and return it."""
        while self._newcomer or self._first() is None:
            self._items_needed.set()
            await self._changed.wait()
        return self._pop()

    def take_ahead(self, job_id: str, ahead: int) -> list[ClaimedItem]:
        """Return items to send ahead to a worker that runs an item of this job and has `ahead` more waiting.

        Together they are no more than the failures still allowed, since all of them may fail.
        """
        most = min(self._count(job_id, AHEAD_S, MOST_AHEAD), self._error_budget.get(job_id, 0))
        if ahead * 2 > most:
            return []  # it has enough, and several at a time are cheaper than one by one
        taken: list[ClaimedItem] = []
        while len(taken) < most - ahead and self._follows(job_id):
            taken.append(self._pop())
        return taken

    def put_back(self, items: Sequence[ClaimedItem]) -> None:
        """Take back, in order, items that no worker has started. They have not used up an attempt."""
        self._ready.extendleft(reversed(self._release_stopping(items)))
        self._notify()

    def strays(self) -> list[ClaimedItem]:
        """Return claimed items that are neither ready nor with a worker, because code failed in between."""
        ready = set(self._ready)
        return [item for item in self._items.held() if item.state is ClaimState.CLAIMED and item not in ready]

    def _first(self) -> ClaimedItem | None:
        # Lost items are skipped only here. Until then they count as ready, so the next claim may be late.
        while self._ready and not self._ready[0].held:
            self._ready.popleft()
        return self._ready[0] if self._ready else None

    def _follows(self, job_id: str) -> bool:
        first = None if self._newcomer else self._first()
        return first is not None and first.work.job_id == job_id

    def _pop(self) -> ClaimedItem:
        item = self._ready.popleft()
        if len(self._ready) < self._refill_below:
            self._items_needed.set()
        return item

    def _release_stopping(self, items: Sequence[ClaimedItem]) -> list[ClaimedItem]:
        """Release the items of jobs that are being stopped, and return the others that are still held."""
        for item in items:
            if item.held and item.work.job_id in self._stopping:
                self._writes.add(item.release())
        return [item for item in items if item.held]

    # -- what is known about jobs

    def record_duration(self, job_id: str, seconds: float, items: int = 1) -> None:
        """Add `items` items of the job, each of which took `seconds`, to its average."""
        before = self._durations.get(job_id, seconds)
        self._durations[job_id] = seconds + (1 - NEWEST) ** items * (before - seconds)

    def record_failure(self, job_id: str) -> None:
        """Record a failed item. Send one item at a time until one succeeds again.

        A job in which every item fails should be stopped before all of them were tried.
        """
        self._durations.pop(job_id, None)
        if job_id in self._error_budget:
            self._error_budget[job_id] -= 1

    def error_budget_spent(self, job_id: str) -> bool:
        """Return whether more of the job's items failed than is allowed, as far as known here."""
        return self._error_budget.get(job_id, 0) < 0

    def on_commit(self, job_id: str, job: Job | None) -> None:
        """Note that the job changed (None: it was removed). There may be items to claim or to release."""
        if job is None or job.done:
            self._durations.pop(job_id, None)
            self._error_budget.pop(job_id, None)
            self._stopping.discard(job_id)
            return
        if job.external:
            return
        self._error_budget[job_id] = math.inf if job.max_errors is None else job.max_errors - job.failed
        if job.stopping:
            self._stopping.add(job_id)
            self._ready = deque(self._release_stopping(self._ready))
        if job.waiting:
            self._work_waiting.set()
            if not job.leased:
                self._let_newcomers_overtake()

    def on_missed_commits(self) -> None:
        """Note that any job may have changed: claim, and keep what is known of jobs with items here only."""
        held = {item.work.job_id for item in self._items.held()}
        for known in (self._durations, self._error_budget):
            for job_id in known.keys() - held:
                del known[job_id]
        self._stopping &= held
        self._work_waiting.set()
        self._let_newcomers_overtake()

    def _let_newcomers_overtake(self) -> None:
        if self._ready and not any(item.overtaken for item in self._ready):
            self._newcomer = True

    # -- claiming

    async def run(self) -> None:
        """Claim whenever items are needed or soon will be. Run until cancelled."""
        self.put_back(self.strays())
        while True:
            await self._items_needed.wait()
            self._items_needed.clear()
            newcomer, self._newcomer = self._newcomer, False
            if not newcomer and self._first() is not None and len(self._ready) >= self._refill_below:
                continue
            self._work_waiting.clear()
            if not await self._claim(newcomer) and self._first() is None:
                # As in WriteBuffer.run: other ways to wait with a timeout can lose a cancellation.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._work_waiting.wait()
            self._notify()

    async def _claim(self, newcomer: bool) -> bool:
        base = self._workers * CLAIM_PER_WORKER
        known = () if newcomer else self._durations  # the other jobs have enough items ready
        short = {job_id: self._workers * self._count(job_id, HANDFUL_S, MOST_CLAIMED) for job_id in known}
        try:
            claimed = await self._store.claim(base, self._items.lease_s, self._worker, short, self._kinds())
        except StoreUnavailable:
            claimed = []  # logged by the store, and tried again soon
        except Exception:
            self._items_needed.set()  # items are still needed when the supervisor restarts this loop
            raise
        if not newcomer:
            self._refill_below = len(claimed) // 2 if len(claimed) > base else 0
        self._add([ClaimedItem(work) for work in claimed])
        return bool(claimed)

    def _add(self, items: Sequence[ClaimedItem]) -> None:
        known = {item.work.job_id for item in self._items.held()}
        self._items.add(items)
        items = self._release_stopping(items)  # the news of a stop may arrive before the claim that preceded it
        first = [item for item in items if item.work.job_id not in known]
        if first:  # overtake as many as are claimed at once, each only once; the next new job comes behind them
            for item in itertools.islice(self._ready, self._workers * CLAIM_PER_WORKER):
                item.overtake()
        self._ready.extendleft(reversed(first))
        self._ready.extend(item for item in items if item.work.job_id in known)

    def _notify(self) -> None:
        self._changed.set()
        self._changed.clear()

    def _count(self, job_id: str, seconds: float, most: int) -> int:
        """Return how many items of the job take `seconds` together, at most `most`; 0 if that is not known."""
        duration = self._durations.get(job_id)
        return 0 if duration is None else min(int(seconds / max(duration, 1e-6)), most)
