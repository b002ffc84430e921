"""Broadcasts each job's newest state to all viewers that watch it.

Must not know: HTTP; to the hub a viewer is an async iterator of bytes.
See also: watched_job.py (what a job waits for), viewer.py (what one viewer is sent), heartbeat.py (what is due by
time), catch_up.py (what may have been missed), throttle.py (the intervals of a large audience), direct.py (how it
gets onto the wire).

A change marks the job dirty. `interval_s` after its last event, or later if its viewers are many, it is
queued; each loop iteration serves up to AT_ONCE jobs of the queue. What is in the store's memory is broadcast on
the spot. Otherwise one task reads the store, again if that fails, and the job is queued once more with what was
read. A viewer is registered before its snapshot is read, so no change can be missed in between.

A viewer that reads slowly costs no memory and has no backlog: what was not sent yet is replaced by what is newer.
The final state is never replaced, since nothing follows it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence

from unstuck.errors import JobNotFound, StreamsFull
from unstuck.jobs.job import Item, Job
from unstuck.jobs.snapshot import Snapshot, public
from unstuck.store.protocol import Changes, LiveJobs
from unstuck.streaming import sse, throttle
from unstuck.streaming.catch_up import CatchUp
from unstuck.streaming.config import StreamConfig, StreamStats
from unstuck.streaming.encoded import ITEMS_SHOWN, EncodedChange, encode_change
from unstuck.streaming.heartbeat import FINISHED_WITHIN_S, Heartbeat
from unstuck.streaming.registry import Registry
from unstuck.streaming.viewer import Owner, Subscription, Viewer
from unstuck.streaming.watched_job import CLOSED, IDLE, SCHEDULED, Loaded, Recipients, WatchedJob

log = logging.getLogger("unstuck.hub")

#: Viewers that join within this time are served together (seconds): a storm of them costs a hundred broadcasts a
#: second.
GATHER_S = 0.01
#: Jobs served in one loop iteration, which takes a few milliseconds: 500 kept the loop busy for 150 ms.
AT_ONCE = 32


class Hub:
    """Broadcasts changes to viewers. The loops of `heartbeat` and `catch_up` must run while there are viewers."""

    def __init__(
        self,
        store: LiveJobs,
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
        self._on_leave = self._registry.remove  # one object, shared by all viewers
        self._queue: deque[WatchedJob] = deque()
        self._flush_scheduled = False
        self._loop = asyncio.get_running_loop()  # kept, since asking for it is a system call
        self.heartbeat = Heartbeat(
            store, config, clock, self.stats, self._registry, resend=self._resend, send_away=self._send_away
        )
        self.catch_up = CatchUp(store, self._registry, resend=self._resend, subscribe=self._subscribe)
        store.on_commit(self.on_commit)

    @property
    def streams(self) -> int:
        """The number of open streams."""
        return len(self._registry.viewers)

    @property
    def watched(self) -> int:
        """The number of jobs with at least one viewer."""
        return len(self._registry.jobs)

    @property
    def poll_ms(self) -> int:
        """The least pause between the polls of a client (milliseconds), which every job object names."""
        return throttle.poll_ms(self.streams)

    # -- viewers come and go

    async def join(
        self,
        owner: Owner,
        job_ids: Sequence[str] | None,
        *,
        base: str,
        wants_items: bool = True,
        only_progress: bool = False,
        ends: bool = False,
    ) -> Viewer:
        """Add a viewer of these jobs, or of all live ones (None), until `owner` ends.

        The owner has the viewer before anything is awaited, so no error, cancellation or early disconnect can
        leave a viewer behind. With `only_progress` it is sent the numbers of a progress bar between the first and
        the final state, and no items. With `ends` the stream ends when its one job does. Raises StreamsFull if the
        limit is reached, and for all live jobs also StoreUnavailable.
        """
        if self._most is not None and self.streams >= self._most:
            self.stats.refused += 1
            if self.stats.refused == 1:
                log.warning(
                    "Limit on streams is reached, refused clients poll instead; raise it, or the limit on open "
                    "files: setting=max_streams limit=%d",
                    self._most,
                )
            raise StreamsFull(self._most)
        life = self._config.stream_life_s * random.uniform(0.75, 0.95)  # noqa: S311 – spreads, hides nothing
        viewer = owner.enter_context(
            Viewer(
                base=base,
                wants_items=wants_items,
                only_progress=only_progress,
                ends_with=job_ids[0] if ends and job_ids else None,
                leave_at=self._loop.time() + life,
                on_leave=self._on_leave,
            )
        )
        self.stats.opened += 1
        self._registry.add(viewer)
        if job_ids is None:
            # Registered for new jobs before the existing ones are listed, so none is missed in between.
            self._registry.of_all_jobs.add(viewer)
            job_ids = await self._store.live_ids(FINISHED_WITHIN_S)
        for job_id in job_ids:
            self._subscribe(viewer, job_id)
        if self.leaving is not None:
            self._send_away(viewer, self.leaving, self.streams)
        return viewer

    def _subscribe(self, viewer: Viewer, job_id: str) -> None:
        """Subscribe the viewer, unless it is: a job may change while the live ones are listed."""
        if (subscribed := self._registry.subscribe(viewer, job_id, self._loop.time())) is not None:
            job, subscription = subscribed
            job.mark_newcomer(subscription)
            self._schedule(job)

    # -- a change comes in

    def on_commit(self, changed: Changes) -> None:
        """Broadcast these changes, which the store has committed, to the viewers of their jobs."""
        if changed is None:
            self.catch_up.request()
            return
        now = self._loop.time()
        for job_id, change in changed.items():
            job = self._registry.jobs.get(job_id)
            if job is not None:
                job.changed_at = now
                job.mark(urgent=change is None or change.done)
                self._schedule(job)
            for viewer in self._registry.of_all_jobs:
                self._subscribe(viewer, job_id)

    def _resend(self, job: WatchedJob) -> None:
        """Broadcast the newest state of this job again, since some viewers are behind."""
        job.mark(urgent=True)
        self._schedule(job)

    def _schedule(self, job: WatchedJob) -> None:
        """Queue a dirty job: now, or as soon as its interval has passed."""
        if job.phase is not IDLE and job.phase is not SCHEDULED:
            return  # it is served soon, and once more if the store has been asked already
        pause_s = 0.0 if job.urgent else throttle.interval_s(self._config.interval_s, len(job.subscriptions))
        due = job.broadcast_at + (min(pause_s, GATHER_S) if job.newcomers else pause_s)
        if due <= self._loop.time():
            self._enqueue(job)
        elif due < job.due:
            job.schedule(due, self._loop.call_at(due, self._enqueue, job))

    # -- the queue

    def _enqueue(self, job: WatchedJob) -> None:
        job.enqueue()
        self._queue.append(job)
        self._schedule_flush()

    def _enqueue_loaded(self, job: WatchedJob, loaded: Loaded) -> None:
        job.load(loaded)
        self._queue.append(job)
        self._schedule_flush()

    def _schedule_flush(self) -> None:
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Serve the first jobs of the queue, and leave the others to the next loop iterations."""
        self._flush_scheduled = False
        for _ in range(min(len(self._queue), AT_ONCE)):
            job = self._queue.popleft()
            if job.phase is not CLOSED:
                self._serve(job)
        if self._queue:
            self._schedule_flush()

    def _serve(self, job: WatchedJob) -> None:
        """Broadcast what was read, or what is in the store's memory; otherwise start to read."""
        loaded = job.loaded
        try:
            if loaded is None:
                self.stats.broadcasts += 1
                if not self._broadcast_cached(job):
                    self._start_reading(job)
                    return
            else:
                snapshot, items, recipients = loaded
                if snapshot is None:
                    self._broadcast_gone(job)
                    return
                self._broadcast(job, snapshot, items, recipients)
        except Exception:  # noqa: BLE001 – logged; whatever failed, the viewers wait for the newest state
            self._failed(job)
        else:
            self._finish(job)

    def _finish(self, job: WatchedJob) -> None:
        """Schedule the job again if it changed meanwhile; otherwise wait for its next change."""
        job.rest()
        if job.dirty:
            self._schedule(job)

    # -- the store is asked

    def _broadcast_cached(self, job: WatchedJob) -> bool:
        snapshot = self._store.cached_snapshot(job.job_id)
        if snapshot is None or self._wants_items(job, snapshot.job):
            return False
        self._broadcast(job, snapshot, (), job.clear())
        return True

    def _start_reading(self, job: WatchedJob) -> None:
        job.read(self._loop.create_task(self._read(job), name=f"read {job.job_id}"))

    async def _read(self, job: WatchedJob) -> None:
        if job.failures:
            await asyncio.sleep(self._config.broadcast_pause_s)
        try:
            loaded = await self._load(job)
        except Exception:  # noqa: BLE001 – as above
            self._failed(job)
        else:
            self._enqueue_loaded(job, loaded)

    async def _load(self, job: WatchedJob) -> Loaded:
        recipients = job.clear()
        try:
            snapshot = await self._store.snapshot(job.job_id)
        except JobNotFound:
            return None, (), recipients
        if not self._wants_items(job, snapshot.job):
            return snapshot, (), recipients
        items = await self._store.items(
            job.job_id, after_seq=job.seq, after_index=snapshot.job.total, limit=ITEMS_SHOWN + 1
        )
        return snapshot, items, recipients

    def _wants_items(self, job: WatchedJob, newest: Job) -> bool:
        return 0 < job.seq < newest.seq and job.want_items > 0  # new viewers get no item events

    def _failed(self, job: WatchedJob) -> None:
        """Try again after a pause, or give up: the next heartbeat finds the viewers that are behind."""
        job.failures += 1
        attempts = self._config.broadcast_attempts
        log.exception("Broadcast failed: job=%s attempt=%d attempts=%d", job.job_id, job.failures, attempts)
        self.stats.broadcast_retries += 1
        job.to_all = True  # which viewers were left out is not known
        if job.failures < attempts:
            self._start_reading(job)
        else:
            self.stats.broadcast_failures += 1
            self._finish(job)

    # -- the viewers are sent the change

    def _broadcast(
        self, job: WatchedJob, snapshot: Snapshot, items: Sequence[Item], recipients: Recipients
    ) -> None:
        newest = snapshot.job
        encoded: dict[str, EncodedChange] = {}
        for subscription in self._recipients(job, newest, recipients):
            base = subscription.viewer.base_url
            if base not in encoded:
                shown = public(snapshot, self._clock(), base, self._keep_s, self.poll_ms)
                encoded[base] = encode_change(newest, shown, items, job.seq, base)
            subscription.offer(encoded[base])
        self.heartbeat.viewers_began()
        job.seq = newest.seq
        job.broadcast_at = self._loop.time()
        if newest.done and job.ended_at is None:
            job.ended_at = job.broadcast_at

    def _recipients(self, job: WatchedJob, newest: Job, asked_for: Recipients) -> Collection[Subscription]:
        newcomers, to_all = asked_for
        if not to_all and newest.seq <= job.seq:
            # Otherwise each of 5,000 viewers that join together would go through all of them: half of the cost.
            return job.subscriptions.intersection(newcomers)
        if job.newcomers:
            # Viewers that joined during the read are served separately: this may be older than what they have.
            return job.subscriptions.difference(job.newcomers)
        return job.subscriptions

    def _broadcast_gone(self, job: WatchedJob) -> None:
        farewell = sse.gone(job.job_id)
        for subscription in job.subscriptions:
            subscription.viewer.put_gone(job.job_id, farewell)
        self._registry.forget(job)

    # -- the server stops

    def announce_leaving(self, reason: str) -> None:
        """Send away all viewers, and those that still come, because the server is stopping."""
        self.leaving = reason
        viewers = tuple(self._registry.viewers)
        for viewer in viewers:
            self._send_away(viewer, reason, len(viewers))

    def _send_away(self, viewer: Viewer, reason: str, together: int = 1) -> None:
        """Send a viewer away, one of so many at this time: the more, the longer until all have returned."""
        viewer.end(sse.leaving(reason, random.randint(*throttle.return_ms(together))))  # noqa: S311

    async def close(self) -> None:
        """End all reads, since the store is about to close."""
        tasks = [job.task for job in self._registry.jobs.values() if job.task is not None]
        for job in self._registry.jobs.values():
            job.close()
        await asyncio.gather(*tasks, return_exceptions=True)
