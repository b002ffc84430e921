"""Buffers the runner's commands and writes them in batches: ends at once, progress a little later.

Decides: what is written together and when, and that nothing final is ever dropped.
Must not know: why an item ended, or what a command does to a job.
Read on: registry.py (leases are kept until their end is written), store/writer.py (the other side).

An end asks for a write at once and takes along all progress that waits; progress alone waits up to `hold_s`, and
only the newest of each item is written. While one write is under way, and for a moment after it, the next one
gathers, so a thousand short items cost few writes. A write that fails is tried again until it succeeds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from msgspec.structs import replace

from unstuck.errors import StoreUnavailable, UnstuckError
from unstuck.jobs.job import Finish, Release, Report
from unstuck.runner.registry import ItemRegistry
from unstuck.store.protocol import WorkQueue

log = logging.getLogger("unstuck.runner")

#: Between two writes while much happens: a commit that carries ten times as many ends costs hardly more (seconds).
REST_S = 0.02
#: Waits between attempts while the store fails (seconds); the last one stays.
RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class WriteBuffer:
    """`run()` writes until cancelled; then `flush()` writes what is left."""

    def __init__(self, store: WorkQueue, items: ItemRegistry, hold_s: float) -> None:
        self._store = store
        self._items = items
        self._hold_s = hold_s
        self._ends: list[Finish | Release] = []
        self._progress: dict[tuple[str, int], Report] = {}  # the newest of each item, by job and index
        self._unwritten: list[Finish | Release | Report] = []  # the batch that is being written
        self._due = asyncio.Event()
        self._urgent = asyncio.Event()
        self._round_over = asyncio.Event()
        self._rounds_begun = self._rounds_done = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, end: Finish | Release) -> None:
        """Write this with the next batch; the batch is not delayed if no other item is held."""
        self._progress.pop((end.job_id, end.index), None)
        self._ends.append(end)
        self._items.retire(end)
        self._due.set()
        if not len(self._items):
            self._urgent.set()

    def add_progress(self, report: Report) -> None:
        """Write the newest report of this item within `hold_s`."""
        key = (report.job_id, report.index)
        before = self._progress.get(key)
        if before is not None and report.message is None:
            report = replace(report, message=before.message)
        self._progress[key] = report
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._hold_s, self._progress_due)

    async def wait_written(self) -> None:
        """Wait until all that was added so far is in the store, or refused by it."""
        awaited = self._rounds_begun + 1
        self._due.set()
        self._urgent.set()
        while self._rounds_done < awaited:
            await self._round_over.wait()

    async def run(self) -> None:
        self._due.set()  # what a write that broke has left is written first
        while True:
            await self._due.wait()
            self._due.clear()
            self._urgent.clear()
            self._rounds_begun += 1
            await self._write_all()
            self._rounds_done = self._rounds_begun
            self._round_over.set()
            self._round_over.clear()
            # Python 3.11's wait_for can lose a cancel that meets the wake, anyio before 4.16 one that meets the
            # timeout; then the runner would never stop.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REST_S):
                    await self._urgent.wait()

    async def flush(self) -> None:
        """Write what is left, once. Raises StoreUnavailable if that fails (the next start rescues the items)."""
        self._gather()
        await self._store.apply(self._unwritten)

    def _progress_due(self) -> None:
        self._timer = None
        self._due.set()

    def _gather(self) -> None:
        # Progress first: an item's report must not follow its end.
        self._unwritten += [*self._progress.values(), *self._ends]
        self._progress, self._ends = {}, []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _write_all(self) -> None:
        self._gather()
        failures = 0
        while self._unwritten:
            try:
                outcomes = await self._store.apply(self._unwritten)
            except StoreUnavailable:  # the store has logged it
                await asyncio.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])
                failures += 1
                continue
            for command, outcome in zip(self._unwritten, outcomes, strict=True):
                if isinstance(outcome, UnstuckError):
                    log.info("%s dropped: %s", type(command).__name__, outcome)
            self._items.forget(command for command in self._unwritten if not isinstance(command, Report))
            self._unwritten = []
