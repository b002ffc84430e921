"""Decides how long finished jobs, their inputs, and uploads that were cut off are kept.

Must not know: SQL, HTTP; it uses the protocols of the store and of files.
See also: protocol.py (how files are removed), store/protocol.py (FinishedJobs).

A job is removed when it finished longer ago than the retention: first its row, durably, then its files. The store
notes that the files are to go, so a removal that was cut off is finished after the next start, or by a daily
check. That check also removes uploads that were cut off. If inputs are not kept, those of items that succeeded or
were skipped are removed at the job's end; the others wait for a retry.

The wall clock decides, since it is what `expires_at` shows. A clock that was set shortens nothing: a job's age is
the time that passed, as far as the server has seen the steps of the clock. After a step nothing is removed for an
hour, so a clock that is wrong for a minute costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from unstuck.errors import JobNotFound, StoreUnavailable
from unstuck.files import marks
from unstuck.files.ownership import batches
from unstuck.files.protocol import Files
from unstuck.jobs.job import ItemState
from unstuck.store.clock import Clock
from unstuck.store.protocol import Changes, FinishedJobs, JobFilter

log = logging.getLogger("unstuck.retention")

#: Longest interval between checks for expired jobs; a tenth of the retention if that is shorter (seconds).
LOOK_S = 60.0
#: Interval between checks for uploads that were cut off (seconds).
DAY_S = 86_400.0
#: Nothing is removed for this long after the clock was set (seconds).
WARY_S = 3_600.0
#: Jobs or items that are asked for at once.
BATCH = 200
#: The states of items that are retried only together with all others.
SETTLED = (ItemState.SUCCEEDED, ItemState.SKIPPED)


class Retention:
    """Removes what has expired; `run()` is its loop. With `keep_s` None, jobs stay until a user removes them."""

    def __init__(
        self,
        store: FinishedJobs,
        files: Files,
        keep_s: float | None,
        *,
        keep_inputs: bool = True,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._files = files
        self._keep_s = keep_s
        self._keep_inputs = keep_inputs
        self._steady = steady
        self._clock = Clock(wall, steady)
        self._wary_until = steady()
        self._look_s = LOOK_S if keep_s is None else min(max(keep_s / 10, 0.1), LOOK_S)
        self._next_look = self._next_tidy = steady() + self._look_s
        self._finished: set[str] = set()
        self._missed = False  # any job may have finished
        self._bell = asyncio.Event()
        store.on_commit(self._on_commit)

    async def run(self) -> None:
        """Remove what has expired, again and again, until cancelled. What failed is left for the next time."""
        with contextlib.suppress(StoreUnavailable):  # logged by the store, and tried again with the next check
            await finish_removals(self._files, self._store)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._look_s):
                    await self._bell.wait()
            self._bell.clear()
            try:
                if self._missed:
                    await self._remove_all_inputs()
                await self.remove_inputs()
                if self._steady() >= self._next_look:
                    self._next_look = self._steady() + self._look_s
                    await self.expire()
                if self._steady() >= self._next_tidy and await self.remove_leftovers() is not None:
                    self._next_tidy = self._steady() + DAY_S
            except StoreUnavailable:  # logged by the store, and tried again
                continue

    async def expire(self) -> int:
        """Remove the jobs that have expired, and return how many were removed."""
        removed = 0
        while self._keep_s is not None and (now := self._time()) is not None:
            since = await self._store.before_steps(now - self._keep_s)
            expired = JobFilter(finished_before=since)
            found = await self._store.jobs(expired, before=None, limit=BATCH)
            for _, snapshot in found:
                began = self._steady()
                removed += await self._remove(snapshot.job.id)
                await asyncio.sleep(self._steady() - began)  # leave half of the time to others
            if len(found) < BATCH:
                break
        if removed:
            await finish_removals(self._files, self._store)
            log.info("Expired jobs removed: jobs=%d", removed)
        return removed

    async def remove_leftovers(self) -> int | None:
        """Remove uploads, files and inputs that a crash or another setting left behind.

        Return how many uploads were removed, or None if the clock is not trusted.
        """
        now = self._time()
        if now is None:
            return None
        await finish_removals(self._files, self._store)
        removed = await self._files.remove_left_over(self._store, now - marks.SILENT_S)
        if removed:
            log.info("Uploads that were cut off removed: folders=%d", removed)
        if not self._keep_inputs:
            await self._remove_all_inputs()
        return removed

    async def _remove_all_inputs(self) -> None:
        """Remove the inputs that no retry will need, of all jobs that have finished."""
        self._missed = False
        try:
            for batch in batches(await self._files.job_ids()):
                self._finished.update(await self._store.seqs(batch))
                await self.remove_inputs()
        except BaseException:
            self._missed = True
            raise

    async def remove_inputs(self) -> None:
        """Remove the inputs that no retry will need, of the jobs that have finished since the last call."""
        while self._finished:
            job_id = self._finished.pop()
            try:
                await self._remove_inputs(job_id)
            except JobNotFound:
                continue
            except StoreUnavailable:
                self._finished.add(job_id)
                raise
            except OSError as error:
                log.warning("Inputs cannot be removed, trying again within a day: job=%s error=%s", job_id, error)

    # -- one job

    async def _remove(self, job_id: str) -> bool:
        try:
            await self._store.remove(job_id)
        except JobNotFound:
            return False  # it was removed by a request
        await self._files.remove([job_id])
        return True

    async def _remove_inputs(self, job_id: str) -> None:
        if not await self._files.has_inputs(job_id):
            return
        if not (await self._store.snapshot(job_id)).job.done:
            return
        index = -1
        while True:
            items = await self._store.items(job_id, states=SETTLED, after_index=index, limit=BATCH)
            files = [item.file for item in items if item.file is not None]
            await self._files.remove_inputs(job_id, files)
            if len(items) < BATCH:
                return
            index = items[-1].index

    # -- when

    def _on_commit(self, changed: Changes) -> None:
        if self._keep_inputs:
            return
        if changed is None:
            self._missed = True
            self._bell.set()
            return
        for job_id, job in changed.items():
            if job is not None and job.done:
                self._finished.add(job_id)
                self._bell.set()

    def _time(self) -> float | None:
        """Return the time of day (epoch seconds), or None while the clock is not trusted."""
        moment = self._clock.read()
        if moment.jump:
            self._clock.commit(moment)
            self._wary_until = self._steady() + WARY_S
            log.warning("Clock was set, nothing is removed for an hour: jump_s=%+.0f", moment.jump)
        return moment.now if self._steady() >= self._wary_until else None


async def finish_removals(files: Files, store: FinishedJobs) -> None:
    """Remove the files of jobs that were removed from the database; a removal may have been cut off there."""
    while job_ids := await store.removals(BATCH):
        gone = await files.remove(job_ids)
        if gone:
            await store.finish_removals(gone)
        if len(gone) < BATCH:
            return
