"""Brings each job's newest truth to everybody who looks at it.

A change rings. As soon as the interval since the last event is over, the job stands in line, and some of those in
line are looked at in each turn of the loop. What is in the store's memory is handed out on the spot; else one task
reads for the job, tries again where that fails, and looks once more if it rang meanwhile: so no wake is lost. Who
comes is seated before he is looked for, so nothing falls between his first event and the next.

Each seat has one slot. What is not sent yet is replaced by what is newer, so a slow reader costs no memory and is
never sent a backlog; the final state is never replaced, for nothing follows.

The hub knows the Store protocol and nothing of HTTP: a viewer is an async iterator of bytes.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from math import inf

from unstuck.errors import JobNotFound, StreamsFull
from unstuck.jobs.job import Item, Job
from unstuck.jobs.snapshot import Snapshot
from unstuck.store.protocol import Store
from unstuck.streaming import sse
from unstuck.streaming.config import StreamConfig, StreamStats
from unstuck.streaming.encoded import ITEMS_SHOWN, EncodedChange, encode_change
from unstuck.streaming.heartbeat import FINISHED_WITHIN_S, Heartbeat
from unstuck.streaming.loop_budget import Turns
from unstuck.streaming.registry import Registry, WatchedJob
from unstuck.streaming.viewer import Subscription, Viewer

log = logging.getLogger("unstuck.hub")

#: Viewers who come within this time after a look share the next: a storm of them costs a hundred looks a second.
GATHER_S = 0.01
#: Clients that are sent away come back spread over this time (milliseconds).
RETURN_MS = (500, 3_000)
#: Jobs that are looked at in one turn of the loop: a few milliseconds of it.
AT_ONCE = 32


class Hub:
    """See the module. `beats.run()` must be running while there are viewers."""

    def __init__(
        self,
        store: Store,
        config: StreamConfig,
        keep_s: float | None = None,
        clock: Callable[[], float] = time.time,
        most: int | None = None,
    ) -> None:
        self.stats = StreamStats()
        self.leaving: str | None = None
        self._store = store
        self._config = config
        self._keep_s = keep_s
        self._most = most
        self._clock = clock
        self._registry = Registry()
        self._line: deque[WatchedJob] = deque()
        self._planned = False
        self._turns = Turns(AT_ONCE)
        self._loop = asyncio.get_running_loop()  # kept: to ask for it is a system call each time
        self.heartbeat = Heartbeat(store, config, clock, self.stats, self._registry, self._lacks, self._send_away)
        store.on_commit(self.on_commit)

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return len(self._registry.viewers)

    @property
    def watched(self) -> int:
        """How many jobs somebody looks at."""
        return len(self._registry.jobs)

    # -- viewers come and go

    async def join(
        self, job_ids: Sequence[str] | None, *, base: str, wants_items: bool = True, ends: bool = False
    ) -> Viewer:
        """A viewer of these jobs, or of all that live (None), until `part`. With `ends` it ends with its one job.

        Raises StreamsFull where there are as many as there may be."""
        if self._most is not None and self.streams >= self._most:
            self.stats.refused += 1
            if self.stats.refused == 1:
                log.warning("%d streams are open, and there is no room for more; who is refused polls", self._most)
            raise StreamsFull(self._most)
        life = self._config.stream_life_s * random.uniform(0.75, 0.95)  # noqa: S311 – spreads, hides nothing
        viewer = Viewer(
            base=base,
            wants_items=wants_items,
            ends_with=job_ids[0] if ends and job_ids else None,
            leave_at=self._loop.time() + life,
        )
        self.stats.opened += 1
        self._registry.viewers.add(viewer)
        self._registry.new.add(viewer)
        try:
            if job_ids is None:
                # Registered for new jobs first, then told of the present ones: none falls between.
                self._registry.of_all_jobs.add(viewer)
                job_ids = await self._store.live_ids(FINISHED_WITHIN_S)
            for job_id in job_ids:
                self._join(viewer, job_id)
        except BaseException:
            self.leave(viewer)
            raise
        if self.leaving is not None:
            self._send_away(viewer, self.leaving)
        return viewer

    def _join(self, viewer: Viewer, job_id: str) -> None:
        watch, subscription = self._registry.subscribe(viewer, job_id, self._loop.time())
        watch.newcomers.append(subscription)
        self._ring(watch)

    def leave(self, viewer: Viewer) -> None:
        """It left."""
        self._registry.remove(viewer)

    # -- changes come in

    def on_commit(self, changed: Mapping[str, Job | None]) -> None:
        """The store committed changes of these jobs."""
        now = self._loop.time()
        for job_id, job in changed.items():
            watch = self._registry.jobs.get(job_id)
            if watch is not None:
                watch.changed_at = now
                watch.everybody = True
                watch.at_once = watch.at_once or job is None or job.done
                self._ring(watch)
            for viewer in self._registry.of_all_jobs:
                if job_id not in viewer.subscriptions:
                    self._join(viewer, job_id)

    def _lacks(self, watch: WatchedJob) -> None:
        """Some of those who sit here lack the newest truth."""
        watch.everybody = watch.at_once = True
        self._ring(watch)

    def _ring(self, watch: WatchedJob) -> None:
        """There is something to look for: now, or when the interval is over."""
        watch.rung = True
        if watch.in_line or watch.reading is not None:
            return  # it is looked at soon; who reads looks again
        pause_s = 0.0 if watch.at_once else self._config.interval_s
        due = watch.broadcast_at + (min(pause_s, GATHER_S) if watch.newcomers else pause_s)
        if due <= self._loop.time():
            self._stand_in_line(watch)
        elif due < watch.due:
            watch.wait_until(due, self._loop.call_at(due, self._stand_in_line, watch))

    def _stand_in_line(self, watch: WatchedJob) -> None:
        watch.wait_until(inf, None)
        watch.in_line = True
        self._line.append(watch)
        self._plan()

    def _plan(self) -> None:
        if not self._planned:
            self._planned = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._planned = False
        for _ in range(min(len(self._line), AT_ONCE)):
            watch = self._line.popleft()
            watch.in_line = False
            if watch.subscriptions:
                self._look(watch)
        if self._line:
            self._plan()

    # -- the truth goes out

    def _look(self, watch: WatchedJob) -> None:
        """Hand out what is in memory; what is not is read by a task."""
        watch.rung = watch.at_once = False
        self.stats.broadcasts += 1
        failed = 0
        try:
            if self._from_memory(watch):
                return
        except Exception:  # noqa: BLE001 – logged; whatever broke, the viewers wait for the truth
            failed = self._failed(watch, 1)
        watch.reading = self._loop.create_task(self._read(watch, failed), name=f"read {watch.job_id}")

    def _from_memory(self, watch: WatchedJob) -> bool:
        snapshot = self._store.cached_snapshot(watch.job_id)
        if snapshot is None or self._items_are_wanted(watch, snapshot.job):
            return False
        self._hand_out(watch, snapshot, (), *self._whom(watch))
        return True

    async def _read(self, watch: WatchedJob, failed: int) -> None:
        """Read and hand out, trying again if that fails; look again if it rang meanwhile."""
        while failed < self._config.broadcast_attempts:
            if failed:
                await asyncio.sleep(self._config.broadcast_pause_s)
            try:
                await self._read_once(watch)
                break
            except Exception:  # noqa: BLE001 – as above
                failed = self._failed(watch, failed + 1)
        else:
            self.stats.broadcast_failures += 1  # the next heartbeat finds who lacks it
        watch.reading = None
        if watch.rung:
            self._ring(watch)

    def _failed(self, watch: WatchedJob, attempt: int) -> int:
        most = self._config.broadcast_attempts
        log.exception("broadcast of job %s failed (attempt %d of %d)", watch.job_id, attempt, most)
        self.stats.broadcast_retries += 1
        watch.everybody = True  # who was left out is not known
        return attempt

    async def _read_once(self, watch: WatchedJob) -> None:
        whom = self._whom(watch)
        try:
            snapshot = await self._store.snapshot(watch.job_id)
        except JobNotFound:
            self._hand_out_gone(watch)
            return
        await self._turns.mine()  # after the read: those who waited for the same commit come back together
        changed: Sequence[Item] = ()
        if self._items_are_wanted(watch, snapshot.job):
            changed = await self._store.items(
                watch.job_id, after_seq=watch.seq, after_index=snapshot.job.total, limit=ITEMS_SHOWN + 1
            )
        self._hand_out(watch, snapshot, changed, *whom)

    def _items_are_wanted(self, watch: WatchedJob, job: Job) -> bool:
        # Whoever has seen nothing of the job yet is sent no items.
        return 0 < watch.seq < job.seq and watch.want_items > 0

    def _whom(self, watch: WatchedJob) -> tuple[Sequence[Subscription], bool]:
        """For whom is looked now: for these newcomers, or for everybody who sits here."""
        newcomers, watch.newcomers = watch.newcomers, []
        everybody, watch.everybody = watch.everybody, False
        return newcomers, everybody

    def _hand_out(
        self,
        watch: WatchedJob,
        snapshot: Snapshot,
        changed: Sequence[Item],
        newcomers: Sequence[Subscription],
        everybody: bool,
    ) -> None:
        job = snapshot.job
        if not everybody and job.seq <= watch.seq:
            # Else 5,000 who come together would all be gone through for each of them: half of what that cost.
            audience: Collection[Subscription] = watch.subscriptions.intersection(newcomers)
        elif watch.newcomers:
            # Who came while this was read is looked for himself: it may be older than what he holds.
            audience = watch.subscriptions.difference(watch.newcomers)
        else:
            audience = watch.subscriptions
        encoded: dict[str, EncodedChange] = {}
        for subscription in audience:
            base = subscription.viewer.base_url
            if base not in encoded:
                encoded[base] = encode_change(snapshot, changed, watch.seq, self._clock(), base, self._keep_s)
            subscription.offer(encoded[base])
        self.heartbeat.viewers_began()
        watch.seq = job.seq
        watch.broadcast_at = self._loop.time()
        if job.done and watch.ended_at is None:
            watch.ended_at = watch.broadcast_at

    def _hand_out_gone(self, watch: WatchedJob) -> None:
        farewell = sse.gone(watch.job_id)
        for subscription in watch.subscriptions:
            subscription.viewer.put_gone(watch.job_id, farewell)
        watch.subscriptions.clear()
        self._registry.jobs.pop(watch.job_id, None)

    # -- the server goes

    def announce_leaving(self, reason: str) -> None:
        """The server goes: say so on every stream, old and new, and end it."""
        self.leaving = reason
        for viewer in tuple(self._registry.viewers):
            self._send_away(viewer, reason)

    def _send_away(self, viewer: Viewer, reason: str) -> None:
        viewer.end(sse.leaving(reason, random.randint(*RETURN_MS)))  # noqa: S311

    async def close(self) -> None:
        """Look for nothing more: the store is about to close."""
        self._line.clear()
        for watch in self._registry.jobs.values():
            watch.wait_until(inf, None)
        tasks = [watch.reading for watch in self._registry.jobs.values() if watch.reading is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
