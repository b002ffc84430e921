"""Writes what the runner has to say into the store: results at once, passing progress a little later.

A result asks for a write at once and takes along all progress that waits; progress alone waits up to
`hold_s`, and only the newest of each item is written. While one write is under way, and for a moment after it,
the next gathers, so a thousand short items cost few writes. Nothing final is ever dropped: a write that fails
is tried again until it succeeds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from unstuck.errors import StoreUnavailable, UnstuckError
from unstuck.jobs.job import Finish, Release, Renew, Report
from unstuck.store.protocol import Store

log = logging.getLogger("unstuck.runner")

#: Between two writes while much happens: a commit that carries ten times as many ends costs hardly more (seconds).
REST_S = 0.02
#: Waits between attempts while the store fails (seconds); the last one stays.
RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

Durable = Finish | Release | Renew
Key = tuple[str, int]


class WriteBuffer:
    """See the module. `run()` writes until cancelled; then `flush()` writes what is left."""

    def __init__(self, store: Store, hold_s: float) -> None:
        self._store = store
        self._hold_s = hold_s
        self._durable: list[Durable] = []
        self._progress: dict[Key, Report] = {}
        self._unwritten: list[Durable | Report] = []
        self._bell = asyncio.Event()
        self._hurry = asyncio.Event()
        self._rests = asyncio.Event()
        self._round = self._round_done = 0  # of writing: the last that began, and that ended
        self._timer: asyncio.TimerHandle | None = None

    def add(self, command: Durable, hurry: bool = False) -> None:
        """Write this as soon as may be; with `hurry`, without a rest before."""
        if isinstance(command, Finish | Release):
            self._progress.pop((command.job_id, command.index), None)
        self._durable.append(command)
        self._bell.set()
        if hurry:
            self._hurry.set()

    def add_progress(self, report: Report) -> None:
        """Write the newest such report of the item within `hold_s`."""
        key = (report.job_id, report.index)
        before = self._progress.get(key)
        if before is not None and report.message is None:
            report = Report(
                report.job_id, report.index, report.lease, report.started_at, report.fraction, before.message
            )
        self._progress[key] = report
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._hold_s, self._due)

    async def wait_written(self) -> None:
        """Until all that was said so far is in the store, or refused by it."""
        turn = self._round + 1
        self._bell.set()
        self._hurry.set()
        while self._round_done < turn:
            await self._rests.wait()

    def unwritten_finishes(self) -> list[Finish]:
        """Of items whose leases must be kept until this is written. For any thread: copying a list is one step."""
        return [one for one in (*tuple(self._unwritten), *tuple(self._durable)) if isinstance(one, Finish)]

    async def run(self) -> None:
        self._bell.set()  # what a write that broke has left is written first
        while True:
            await self._bell.wait()
            self._bell.clear()
            self._hurry.clear()
            self._round += 1
            await self._write_all()
            self._round_done = self._round
            self._rests.set()
            self._rests.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REST_S):
                    await self._hurry.wait()

    async def flush(self) -> None:
        """Write what is left, once; StoreUnavailable if that fails (the next start rescues the items)."""
        self._gather()
        await self._store.apply(self._unwritten)

    def _due(self) -> None:
        self._timer = None
        self._bell.set()

    def _gather(self) -> None:
        # Progress first: an item's report must not follow its end.
        self._unwritten += [*self._progress.values(), *self._durable]
        self._progress, self._durable = {}, []
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
            self._unwritten = []
