"""What streams hear when time passes: a heartbeat, which says what they should hold and when the next one comes.

With it goes the comparison of all viewers with the store, in one query: nothing that broke on the way from a
commit to a viewer outlives it. Streams on which something happens hear more beats, so that one that dies then is
doubted soon; those that lived long enough are sent away. That who lacks something gets it is hub.py's affair.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping

from unstuck.errors import StoreUnavailable
from unstuck.store.protocol import Store
from unstuck.streaming import sse
from unstuck.streaming.config import StreamConfig, StreamStats
from unstuck.streaming.registry import Registry, WatchedJob
from unstuck.streaming.viewer import Viewer

log = logging.getLogger("unstuck.hub")

#: A stream of all jobs starts with those that ended this many seconds ago at most, and lets go of them then.
FINISHED_WITHIN_S = 60.0
#: How long a heartbeat waits for the store before it goes out without it (seconds).
COMPARE_S = 1.0
#: Streams on which something happens hear so many beats in the time in which the others hear one.
TICKS = 3
#: Those who come within this share their first heartbeat (seconds).
TOGETHER_S = 0.2
#: A commit is a moment ahead of its wake; who lacks something is looked at again after this (seconds).
WAKE_S = 0.05


class Heartbeat:
    """Two loops: `tick_periodically()` and `greet_newcomers()`. `lacks` is told which jobs have viewers without
    the newest truth, `send_away` which viewers should come back on a fresh stream, and why."""

    def __init__(
        self,
        store: Store,
        config: StreamConfig,
        clock: Callable[[], float],
        counts: StreamStats,
        audience: Registry,
        lacks: Callable[[WatchedJob], None],
        send_away: Callable[[Viewer, str], None],
    ) -> None:
        self._store = store
        self._config = config
        self._clock = clock
        self._stats = counts
        self._registry = audience
        self._resend = lacks
        self._send_away = send_away
        self._some_began = asyncio.Event()
        self._number = 1  # of the next tick
        self._due: float | None = None  # when it comes (the loop's clock)

    def viewers_began(self) -> None:
        """Some were handed their first state."""
        if self._registry.new:
            self._some_began.set()

    async def greet_newcomers(self) -> None:
        """Tell newcomers at once when to expect the next beat; all that come together share one comparison."""
        self.viewers_began()  # a greeting that broke is made up for
        while True:
            await self._some_began.wait()
            await asyncio.sleep(TOGETHER_S)
            self._some_began.clear()
            await self._first_heartbeat()  # of its own, so that nobody is held on to here until the next ones come

    async def _first_heartbeat(self) -> None:
        if newcomers := [viewer for viewer in self._registry.new if viewer.has_begun and not viewer.ended]:
            await self.send(asyncio.get_running_loop().time(), newcomers)

    async def tick_periodically(self) -> None:
        """Tick until cancelled. A tick that broke is still due when this is started again."""
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
        """A third of a heartbeat's time is over: beat on the streams on which something happens, or on all."""
        if number % TICKS == 0:
            await self.send(now)
            return
        lively = self._active_jobs(now)
        # Who was told that the next beat comes soon is among them, whatever has happened since.
        if due := [
            one for one in self._registry.viewers if one.heartbeat_soon or not lively.isdisjoint(one.subscriptions)
        ]:
            await self.send(now, due)

    def _active_jobs(self, now: float) -> set[str]:
        return {job_id for job_id, watch in self._registry.jobs.items() if watch.active(now)}

    async def send(self, now: float, viewers: Collection[Viewer] | None = None) -> None:
        """One heartbeat on these streams (None: all); of them those that lived long enough are sent away."""
        viewers = tuple(self._registry.viewers) if viewers is None else viewers
        truth = await self.compare(now, set[str]().union(*(viewer.subscriptions for viewer in viewers)))
        lively = self._active_jobs(now)
        shared: dict[frozenset[str], tuple[bool, bytes]] = {}
        for viewer in viewers:
            self._registry.new.discard(viewer)
            if now >= viewer.leave_at:
                self._send_away(viewer, "this stream is old enough; a fresh one is better")
                continue
            if viewer in self._registry.of_all_jobs:
                self._forget_ended(viewer, now)
            jobs = frozenset(viewer.subscriptions)
            if jobs not in shared:
                shared[jobs] = self._heartbeat_for(jobs, lively, truth)
            viewer.heartbeat_soon, heartbeat = shared[jobs]
            viewer.put_heartbeat(heartbeat)

    def _heartbeat_for(
        self, jobs: Collection[str], lively: set[str], truth: Mapping[str, int]
    ) -> tuple[bool, bytes]:
        """Whether the next beat on a stream of these jobs comes soon, and the one that says so."""
        soon = not lively.isdisjoint(jobs)
        next_s = self._config.heartbeat_s / (TICKS if soon else 1)
        return soon, sse.heartbeat(self._clock(), {one: truth[one] for one in jobs if one in truth}, next_s)

    async def compare(self, now: float, job_ids: Collection[str]) -> dict[str, int]:
        """Hold what the viewers of these jobs were sent against the store, in one query, and send what is lacking.

        Returns the seqs of these jobs; none where the store does not answer, since a beat that names a seq
        confirms it, and its clients then have no reason to ask.
        """
        try:
            async with asyncio.timeout(COMPARE_S):
                truth = await self._store.seqs(list(job_ids))
        except (StoreUnavailable, TimeoutError) as error:
            log.error("viewers could not be compared with the store: %s", str(error) or "no answer in time")
            return {}
        watches = [self._registry.jobs[job_id] for job_id in job_ids if job_id in self._registry.jobs]
        if any(self._behind(watch, truth) for watch in watches):
            await asyncio.sleep(WAKE_S)
        for watch in watches:
            if watch.busy and watch.job_id in truth:
                truth[watch.job_id] = watch.seq  # more is on its way: nobody needs to ask for it
            elif behind := self._behind(watch, truth):
                self._stats.rescues += behind
                watch.changed_at = now
                log.warning("%d viewers of job %s lacked its newest state", behind, watch.job_id)
                self._resend(watch)
        return truth

    def _behind(self, watch: WatchedJob, truth: Mapping[str, int]) -> int:
        """How many viewers were not sent the truth, and will not be either."""
        if watch.busy:
            return 0
        newest = truth.get(watch.job_id, 0)  # none: there is no such job, and nobody was shown it
        return sum(
            not subscription.viewer.ended and subscription.newest_seq != newest
            for subscription in watch.subscriptions
        )

    def _forget_ended(self, viewer: Viewer, now: float) -> None:
        """A stream of all jobs lets go of those that ended a while ago."""
        for job_id, subscription in tuple(viewer.subscriptions.items()):
            watch = self._registry.jobs.get(job_id)
            if watch is None or (watch.ended_at is not None and now - watch.ended_at > FINISHED_WITHIN_S):
                self._registry.unsubscribe(subscription)
                viewer.forget(job_id)
