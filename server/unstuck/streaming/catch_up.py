"""Brings all viewers up to date after notices of changes were missed.

It decides what is compared with the store then, and how fast: job by job would cost a query each, and all at once
would hold up what changes meanwhile. Unlike a heartbeat, it also finds jobs that no viewer has heard of.
It must not know why notices were missed, or how a viewer that is behind is served.
See also: hub.py (asks for it), heartbeat.py (compares in the long run), store/protocol.py (CommitListener).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterator, Sequence

from unstuck.errors import StoreUnavailable
from unstuck.store.protocol import LiveJobs
from unstuck.streaming.heartbeat import FINISHED_WITHIN_S
from unstuck.streaming.registry import Registry
from unstuck.streaming.viewer import Viewer
from unstuck.streaming.watched_job import WatchedJob
from unstuck.supervision.backoff import Backoff

log = logging.getLogger("unstuck.hub")

#: Jobs that are compared at once.
BATCH = 200
#: Pauses between attempts while the store does not answer.
PAUSE = Backoff(0.1, 5.0)


class CatchUp:
    """Compares everything once after each `request()`, while `run()` runs.

    `resend` is called with each job whose viewers are behind, and `subscribe` with each viewer of all jobs and the
    id of a live one.
    """

    def __init__(
        self,
        store: LiveJobs,
        registry: Registry,
        *,
        resend: Callable[[WatchedJob], None],
        subscribe: Callable[[Viewer, str], None],
    ) -> None:
        self._store = store
        self._registry = registry
        self._resend = resend
        self._subscribe = subscribe
        self._needed = asyncio.Event()

    def request(self) -> None:
        """Compare all viewers with the store soon."""
        self._needed.set()

    async def run(self) -> None:
        """Compare whenever that was requested, again until the store answers. Run until cancelled."""
        failures = 0
        while True:
            await self._needed.wait()
            self._needed.clear()
            try:
                await self._compare()
            except StoreUnavailable:  # logged by the store
                failures += 1
                self._needed.set()
                await asyncio.sleep(PAUSE.pause_s(failures, random.random()))  # noqa: S311 – spreads, hides nothing
            except Exception:
                self._needed.set()  # it is still needed when the supervisor restarts this loop
                raise
            else:
                failures = 0

    async def _compare(self) -> None:
        log.info(
            "Changes may have been missed, comparing all viewers with the store: jobs=%d streams=%d",
            len(self._registry.jobs),
            len(self._registry.viewers),
        )
        loop = asyncio.get_running_loop()
        if self._registry.of_all_jobs:
            for batch in _batches(await self._store.live_ids(FINISHED_WITHIN_S)):
                for job_id in batch:
                    for viewer in tuple(self._registry.of_all_jobs):
                        self._subscribe(viewer, job_id)
                await asyncio.sleep(0)
        for batch in _batches(list(self._registry.jobs)):
            began = loop.time()
            seqs = await self._store.seqs(batch)
            for job_id in batch:
                job = self._registry.jobs.get(job_id)
                if job is not None and job.seq != seqs.get(job_id, 0):
                    job.changed_at = loop.time()
                    self._resend(job)
            await asyncio.sleep(loop.time() - began)  # leave half of the time to what changes now


def _batches(job_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(job_ids), BATCH):
        yield job_ids[start : start + BATCH]
