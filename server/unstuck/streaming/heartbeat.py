"""What streams hear when time passes: a heartbeat, which says what they should hold and when the next one comes.

With it goes the comparison of all viewers with the store, in one query: nothing that broke on the way from a
commit to a viewer outlives it. Streams on which something happens hear more beats, so that one that dies then is
doubted soon; those that lived long enough are sent away. That who lacks something gets it is hub.py's affair.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Collection, Mapping

from unstuck.errors import StoreUnavailable
from unstuck.store.protocol import Store
from unstuck.streaming import sse
from unstuck.streaming.config import Counts, Pace
from unstuck.streaming.registry import Audience, Watch
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


class Beats:
    """`run()` ticks until cancelled. `lacks` is told which jobs have viewers without the newest truth, `send_away`
    which viewers should come back on a fresh stream, and why."""

    def __init__(
        self,
        store: Store,
        pace: Pace,
        clock: Callable[[], float],
        counts: Counts,
        audience: Audience,
        lacks: Callable[[Watch], None],
        send_away: Callable[[Viewer, str], None],
    ) -> None:
        self._store = store
        self._pace = pace
        self._clock = clock
        self._counts = counts
        self._audience = audience
        self._lacks = lacks
        self._send_away = send_away
        self._some_began = asyncio.Event()

    def begun(self) -> None:
        """Some were handed their first state."""
        if self._audience.new:
            self._some_began.set()

    async def run(self) -> None:
        """Tick the heartbeat of all streams until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tick())
            group.create_task(self._welcome())

    async def _welcome(self) -> None:
        """Newcomers hear at once when to expect the next beat; all who come together share one comparison."""
        while True:
            await self._some_began.wait()
            await asyncio.sleep(TOGETHER_S)
            self._some_began.clear()
            await self._greet()  # of its own, so that nobody is held on to here until the next ones come

    async def _greet(self) -> None:
        if newcomers := [viewer for viewer in self._audience.new if viewer.begun and not viewer.ended]:
            await self.beat(asyncio.get_running_loop().time(), newcomers)

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        for tick in itertools.count(1):
            due += self._pace.heartbeat_s / TICKS
            await asyncio.sleep(max(due - loop.time(), 0.0))
            await self.tick(tick, loop.time())

    async def tick(self, number: int, now: float) -> None:
        """A third of a heartbeat's time is over: beat on the streams on which something happens, or on all."""
        if number % TICKS == 0:
            await self.beat(now)
            return
        lively = self._lively(now)
        # Who was told that the next beat comes soon is among them, whatever has happened since.
        if due := [one for one in self._audience.viewers if one.soon or not lively.isdisjoint(one.seats)]:
            await self.beat(now, due)

    def _lively(self, now: float) -> set[str]:
        return {job_id for job_id, watch in self._audience.watches.items() if watch.lively(now)}

    async def beat(self, now: float, viewers: Collection[Viewer] | None = None) -> None:
        """One heartbeat on these streams (None: all); of them those that lived long enough are sent away."""
        viewers = tuple(self._audience.viewers) if viewers is None else viewers
        truth = await self.compare(now, set[str]().union(*(viewer.seats for viewer in viewers)))
        lively = self._lively(now)
        shared: dict[frozenset[str], tuple[bool, bytes]] = {}
        for viewer in viewers:
            self._audience.new.discard(viewer)
            if now >= viewer.leave_at:
                self._send_away(viewer, "this stream is old enough; a fresh one is better")
                continue
            if viewer in self._audience.of_all:
                self._forget_ended(viewer, now)
            jobs = frozenset(viewer.seats)
            if jobs not in shared:
                shared[jobs] = self._words(jobs, lively, truth)
            viewer.soon, heartbeat = shared[jobs]
            viewer.beat(heartbeat)

    def _words(self, jobs: Collection[str], lively: set[str], truth: Mapping[str, int]) -> tuple[bool, bytes]:
        """Whether the next beat on a stream of these jobs comes soon, and the one that says so."""
        soon = not lively.isdisjoint(jobs)
        next_s = self._pace.heartbeat_s / (TICKS if soon else 1)
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
        watches = [self._audience.watches[job_id] for job_id in job_ids if job_id in self._audience.watches]
        if any(self._lacking(watch, truth) for watch in watches):
            await asyncio.sleep(WAKE_S)
        for watch in watches:
            if watch.busy and watch.job_id in truth:
                truth[watch.job_id] = watch.seq  # more is on its way: nobody needs to ask for it
            elif behind := self._lacking(watch, truth):
                self._counts.rescues += behind
                watch.changed_at = now
                log.warning("%d viewers of job %s lacked its newest state", behind, watch.job_id)
                self._lacks(watch)
        return truth

    def _lacking(self, watch: Watch, truth: Mapping[str, int]) -> int:
        """How many viewers were not sent the truth, and will not be either."""
        if watch.busy:
            return 0
        newest = truth.get(watch.job_id, 0)  # none: there is no such job, and nobody was shown it
        return sum(not seat.viewer.ended and seat.holds != newest for seat in watch.seats)

    def _forget_ended(self, viewer: Viewer, now: float) -> None:
        """A stream of all jobs lets go of those that ended a while ago."""
        for job_id, seat in tuple(viewer.seats.items()):
            watch = self._audience.watches.get(job_id)
            if watch is None or (watch.ended_at is not None and now - watch.ended_at > FINISHED_WITHIN_S):
                self._audience.leave(seat)
                viewer.forget(job_id)
