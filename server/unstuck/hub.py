"""Who watches what: brings each job's newest truth to everybody who looks at it.

Each watched job has one task that reads (`Watch`): it hangs a new bell, reads, hands out, and waits for
the bell. A wake that comes during the read rings the new bell, so none is lost. A viewer is registered
before that read, so nothing falls between its first event and the next.

Each viewer has one slot for each of its jobs. What is not sent yet is replaced by what is newer, so a slow
reader costs no memory and is never sent a backlog; the final state is never replaced, for nothing follows.

The hub knows the Store protocol and nothing of HTTP: a viewer is an async iterator of bytes.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from unstuck import sse
from unstuck.errors import JobNotFound, StoreUnavailable, StreamsFull
from unstuck.job import Item, Job
from unstuck.pace import Counts, Pace
from unstuck.slot import ITEMS_SHOWN, Slot, slot
from unstuck.snapshot import Snapshot
from unstuck.stores import Store
from unstuck.turns import Turns
from unstuck.viewer import Viewer
from unstuck.watched import Watch

log = logging.getLogger("unstuck.hub")

#: Viewers who come within this time after a read share the next: a storm of them costs a hundred reads a second.
GATHER_S = 0.01
#: A stream of all jobs starts with those that ended this many seconds ago at most.
FINISHED_WITHIN_S = 60.0
#: Clients that are sent away come back spread over this time (milliseconds).
RETURN_MS = (500, 3_000)
#: How long a heartbeat waits for the store before it goes out without it (seconds).
COMPARE_S = 1.0
#: Streams on which something happens hear so many beats in the time in which the others hear one.
TICKS = 3
#: Those who come within this share their first heartbeat (seconds).
TOGETHER_S = 0.2
#: A commit is a moment ahead of its wake; who lacks something is looked at again after this (seconds).
WAKE_S = 0.05
#: Jobs that are handed out in one turn of the loop: a few milliseconds of it.
AT_ONCE = 32


class Hub:
    """See the module. `run()` must be running while there are viewers; it ticks the heartbeat."""

    def __init__(
        self,
        store: Store,
        pace: Pace,
        keep_s: float | None = None,
        clock: Callable[[], float] = time.time,
        most: int | None = None,
    ) -> None:
        self.counts = Counts()
        self.leaving: str | None = None
        self._store = store
        self._pace = pace
        self._keep_s = keep_s
        self._most = most
        self._clock = clock
        self._watches: dict[str, Watch] = {}
        self._viewers: set[Viewer] = set()
        self._all: set[Viewer] = set()
        self._new: set[Viewer] = set()  # no beat was sent to them yet
        self._turns = Turns(AT_ONCE)
        self._begun = asyncio.Event()  # one of them was handed its first state
        store.on_wake(self.wake)

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return len(self._viewers)

    @property
    def watched(self) -> int:
        """How many jobs somebody looks at."""
        return len(self._watches)

    # -- viewers come and go

    async def join(
        self, job_ids: Sequence[str] | None, *, base: str, wants_items: bool = True, ends: bool = False
    ) -> Viewer:
        """A viewer of these jobs, or of all that live (None), until `part`. With `ends` it ends with its one job.

        Raises StreamsFull where there are as many as there may be."""
        if self._most is not None and len(self._viewers) >= self._most:
            self.counts.refused += 1
            if self.counts.refused == 1:
                log.warning("%d streams are open, and there is no room for more; who is refused polls", self._most)
            raise StreamsFull(self._most)
        life = self._pace.stream_life_s * random.uniform(0.75, 0.95)  # noqa: S311 – spreads, hides nothing
        viewer = Viewer(
            base=base,
            wants_items=wants_items,
            ends_with=job_ids[0] if ends and job_ids else None,
            leave_at=asyncio.get_running_loop().time() + life,
        )
        self.counts.opened += 1
        self._viewers.add(viewer)
        self._new.add(viewer)
        try:
            if job_ids is None:
                # Registered for new jobs first, then told of the present ones: none falls between.
                self._all.add(viewer)
                job_ids = await self._store.live(FINISHED_WITHIN_S)
            for job_id in job_ids:
                self._join(viewer, job_id)
        except BaseException:
            self.part(viewer)
            raise
        if self.leaving is not None:
            self._send_away(viewer, self.leaving)
        return viewer

    def _join(self, viewer: Viewer, job_id: str) -> None:
        watch = self._watches.get(job_id)
        if watch is None:
            watch = self._watches[job_id] = Watch(job_id)
        watch.viewers.add(viewer)
        watch.newcomers.append(viewer)
        viewer.watched.add(job_id)
        watch.hurry.set()
        self._rouse(watch)

    def part(self, viewer: Viewer) -> None:
        """It left."""
        for viewers in (self._viewers, self._all, self._new):
            viewers.discard(viewer)
        for job_id in viewer.watched:
            self._leave_watch(viewer, job_id)

    def _leave_watch(self, viewer: Viewer, job_id: str) -> None:
        watch = self._watches.get(job_id)
        if watch is None:
            return
        watch.viewers.discard(viewer)
        if not watch.viewers:
            del self._watches[job_id]
            if watch.task is not None:
                watch.task.cancel()

    # -- changes come in

    def wake(self, woken: Mapping[str, Job | None]) -> None:
        """The store committed changes of these jobs."""
        for job_id, job in woken.items():
            watch = self._watches.get(job_id)
            if watch is not None:
                watch.changed_at = asyncio.get_running_loop().time()
                self._ring(watch, hurry=job is None or job.done)
            for viewer in self._all:
                if job_id not in viewer.watched:
                    self._join(viewer, job_id)

    def _ring(self, watch: Watch, *, hurry: bool) -> None:
        watch.everybody = True
        if hurry:
            watch.at_once = True
            watch.hurry.set()
        self._rouse(watch)

    def _rouse(self, watch: Watch) -> None:
        watch.bell.set()
        if watch.task is None:
            watch.task = asyncio.create_task(self._read(watch), name=f"read {watch.job_id}")

    async def _read(self, watch: Watch) -> None:
        """Read and hand out until the job is done and nobody rings any more."""
        ended = False
        while not ended or watch.bell.is_set():
            await self._until_due(watch)
            watch.bell.clear()
            watch.hurry.clear()
            watch.at_once = False
            watch.reading = True
            ended = await self._broadcast(watch)
            watch.reading = False
        watch.task = None

    async def _until_due(self, watch: Watch) -> None:
        await watch.bell.wait()
        loop = asyncio.get_running_loop()
        while not watch.at_once:
            pause_s = min(self._pace.interval_s, GATHER_S) if watch.newcomers else self._pace.interval_s
            wait_s = watch.handed_at + pause_s - loop.time()
            if wait_s <= 0:
                return
            watch.hurry.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await watch.hurry.wait()
            except TimeoutError:
                return

    async def _broadcast(self, watch: Watch) -> bool:
        """Hand out the newest truth, trying again if that fails; True when nothing will follow."""
        self.counts.broadcasts += 1
        for attempt in range(1, self._pace.broadcast_attempts + 1):
            try:
                ended = await self._hand_out(watch)
            except Exception:  # whatever broke, the viewers wait for the truth
                log.exception(
                    "broadcast of job %s failed (attempt %d of %d)",
                    watch.job_id,
                    attempt,
                    self._pace.broadcast_attempts,
                )
                self.counts.broadcast_retries += 1
                watch.everybody = True  # who was left out is not known
                await asyncio.sleep(self._pace.broadcast_pause_s)
            else:
                return ended
        self.counts.broadcast_failures += 1  # the next heartbeat finds who lacks it
        return False

    async def _hand_out(self, watch: Watch) -> bool:
        newcomers, watch.newcomers = watch.newcomers, []
        everybody, watch.everybody = watch.everybody, False
        try:
            snapshot = await self._store.snapshot(watch.job_id)
        except JobNotFound:
            self._hand_out_gone(watch)
            return True
        await self._turns.mine()  # after the look: those who waited for the same commit come back together
        job = snapshot.job
        changed = await self._changed_items(watch, snapshot)
        encoded: dict[str, Slot] = {}
        if everybody or job.seq > watch.seq:
            # Who joined during the read rang the bell for one of his own: this may be older than what he holds.
            audience = watch.viewers.difference(watch.newcomers)
        else:
            # Else 5,000 who come together would all be gone through for each of them: half of what that cost.
            audience = watch.viewers.intersection(newcomers)
        for viewer in audience:
            if viewer.base not in encoded:
                encoded[viewer.base] = slot(snapshot, changed, watch.seq, self._clock(), viewer.base, self._keep_s)
            viewer.show(job.id, encoded[viewer.base])
        if self._new:
            self._begun.set()
        watch.seq = job.seq
        watch.handed_at = asyncio.get_running_loop().time()
        if job.done and watch.ended_at is None:
            watch.ended_at = watch.handed_at
        return job.done

    async def _changed_items(self, watch: Watch, snapshot: Snapshot) -> list[Item]:
        if snapshot.job.seq <= watch.seq:
            return []
        if not any(viewer.wants_items and viewer.holds(watch.job_id) is not None for viewer in watch.viewers):
            return []
        return await self._store.items(
            watch.job_id, after_seq=watch.seq, after_index=snapshot.job.total, limit=ITEMS_SHOWN + 1
        )

    def _hand_out_gone(self, watch: Watch) -> None:
        farewell = sse.gone(watch.job_id)
        for viewer in watch.viewers:
            viewer.tell_gone(watch.job_id, farewell)
        watch.viewers.clear()
        self._watches.pop(watch.job_id, None)

    # -- time passes

    async def run(self) -> None:
        """Tick the heartbeat of all streams until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tick())
            group.create_task(self._welcome())

    async def _welcome(self) -> None:
        """Newcomers hear at once when to expect the next beat; all who come together share one comparison."""
        while True:
            await self._begun.wait()
            await asyncio.sleep(TOGETHER_S)
            self._begun.clear()
            if newcomers := [viewer for viewer in self._new if viewer.begun and not viewer.ended]:
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
        if due := [one for one in self._viewers if one.soon or not one.watched.isdisjoint(lively)]:
            await self.beat(now, due)

    def _lively(self, now: float) -> set[str]:
        return {job_id for job_id, watch in self._watches.items() if watch.lively(now)}

    async def beat(self, now: float, viewers: Collection[Viewer] | None = None) -> None:
        """One heartbeat on these streams (None: all); of them those that lived long enough are sent away."""
        viewers = tuple(self._viewers) if viewers is None else viewers
        truth = await self._compare(now, set[str]().union(*(viewer.watched for viewer in viewers)))
        lively = self._lively(now)
        shared: dict[frozenset[str], bytes] = {}
        wall = self._clock()
        for viewer in viewers:
            self._new.discard(viewer)
            if now >= viewer.leave_at:
                self._send_away(viewer, "this stream is old enough; a fresh one is better")
                continue
            if viewer in self._all:
                self._forget_ended(viewer, now)
            viewer.soon = not viewer.watched.isdisjoint(lively)
            key = frozenset(viewer.watched)
            if key not in shared:
                next_s = self._pace.heartbeat_s / (TICKS if viewer.soon else 1)
                shared[key] = sse.heartbeat(wall, {one: truth[one] for one in key if one in truth}, next_s)
            viewer.beat(shared[key])

    async def _compare(self, now: float, job_ids: Collection[str]) -> dict[str, int]:
        """Hold what the viewers of these jobs were sent against the store, in one query, and send what is lacking.

        Nothing that broke on the way from a commit to a viewer outlives this. Returns the seqs of these
        jobs; none where the store does not answer, since a beat that names a seq confirms it, and its clients
        then have no reason to ask.
        """
        try:
            async with asyncio.timeout(COMPARE_S):
                truth = await self._store.seqs(list(job_ids))
        except (StoreUnavailable, TimeoutError) as error:
            log.error("viewers could not be compared with the store: %s", str(error) or "no answer in time")
            return {}
        watches = [self._watches[job_id] for job_id in job_ids if job_id in self._watches]
        if any(self._lacking(watch, truth) for watch in watches):
            await asyncio.sleep(WAKE_S)
        for watch in watches:
            if watch.busy and watch.job_id in truth:
                truth[watch.job_id] = watch.seq  # more is on its way: nobody needs to ask for it
            elif behind := self._lacking(watch, truth):
                self.counts.rescues += behind
                watch.changed_at = now
                log.warning("%d viewers of job %s lacked its newest state", behind, watch.job_id)
                self._ring(watch, hurry=True)
        return truth

    def _lacking(self, watch: Watch, truth: Mapping[str, int]) -> int:
        """How many viewers were not sent the truth, and will not be either."""
        if watch.busy:
            return 0
        newest = truth.get(watch.job_id)
        return sum(not viewer.ended and viewer.holds(watch.job_id) != newest for viewer in watch.viewers)

    def _forget_ended(self, viewer: Viewer, now: float) -> None:
        """A stream of all jobs lets go of those that ended a while ago."""
        for job_id in tuple(viewer.watched):
            watch = self._watches.get(job_id)
            if watch is None or (watch.ended_at is not None and now - watch.ended_at > FINISHED_WITHIN_S):
                self._leave_watch(viewer, job_id)
                viewer.forget(job_id)

    def leave(self, reason: str) -> None:
        """The server goes: say so on every stream, old and new, and end it."""
        self.leaving = reason
        for viewer in tuple(self._viewers):
            self._send_away(viewer, reason)

    def _send_away(self, viewer: Viewer, reason: str) -> None:
        viewer.end(sse.leaving(reason, random.randint(*RETURN_MS)))  # noqa: S311

    async def close(self) -> None:
        """End every reading task."""
        tasks = [watch.task for watch in self._watches.values() if watch.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
