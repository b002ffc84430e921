"""What is kept for how long: finished jobs, their inputs, and folders that belong to no job.

A job goes when it finished longer ago than the retention: first its row, durably, then its files. Whatever cuts
that off leaves at most files without a job, which are litter: the start removes it, and a daily look while the
server runs, which leaves alone what was written to within a day, since that may be an upload under way. Where
inputs are not kept, those that succeeded or were skipped go at the job's end; the others wait for a retry.

The wall clock decides, since it is what `expires_at` shows. After it was set nothing is removed for an hour, so
that a clock that is wrong for a minute costs nothing. Knows the Store protocol and the data folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping

import anyio.to_thread

from unstuck.errors import JobNotFound, StoreUnavailable
from unstuck.files.folder import DataFolder
from unstuck.jobs.job import ItemState, Job
from unstuck.store.clock import Clock
from unstuck.store.protocol import FinishedJobs, JobFilter

log = logging.getLogger("unstuck.retention")

#: Between two looks for expired jobs at most; a tenth of a short retention (seconds).
LOOK_S = 60.0
#: Between two looks for litter, and how long a folder without a job was left alone before it is litter (seconds).
DAY_S = 86_400.0
#: After the clock was set nothing is removed for so long (seconds).
WARY_S = 3_600.0
#: Jobs, folders or items that are asked for at once.
BATCH = 200
#: What nobody can retry but with all the others.
SETTLED = (ItemState.SUCCEEDED, ItemState.SKIPPED)


class Retention:
    """Removes what has expired; `run()` is its loop. With `keep_s` None, jobs stay until they are removed."""

    def __init__(
        self,
        store: FinishedJobs,
        folder: DataFolder,
        keep_s: float | None,
        *,
        keep_inputs: bool = True,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._folder = folder
        self._keep_s = keep_s
        self._keep_inputs = keep_inputs
        self._steady = steady
        self._clock = Clock(wall, steady)
        self._wary_until = steady()
        self._look_s = LOOK_S if keep_s is None else min(max(keep_s / 10, 0.1), LOOK_S)
        self._next_look = self._next_tidy = steady() + self._look_s
        self._finished: set[str] = set()
        self._bell = asyncio.Event()
        store.on_commit(self._on_commit)

    async def run(self) -> None:
        """Look again and again, until cancelled. What broke is left for the next look."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._look_s):
                    await self._bell.wait()
            self._bell.clear()
            try:
                await self.remove_inputs()
                if self._steady() >= self._next_look:
                    self._next_look = self._steady() + self._look_s
                    await self.expire()
                if self._steady() >= self._next_tidy and await self.remove_leftovers() is not None:
                    self._next_tidy = self._steady() + DAY_S
            except StoreUnavailable:  # the store has logged it, and is asked again
                continue

    async def expire(self) -> int:
        """Remove the jobs whose time is over; how many."""
        removed = 0
        while self._keep_s is not None and (now := self._time()) is not None:
            wanted = JobFilter(finished_before=now - self._keep_s)
            found = await self._store.jobs(wanted, before=None, limit=BATCH)
            for _, snapshot in found:
                began = self._steady()
                removed += await self._remove(snapshot.job.id)
                await asyncio.sleep(self._steady() - began)  # half of the time belongs to the others
            if len(found) < BATCH:
                break
        if removed:
            log.info("removed %d finished jobs whose time was over", removed)
        return removed

    async def remove_leftovers(self) -> int | None:
        """Remove litter, and inputs that a crash or another setting left behind; how many folders went, or None
        where the clock is not believed."""
        now = self._time()
        if now is None:
            return None
        removed = 0
        names = await anyio.to_thread.run_sync(self._folder.job_folders)
        for batch in _batches(names):
            known = await self._store.seqs(batch)
            orphans = [name for name in batch if name not in known]
            removed += await anyio.to_thread.run_sync(self._folder.remove_orphans, orphans, now - DAY_S)
            if not self._keep_inputs:
                self._finished.update(known)
                await self.remove_inputs()
        _log_removed(removed)
        return removed

    async def remove_inputs(self) -> None:
        """Of the jobs that have finished since the last time: the inputs that nobody will ask for any more."""
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
                log.warning("inputs of job %s cannot be removed: %s", job_id, error)

    # -- one job

    async def _remove(self, job_id: str) -> bool:
        try:
            await self._store.remove(job_id)
        except JobNotFound:
            return False  # somebody else did
        try:
            await anyio.to_thread.run_sync(self._folder.remove, job_id)
        except OSError as error:
            log.warning("files of job %s cannot be removed (%s); tried again within a day", job_id, error)
        return True

    async def _remove_inputs(self, job_id: str) -> None:
        if not await anyio.to_thread.run_sync(self._folder.inputs(job_id).is_dir):
            return
        if not (await self._store.snapshot(job_id)).job.done:
            return
        index = -1
        while True:
            items = await self._store.items(job_id, states=SETTLED, after_index=index, limit=BATCH)
            files = [item.file for item in items if item.file is not None]
            await anyio.to_thread.run_sync(self._folder.remove_inputs, job_id, files)
            if len(items) < BATCH:
                return
            index = items[-1].index

    # -- when

    def _on_commit(self, changed: Mapping[str, Job | None]) -> None:
        if self._keep_inputs:
            return
        for job_id, job in changed.items():
            if job is not None and job.done:
                self._finished.add(job_id)
                self._bell.set()

    def _time(self) -> float | None:
        """The time of day, or None while it is better not believed."""
        moment = self._clock.read()
        if moment.jump:
            self._clock.commit(moment)
            self._wary_until = self._steady() + WARY_S
            log.warning("the clock was set by %+.0f s; nothing is removed in the next hour", moment.jump)
        return moment.now if self._steady() >= self._wary_until else None


async def remove_orphans(folder: DataFolder, store: FinishedJobs) -> None:
    """Before anything can be submitted: every folder that belongs to no job goes."""
    removed = 0
    for batch in _batches(await anyio.to_thread.run_sync(folder.job_folders)):
        known = await store.seqs(batch)
        orphans = [name for name in batch if name not in known]
        removed += await anyio.to_thread.run_sync(folder.remove_orphans, orphans)
    _log_removed(removed)


def _batches(names: list[str]) -> list[list[str]]:
    return [names[start : start + BATCH] for start in range(0, len(names), BATCH)]


def _log_removed(removed: int) -> None:
    if removed:
        log.info("removed %d folders that belonged to no job", removed)
