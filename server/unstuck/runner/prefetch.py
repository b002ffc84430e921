"""What is claimed and not begun: how many items are claimed at once, and who gets which next.

An item that takes long is claimed when somebody is free for it, with one in reserve. Of a job whose items turn
out to be short, a tenth of a second's worth is claimed together, and the next handful before the last is used up,
so that nobody waits for a commit; and some are sent ahead to the worker, so that it does not wait for us either.
What lies here lets a job that came new go first, once. Knows the Store protocol; no workers, no ends of items.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from unstuck.errors import StoreUnavailable
from unstuck.jobs.job import Item, Job
from unstuck.runner.process import WorkerProcess
from unstuck.store.protocol import Store, WorkItem

#: Items claimed at once for each worker: one to work on, one in reserve while the next claim is written.
CLAIM_PER_WORKER = 2
#: Of a job with short items, claimed for each worker at once: as many as take so long (seconds), at most so many.
HANDFUL_S, MOST_CLAIMED = 0.1, 128
#: ... and sent ahead to a worker.
AHEAD_S, MOST_AHEAD = 0.03, 128
#: Looked for work at least so often: items that rest before another attempt ring no bell (seconds).
LOOK_S = 1.0
#: How much the newest item weighs in the pace of its job.
NEWEST = 0.2


@dataclass(slots=True, eq=False)
class ClaimedItem:
    """A claimed item in our hands; `run_id` and `child` once it is given to a worker, `began` (the loop's clock)
    and `started_at` (epoch seconds) once it is worked on."""

    work: WorkItem
    run_id: int = 0
    process: WorkerProcess | None = None
    began_at: float = 0.0
    started_at: float = 0.0
    start_reported: bool = False  # that it has begun was told
    stopped: bool = False
    overtaken: bool = False  # in reserve, by a job that came later
    exceeded_limit_s: float | None = None  # the limit that it ran into (seconds)
    limit: asyncio.TimerHandle | None = field(default=None, repr=False)

    @property
    def item(self) -> Item:
        return self.work.item


class Prefetch:
    """`run()` claims until cancelled; workers ask for the `next()` item, and for `more()` like it. `held` is all
    that is in the runner's hands, and is added to; `claimed` is called after each claim with its jobs."""

    def __init__(
        self, store: Store, workers: int, lease_s: float, name: Callable[[], str], held: set[ClaimedItem],
        claimed: Callable[[set[str]], None],
    ) -> None:  # fmt: skip
        self._store = store
        self._workers = workers
        self._lease_s = lease_s
        self._name = name
        self._held = held
        self._on_claimed = claimed
        self._ready: deque[ClaimedItem] = deque()
        self._refill_below = 0  # with fewer in reserve the next handful is claimed
        self._durations: dict[str, float] = {}  # of a job: seconds that an item takes
        self._error_budget: dict[str, float] = {}  # of a job: how many may still fail, as far as we know it
        self._newcomer = False
        self._wanted = asyncio.Event()
        self._changed = asyncio.Event()
        self._work_waiting = asyncio.Event()

    async def next(self) -> ClaimedItem:
        """An item to work on; waits for one."""
        while not self._ready or self._newcomer:
            self._wanted.set()
            await self._changed.wait()
        return self._taken()

    def take_ahead(self, job_id: str, in_hand: int) -> list[ClaimedItem]:
        """What to send ahead to a worker that is at an item of this job and has `in_hand` more of it: not more
        than may fail, for all may."""
        most = min(self._count(job_id, AHEAD_S, MOST_AHEAD), self._error_budget.get(job_id, 0))
        if in_hand * 2 > most:
            return []  # it has enough; a few at a time are cheaper than one by one
        found: list[ClaimedItem] = []
        while len(found) < most - in_hand and self._follows(job_id):
            found.append(self._taken())
        return found

    def _follows(self, job_id: str) -> bool:
        return bool(self._ready) and not self._newcomer and self._ready[0].work.job_id == job_id

    def _taken(self) -> ClaimedItem:
        held = self._ready.popleft()
        if len(self._ready) < self._refill_below:
            self._wanted.set()
        return held

    def put_back(self, some: Iterable[ClaimedItem]) -> None:
        """They were never begun, so they have not used their attempts."""
        self._ready.extendleft(reversed(list(some)))
        self._notify()

    def remove(self, some: set[ClaimedItem]) -> set[ClaimedItem]:
        """Those of them that were here; they are no longer."""
        found = some.intersection(self._ready)
        self._ready = deque(held for held in self._ready if held not in found)
        return found

    def record_duration(self, job_id: str, seconds: float, items: int = 1) -> None:
        """So long each of these took, of this job."""
        before = self._durations.get(job_id, seconds)
        self._durations[job_id] = seconds + (1 - NEWEST) ** items * (before - seconds)

    def record_failure(self, job_id: str) -> None:
        """An item of this job failed: step by step until one succeeds again, for a batch that fails as a whole is
        to be stopped before all of it was tried."""
        self._durations.pop(job_id, None)
        if job_id in self._error_budget:
            self._error_budget[job_id] -= 1

    def error_budget_spent(self, job_id: str) -> bool:
        """More of this job failed than may, as far as we know it."""
        return self._error_budget.get(job_id, 0) < 0

    def on_commit(self, job: Job) -> None:
        """There may be something to claim."""
        if job.done:
            self._durations.pop(job.id, None)
            self._error_budget.pop(job.id, None)
        elif not job.external:
            self._error_budget[job.id] = math.inf if job.max_errors is None else job.max_errors - job.failed
        if job.waiting and not job.external:
            self._work_waiting.set()
            if not job.leased and self._ready and not any(held.overtaken for held in self._ready):
                self._newcomer = True

    async def run(self) -> None:
        """Claim when somebody wants something, or soon will."""
        self._wanted.set()  # a claim that broke was wanted
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            newcomer, self._newcomer = self._newcomer, False
            if not newcomer and self._ready and len(self._ready) >= self._refill_below:
                continue
            self._work_waiting.clear()
            if not await self._claim(newcomer) and not self._ready:
                with contextlib.suppress(TimeoutError):
                    # Not wait_for: Python 3.11's can lose a cancel that falls on the moment of a wake.
                    async with asyncio.timeout(LOOK_S):
                        await self._work_waiting.wait()
            self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed.clear()

    async def _claim(self, newcomer: bool) -> bool:
        base = self._workers * CLAIM_PER_WORKER
        paces = () if newcomer else self._durations  # of the others there is enough
        short = {job_id: self._workers * self._count(job_id, HANDFUL_S, MOST_CLAIMED) for job_id in paces}
        try:
            claimed = await self._store.claim(base, self._lease_s, self._name(), short)
        except StoreUnavailable:
            claimed = []  # the store has logged it, and is asked again soon
        if not newcomer:
            self._refill_below = len(claimed) // 2 if len(claimed) > base else 0
        self._add([ClaimedItem(one) for one in claimed])
        return bool(claimed)

    def _add(self, taken: Sequence[ClaimedItem]) -> None:
        in_hand = {held.work.job_id for held in self._held}
        first = [held for held in taken if held.work.job_id not in in_hand]
        if first:  # as many as are claimed at once are let past once; behind them the next newcomer comes
            for held in itertools.islice(self._ready, self._workers * CLAIM_PER_WORKER):
                held.overtaken = True
        self._held.update(taken)
        self._ready.extendleft(reversed(first))
        self._ready.extend(held for held in taken if held.work.job_id in in_hand)
        self._on_claimed({held.work.job_id for held in taken})

    def _count(self, job_id: str, seconds: float, most: int) -> int:
        """How many items of the job take so long; none where that is not known."""
        pace = self._durations.get(job_id)
        return 0 if pace is None else min(int(seconds / max(pace, 1e-6)), most)
