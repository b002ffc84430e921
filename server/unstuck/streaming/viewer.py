"""Holds one open stream as the hub sees it: a subscription to each of its jobs, and what it is sent next.

Must not know: the store, other viewers, or how bytes get onto the wire.
See also: encoded.py (the bytes of a change), direct.py (the response).

The hub puts in; the response takes out, when `on_ready` is called or by iterating. A state that was not taken out
yet is replaced by a newer one, so a viewer's memory is bounded by the number of its jobs, not by what happens to
them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, Self

from unstuck.streaming.encoded import EncodedChange


class Subscription:
    """One viewer's subscription to one job: the seq that it was sent (0: none yet), and what it is sent next.

    The hub goes through thousands of these for each change, so no method looks anything up.
    """

    __slots__ = ("job_id", "pending", "sent_seq", "viewer")

    def __init__(self, viewer: Viewer, job_id: str) -> None:
        self.viewer = viewer
        self.job_id = job_id
        self.sent_seq = 0
        self.pending: EncodedChange | None = None

    @property
    def newest_seq(self) -> int:
        """The seq that the viewer was sent, or will be as soon as it reads; 0 before the first."""
        return self.sent_seq if self.pending is None else self.pending.seq

    def offer(self, change: EncodedChange) -> None:
        """Put in a change, unless the viewer was or will be sent a state at least as new."""
        viewer, pending = self.viewer, self.pending
        if viewer.ended or change.seq <= (self.sent_seq if pending is None else pending.seq):
            return
        self.pending = change
        if pending is None:
            viewer.waiting.append(self)
        if change.final and viewer.ends_with == self.job_id:
            viewer.end_with_job()
        viewer.notify()

    def encode_next(self) -> bytes:
        """Take out the pending change, as the bytes for this viewer."""
        change, sent_seq, viewer = self.pending, self.sent_seq, self.viewer
        assert change is not None
        self.pending, self.sent_seq = None, change.seq
        form = 0 if viewer.ends_with is not None else 1
        if not sent_seq:
            return change.whole[form]  # the first event of a stream is the job
        if not viewer.wants_items:
            return change.progress[form] if viewer.only_progress else change.whole[form]
        if sent_seq >= change.since:
            return change.with_items[form]
        return change.missed() + change.whole[form]


class Owner(Protocol):
    """Ends the viewers that it holds, on every path out of it: an ExitStack, or direct.py's Connection."""

    def enter_context(self, cm: Viewer, /) -> Viewer:
        """Take the viewer in."""
        ...


class Viewer:
    """An async iterator of bytes, which ends when the hub has ended it and everything was taken out.

    As a context manager it leaves its hub at the end of the block. `on_leave` is called with it, and may be called
    again.
    """

    __slots__ = (
        "_farewell",
        "_gone",
        "_heartbeat",
        "_on_leave",
        "_ready",
        "base_url",
        "ended",
        "ends_with",
        "heartbeat_soon",
        "leave_at",
        "on_ready",
        "only_progress",
        "subscriptions",
        "waiting",
        "wants_items",
    )  # fmt: skip

    def __init__(
        self,
        *,
        base: str,
        wants_items: bool,
        ends_with: str | None,
        leave_at: float,
        on_leave: Callable[[Viewer], None],
        only_progress: bool = False,
    ) -> None:
        self.base_url = base
        self.wants_items = wants_items and not only_progress
        self.only_progress = only_progress
        self.ends_with = ends_with
        self.leave_at = leave_at
        self.subscriptions: dict[str, Subscription] = {}
        #: Subscriptions with a pending change, the oldest first.
        self.waiting: list[Subscription] = []
        #: True once nothing more is put in.
        self.ended = False
        #: True if the last heartbeat promised the next one soon.
        self.heartbeat_soon = False
        #: Called when there is something to take out. It must only note the fact.
        self.on_ready: Callable[[], None] | None = None
        self._gone: list[bytes] = []
        self._heartbeat = b""
        self._farewell = b""
        self._ready: asyncio.Event | None = None
        self._on_leave = on_leave

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._on_leave(self)

    def newest_seq(self, job_id: str) -> int | None:
        """Return the seq of a job that the viewer was sent, or will be once it reads; None before the first."""
        subscription = self.subscriptions.get(job_id)
        return (subscription.newest_seq or None) if subscription is not None else None

    @property
    def has_begun(self) -> bool:
        """Return whether the first state of each of its jobs was sent, or will be as soon as the viewer reads."""
        return all(subscription.newest_seq for subscription in self.subscriptions.values())

    # -- putting in

    def end_with_job(self) -> None:
        """End with the final state of the viewer's one job, which has just been put in."""
        self.ended = True
        self._heartbeat = b""

    def put_gone(self, job_id: str, farewell: bytes) -> None:
        """Put in `farewell`, which says that the job does not exist (any more)."""
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
        """Put in a heartbeat; it replaces one that was not sent yet."""
        if not self.ended:
            self._heartbeat = heartbeat
            self.notify()

    def forget(self, job_id: str) -> None:
        """Drop a job that the hub no longer follows for this viewer."""
        self.subscriptions.pop(job_id, None)

    def end(self, farewell: bytes) -> None:
        """Send what is pending, then `farewell`, then nothing more."""
        if not self.ended:
            self._farewell = farewell
            self.ended = True
        self.notify()

    def notify(self) -> None:
        """Wake the response: there is something to take out."""
        if self._ready is not None:
            self._ready.set()
        if self.on_ready is not None:
            self.on_ready()

    # -- taking out

    @property
    def empty(self) -> bool:
        """Return whether there is nothing to take out."""
        return not (self.waiting or self._gone or self._heartbeat or self._farewell)

    @property
    def job_missing(self) -> bool:
        """Return whether the one job that the stream is for does not exist."""
        return bool(self._gone) and self.ends_with is not None

    async def wait_ready(self) -> None:
        """Wait until there is something to take out, or never will be."""
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
        """Take out everything that is pending, in one piece: one send costs as much as many events."""
        waiting, heartbeat = self.waiting, self._heartbeat
        # Nearly always there is one thing. It is not copied, so the writer sees that all viewers share it.
        if not (self._gone or self._farewell):
            if len(waiting) == 1 and not heartbeat:
                return waiting.pop().encode_next()
            if heartbeat and not waiting:
                self._heartbeat = b""
                return heartbeat
        parts = [
            *self._gone,
            *(subscription.encode_next() for subscription in waiting),
            self._heartbeat,
            self._farewell,
        ]
        self._gone, self.waiting, self._heartbeat, self._farewell = [], [], b"", b""
        return b"".join(parts)
