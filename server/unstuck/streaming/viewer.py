"""One open stream, seen from the hub: a seat before each of its jobs, and what is to be sent next.

The hub puts in, the response takes out, when `rung` calls it or by iterating. What is put in twice before it
is taken out once is sent once, the newer of the two; so a viewer's memory is bounded by the number of its jobs,
not by what happens to them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from unstuck.streaming.encoded import EncodedChange


class Subscription:
    """A viewer's place before one job: the seq that it was sent (0: none yet), and what it will be sent next.

    The hub goes through these, thousands for each change: so it looks nothing up on the way."""

    __slots__ = ("job_id", "pending", "sent_seq", "viewer")

    def __init__(self, viewer: Viewer, job_id: str) -> None:
        self.viewer = viewer
        self.job_id = job_id
        self.sent_seq = 0
        self.pending: EncodedChange | None = None

    @property
    def newest_seq(self) -> int:
        """The seq that its viewer was sent, or will be as soon as it reads; 0 before the first."""
        return self.sent_seq if self.pending is None else self.pending.seq

    def offer(self, slot: EncodedChange) -> None:
        """The newest truth; what the viewer has or will be sent already is dropped."""
        viewer, waiting = self.viewer, self.pending
        if viewer.ended or slot.seq <= (self.sent_seq if waiting is None else waiting.seq):
            return
        self.pending = slot
        if waiting is None:
            viewer.waiting.append(self)
        if slot.final and viewer.ends_with == self.job_id:
            viewer.end_with_job()
        viewer.notify()

    def encode_next(self) -> bytes:
        """What waits, as the viewer is sent it now."""
        slot, sent, viewer = self.pending, self.sent_seq, self.viewer
        assert slot is not None
        self.pending, self.sent_seq = None, slot.seq
        named = viewer.ends_with is not None
        if not viewer.wants_items or not sent:
            return slot.job if named else slot.nameless  # the first event of a stream is the job
        if sent >= slot.since:
            return slot.both[0 if named else 1]
        return slot.missed() + (slot.job if named else slot.nameless)


class Viewer:
    """An async iterator of bytes; ends when the hub ended it and all was taken out."""

    __slots__ = (
        "_farewell",
        "_gone",
        "_heartbeat",
        "_ready",
        "base_url",
        "ended",
        "ends_with",
        "heartbeat_soon",
        "leave_at",
        "on_ready",
        "subscriptions",
        "waiting",
        "wants_items",
    )  # fmt: skip

    def __init__(self, *, base: str, wants_items: bool, ends_with: str | None, leave_at: float) -> None:
        self.base_url = base
        self.wants_items = wants_items
        self.ends_with = ends_with
        self.leave_at = leave_at
        self.subscriptions: dict[str, Subscription] = {}
        #: Seats with something to take out, the oldest first.
        self.waiting: list[Subscription] = []
        #: Nothing more is put in.
        self.ended = False
        #: It was told that the next beat comes soon.
        self.heartbeat_soon = False
        #: Called when there is something to take out; it must only make a note of it.
        self.on_ready: Callable[[], None] | None = None
        self._gone: list[bytes] = []
        self._heartbeat = b""
        self._farewell = b""
        self._ready: asyncio.Event | None = None

    def newest_seq(self, job_id: str) -> int | None:
        """The seq that it was sent of a job, or will be as soon as it reads; None before the first."""
        subscription = self.subscriptions.get(job_id)
        return (subscription.newest_seq or None) if subscription is not None else None

    @property
    def has_begun(self) -> bool:
        """It was sent, or will be as soon as it reads, the first state of each of its jobs."""
        return all(subscription.newest_seq for subscription in self.subscriptions.values())

    def end_with_job(self) -> None:
        """The final state of its one job was put in; nothing comes after it."""
        self.ended = True
        self._heartbeat = b""

    def put_gone(self, job_id: str, farewell: bytes) -> None:
        """The job does not exist (any more)."""
        subscription = self.subscriptions.get(job_id)
        if self.ended or subscription is None:
            return
        if subscription.pending is not None:
            self.waiting.remove(subscription)
        self.forget(job_id)
        self._gone.append(farewell)
        self.ended = job_id == self.ends_with
        self.notify()

    def put_heartbeat(self, heartbeat: bytes) -> None:
        """A sign of life; replaces one that could not be sent yet."""
        if not self.ended:
            self._heartbeat = heartbeat
            self.notify()

    def forget(self, job_id: str) -> None:
        """The hub no longer follows this job for this viewer."""
        self.subscriptions.pop(job_id, None)

    def end(self, farewell: bytes) -> None:
        """Send what waits, then this, then nothing more."""
        if not self.ended:
            self._farewell = farewell
            self.ended = True
        self.notify()

    def notify(self) -> None:
        """There is something to take out."""
        if self._ready is not None:
            self._ready.set()
        if self.on_ready is not None:
            self.on_ready()

    # -- taking out

    @property
    def empty(self) -> bool:
        """There is nothing to take out."""
        return not (self.waiting or self._gone or self._heartbeat or self._farewell)

    @property
    def job_missing(self) -> bool:
        """The one job that it is for does not exist."""
        return bool(self._gone) and self.ends_with is not None

    async def wait_ready(self) -> None:
        """Return when there is something to take out, or nothing will ever be."""
        if self._ready is None:
            self._ready = asyncio.Event()
        while self.empty and not self.ended:
            self._ready.clear()
            await self._ready.wait()

    def __aiter__(self) -> Viewer:
        return self

    async def __anext__(self) -> bytes:
        await self.wait_ready()
        if self.empty:
            raise StopAsyncIteration
        return self.take()

    def take(self) -> bytes:
        """All that is to be sent now, in one piece: one send costs what many events cost."""
        waiting, beat = self.waiting, self._heartbeat
        # Nearly always there is one thing; as it is not copied, who sends it sees that it is the same for all.
        if not (self._gone or self._farewell):
            if len(waiting) == 1 and not beat:
                return waiting.pop().encode_next()
            if beat and not waiting:
                self._heartbeat = b""
                return beat
        parts = [
            *self._gone,
            *(subscription.encode_next() for subscription in waiting),
            self._heartbeat,
            self._farewell,
        ]
        self._gone, self.waiting, self._heartbeat, self._farewell = [], [], b"", b""
        return b"".join(parts)
