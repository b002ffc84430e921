"""Sends heartbeats, which say what seqs a stream should have by now and when the next heartbeat comes.

Must not know: how a viewer that is behind is served.
See also: hub.py (broadcasts), PROTOCOL.md section 4.

Each heartbeat compares its viewers with the store, in one query, and so repairs whatever was lost between a commit
and a viewer. Streams of active jobs get more heartbeats, so that a dead one is suspected sooner. Streams that have
reached their maximum age are sent away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping

from unstuck.errors import StoreUnavailable
from unstuck.store.protocol import LiveJobs
from unstuck.streaming import sse
from unstuck.streaming.config import StreamConfig, StreamStats
from unstuck.streaming.registry import Registry
from unstuck.streaming.viewer import Viewer
from unstuck.streaming.watched_job import WatchedJob

log = logging.getLogger("unstuck.hub")

#: A stream of all jobs starts with those that ended at most this long ago, and drops them after that (seconds).
FINISHED_WITHIN_S = 60.0
#: How long a heartbeat waits for the store before it is sent without seqs (seconds).
COMPARE_S = 1.0
#: Heartbeats on a stream of active jobs for each one on other streams.
TICKS = 3
#: Viewers that join within this time share their first heartbeat (seconds).
TOGETHER_S = 0.2
#: A commit is a moment ahead of its `on_commit`, and one of another server by more: viewers that are behind are
#: checked again after this (seconds).
ON_COMMIT_S = 0.25


class Heartbeat:
    """The heartbeats of all streams, sent by two loops: `tick_periodically` and `greet_new_viewers`.

    `resend` is called with each job that has viewers which are behind, and `send_away` with each viewer that
    should open a new stream, and the reason.
    """

    def __init__(
        self,
        store: LiveJobs,
        config: StreamConfig,
        clock: Callable[[], float],
        stats: StreamStats,
        registry: Registry,
        *,
        resend: Callable[[WatchedJob], None],
        send_away: Callable[[Viewer, str], None],
    ) -> None:
        self._store = store
        self._config = config
        self._clock = clock
        self._stats = stats
        self._registry = registry
        self._resend = resend
        self._send_away = send_away
        self._some_began = asyncio.Event()
        self._number = 1  # of the next tick
        self._due: float | None = None  # when it comes (the loop's clock)

    def viewers_began(self) -> None:
        """Note that viewers may have been sent their first state."""
        if self._registry.new:
            self._some_began.set()

    async def greet_new_viewers(self) -> None:
        """Tell new viewers at once when to expect the next heartbeat; those that join together share one query."""
        self.viewers_began()  # make up for a greeting that failed
        while True:
            await self._some_began.wait()
            await asyncio.sleep(TOGETHER_S)
            self._some_began.clear()
            await self._first_heartbeat()  # a separate call: locals here would keep viewers that have left

    async def _first_heartbeat(self) -> None:
        if viewers := [viewer for viewer in self._registry.new if viewer.has_begun and not viewer.ended]:
            await self.send(asyncio.get_running_loop().time(), viewers)

    async def tick_periodically(self) -> None:
        """Tick until cancelled. A tick that failed is still due when the supervisor restarts this loop."""
        loop = asyncio.get_running_loop()
        step_s = self._config.heartbeat_s / TICKS
        if self._due is None:
            self._due = loop.time() + step_s
        while True:
            await asyncio.sleep(max(self._due - loop.time(), 0.0))
            await self.tick(self._number, loop.time())
            self._number += 1
            self._due = max(self._due + step_s, loop.time())

    async def tick(self, number: int, now: float) -> None:
        """Send the heartbeat of this tick: to streams of active jobs, and on every TICKS-th tick to all."""
        if number % TICKS == 0:
            await self.send(now)
            return
        active = self._active_jobs(now)
        # A viewer that was promised the next heartbeat soon gets it, whatever has happened since.
        if viewers := [
            viewer
            for viewer in self._registry.viewers
            if viewer.heartbeat_soon or not active.isdisjoint(viewer.subscriptions)
        ]:
            await self.send(now, viewers)

    def _active_jobs(self, now: float) -> set[str]:
        return {job_id for job_id, job in self._registry.jobs.items() if job.active(now)}

    async def send(self, now: float, viewers: Collection[Viewer] | None = None) -> None:
        """Send one heartbeat to these viewers (None: all), and send away those that have reached their age."""
        viewers = tuple(self._registry.viewers) if viewers is None else viewers
        seqs = await self.compare(now, set[str]().union(*(viewer.subscriptions for viewer in viewers)))
        active = self._active_jobs(now)
        shared: dict[frozenset[str], tuple[bool, bytes]] = {}
        for viewer in viewers:
            self._registry.new.discard(viewer)
            if now >= viewer.leave_at:
                self._send_away(viewer, "this stream has reached its maximum age")
                continue
            if viewer in self._registry.of_all_jobs:
                self._forget_ended(viewer, now)
            job_ids = frozenset(viewer.subscriptions)
            if job_ids not in shared:
                shared[job_ids] = self._heartbeat_for(job_ids, active, seqs)
            viewer.heartbeat_soon, heartbeat = shared[job_ids]
            viewer.put_heartbeat(heartbeat)

    def _heartbeat_for(
        self, job_ids: Collection[str], active: set[str], seqs: Mapping[str, int]
    ) -> tuple[bool, bytes]:
        """Return the heartbeat for a stream of these jobs, and whether it promises the next one soon."""
        soon = not active.isdisjoint(job_ids)
        next_s = self._config.heartbeat_s / (TICKS if soon else 1)
        return soon, sse.heartbeat(
            self._clock(), {job_id: seqs[job_id] for job_id in job_ids if job_id in seqs}, next_s
        )

    async def compare(self, now: float, job_ids: Collection[str]) -> dict[str, int]:
        """Compare what the viewers of these jobs were sent with the store, and resend what is missing.

        Return the seqs of these jobs, or none if the store does not answer. A heartbeat that names a seq confirms
        it, so its clients have no reason to poll.
        """
        try:
            async with asyncio.timeout(COMPARE_S):
                seqs = await self._store.seqs(list(job_ids))
        except (StoreUnavailable, TimeoutError) as error:
            log.error(
                "Viewers could not be compared with the store, the next heartbeat tries again: error=%s",
                str(error) or "no answer in time",
            )
            return {}
        jobs = [self._registry.jobs[job_id] for job_id in job_ids if job_id in self._registry.jobs]
        if any(self._behind(job, seqs) for job in jobs):
            await asyncio.sleep(ON_COMMIT_S)
        for job in jobs:
            if job.busy and job.job_id in seqs:
                seqs[job.job_id] = job.seq  # more is on its way: no client needs to poll for it
            elif behind := self._behind(job, seqs):
                self._stats.rescues += behind
                job.changed_at = now
                log.warning("Viewers were behind, sending the newest state: job=%s viewers=%d", job.job_id, behind)
                self._resend(job)
        return seqs

    def _behind(self, job: WatchedJob, seqs: Mapping[str, int]) -> int:
        """Count the viewers that were not sent the newest seq, and would not be without help."""
        if job.busy:
            return 0
        newest = seqs.get(job.job_id, 0)  # 0: there is no such job, and no viewer was sent one
        return sum(
            not subscription.viewer.ended and subscription.newest_seq != newest
            for subscription in job.subscriptions
        )

    def _forget_ended(self, viewer: Viewer, now: float) -> None:
        """Drop jobs that ended a while ago from a stream of all jobs."""
        for job_id, subscription in tuple(viewer.subscriptions.items()):
            job = self._registry.jobs.get(job_id)
            if job is None or (job.ended_at is not None and now - job.ended_at > FINISHED_WITHIN_S):
                self._registry.unsubscribe(subscription)
                viewer.forget(job_id)
