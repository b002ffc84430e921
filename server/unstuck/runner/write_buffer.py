"""Buffers the runner's commands and writes them in batches: ends at once, progress a little later.

Must not know: why an item ended, or what a command does to a job.
See also: registry.py (leases are kept until their end is written), store/writer.py (the other side).

An end triggers a write at once and takes along all pending progress. Progress alone waits up to `hold_s`, and only
the newest report of each item is written. While a write is in progress, and for a moment after it, the next batch
collects, so a thousand short items cost few writes. A failed write is repeated until it succeeds; nothing final is
ever dropped. If a write breaks unexpectedly, its commands are written again one by one, and an outcome that breaks
alone is replaced by a plain failure: no item may keep the others from being written.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from msgspec.structs import replace

from unstuck.errors import StoreUnavailable, UnstuckError
from unstuck.jobs.job import Finish, ItemState, JobError, Release, Report
from unstuck.runner.registry import ItemRegistry
from unstuck.store.protocol import WorkQueue

log = logging.getLogger("unstuck.runner")

#: Pause between two writes under load: a commit with ten times as many ends costs hardly more (seconds).
REST_S = 0.02
#: Pauses between attempts while the store fails (seconds); the last one repeats.
RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class WriteBuffer:
    """Collects commands: `run()` writes them until cancelled, then `flush()` writes the rest."""

    def __init__(self, store: WorkQueue, items: ItemRegistry, hold_s: float) -> None:
        self._store = store
        self._items = items
        self._hold_s = hold_s
        self._ends: list[Finish | Release] = []
        self._progress: dict[tuple[str, int], Report] = {}  # the newest of each item, by job and index
        self._unwritten: list[Finish | Release | Report] = []  # the batch that is being written
        self._doubtful = 0  # so many of these broke a write together, and are written one by one
        self._due = asyncio.Event()
        self._urgent = asyncio.Event()
        self._round_over = asyncio.Event()
        self._rounds_begun = self._rounds_done = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, end: Finish | Release) -> None:
        """Write this command with the next batch, and without delay if no other item is held."""
        self._progress.pop((end.job_id, end.index), None)
        self._ends.append(end)
        self._items.retire(end)
        self._due.set()
        if not len(self._items):
            self._urgent.set()

    def add_progress(self, report: Report) -> None:
        """Write the newest report of this item within `hold_s`."""
        key = (report.job_id, report.index)
        before = self._progress.pop(key, None)  # the newest is applied last: its words are the job's
        if before is not None and report.message is None:
            report = replace(report, message=before.message)
        self._progress[key] = report
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._hold_s, self._progress_due)

    async def wait_written(self) -> None:
        """Wait until everything added so far is in the store, or was refused by it."""
        awaited = self._rounds_begun + 1
        self._due.set()
        self._urgent.set()
        while self._rounds_done < awaited:
            await self._round_over.wait()

    async def run(self) -> None:
        self._due.set()  # first write what an earlier run that failed has left
        while True:
            await self._due.wait()
            self._due.clear()
            self._urgent.clear()
            self._rounds_begun += 1
            await self._write_all()
            self._rounds_done = self._rounds_begun
            self._round_over.set()
            self._round_over.clear()
            # Python 3.11's wait_for can lose a cancellation that coincides with the wake-up, and anyio before 4.16
            # one that coincides with the timeout; then the runner would never stop.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REST_S):
                    await self._urgent.wait()

    async def flush(self) -> None:
        """Write the rest, once. Raises StoreUnavailable if that fails; the next start then recovers the items."""
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
            batch = self._unwritten[:1] if self._doubtful else self._unwritten
            try:
                outcomes = await self._write(batch)
            except StoreUnavailable:  # the store has logged it
                await asyncio.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])
                failures += 1
                continue
            for command, outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, UnstuckError):
                    _log_refused(command, outcome)
            self._items.forget(command for command in batch if not isinstance(command, Report))
            self._unwritten = self._unwritten[len(batch) :]
            self._doubtful = max(self._doubtful - len(batch), 0)

    async def _write(self, batch: Sequence[Finish | Release | Report]) -> Sequence[object]:
        try:
            return await self._store.apply(batch)
        except StoreUnavailable:
            raise
        except Exception as error:
            if not self._doubtful:
                self._doubtful = len(batch)
                raise  # the supervisor logs it, and runs this again
            return await self._write_plainly(batch[0], error)

    async def _write_plainly(self, command: Finish | Release | Report, error: Exception) -> Sequence[object]:
        """Write a plain failure instead of an outcome that cannot be written; drop a report of progress.

        If not even that can be written, the outcome is not to blame: it is kept, and written after the others.
        """
        outcomes: Sequence[object] = [None]
        if not isinstance(command, Report):
            try:
                outcomes = await self._store.apply([_plain(command, error)])
            except StoreUnavailable:
                raise
            except Exception:
                self._unwritten = [*self._unwritten[1:], command]
                raise
        log.error(
            "Command could not be written, and was replaced: command=%s job=%s item=%d",
            type(command).__name__,
            command.job_id,
            command.index,
            exc_info=error,
        )
        return outcomes


def _plain(command: Finish | Release, error: Exception) -> Finish | Release:
    """Return the command without anything that came from user code."""
    if isinstance(command, Release):
        return command
    why = JobError("result_not_kept", f"The outcome could not be stored ({type(error).__name__}).", transient=True)
    return replace(command, state=ItemState.FAILED, error=why, message=None, result=None, result_file=None)


def _log_refused(command: Finish | Release | Report, refusal: UnstuckError) -> None:
    log.info(
        "Command was refused by the store and dropped: command=%s job=%s item=%d reason=%s",
        type(command).__name__,
        command.job_id,
        command.index,
        refusal.code,
    )
