"""One open stream, seen from the hub: a slot for each job, and what is to be sent next.

The hub puts in, the response takes out, when `rung` calls it or by iterating. What is put in twice before it
is taken out once is sent once, the newer of the two; so a viewer's memory is bounded by the number of its jobs,
not by what happens to them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from unstuck.slot import Slot


class Viewer:
    """An async iterator of bytes; ends when the hub ended it and all was taken out."""

    __slots__ = (
        "_beat", "_bell", "_ended", "_farewell", "_gone", "_sent", "_slots",
        "base", "ends_with", "leave_at", "rung", "soon", "wants_items", "watched",
    )  # fmt: skip

    def __init__(self, *, base: str, wants_items: bool, ends_with: str | None, leave_at: float) -> None:
        self.base = base
        self.wants_items = wants_items
        self.ends_with = ends_with
        self.leave_at = leave_at
        self.watched: set[str] = set()
        #: It was told that the next beat comes soon.
        self.soon = False
        #: Called when there is something to take out; it must only make a note of it.
        self.rung: Callable[[], None] | None = None
        self._slots: dict[str, Slot] = {}
        self._sent: dict[str, int] = {}
        self._gone: list[bytes] = []
        self._beat = b""
        self._farewell = b""
        self._ended = False
        self._bell: asyncio.Event | None = None

    @property
    def ended(self) -> bool:
        """Nothing more is put in."""
        return self._ended

    def holds(self, job_id: str) -> int | None:
        """The seq that it was sent, or will be as soon as it reads; None before the first."""
        waiting = self._slots.get(job_id)
        return waiting.seq if waiting is not None else self._sent.get(job_id)

    @property
    def begun(self) -> bool:
        """It was sent, or will be as soon as it reads, the first state of each of its jobs."""
        return all(self.holds(job_id) is not None for job_id in self.watched)

    def show(self, job_id: str, slot: Slot) -> None:
        """The newest truth of a job; what this viewer has or will be sent already is dropped."""
        if self._ended:
            return
        held = self.holds(job_id)
        if held is not None and held >= slot.seq:
            return
        self._slots[job_id] = slot
        if slot.final and job_id == self.ends_with:
            self._ended = True
            self._beat = b""  # nothing comes after the final event
        self._ring()

    def tell_gone(self, job_id: str, farewell: bytes) -> None:
        """The job does not exist (any more)."""
        if self._ended or job_id not in self.watched:
            return
        self._slots.pop(job_id, None)
        self._sent.pop(job_id, None)
        self.watched.discard(job_id)
        self._gone.append(farewell)
        self._ended = job_id == self.ends_with
        self._ring()

    def beat(self, heartbeat: bytes) -> None:
        """A sign of life; replaces one that could not be sent yet."""
        if not self._ended:
            self._beat = heartbeat
            self._ring()

    def forget(self, job_id: str) -> None:
        """The hub no longer follows this job for this viewer."""
        self.watched.discard(job_id)
        self._sent.pop(job_id, None)

    def end(self, farewell: bytes) -> None:
        """Send what waits, then this, then nothing more."""
        if not self._ended:
            self._farewell = farewell
            self._ended = True
        self._ring()

    # -- taking out

    @property
    def empty(self) -> bool:
        """There is nothing to take out."""
        return not (self._slots or self._gone or self._beat or self._farewell)

    @property
    def lost(self) -> bool:
        """The one job that it is for does not exist."""
        return bool(self._gone) and self.ends_with is not None

    async def something(self) -> None:
        """Return when there is something to take out, or nothing will ever be."""
        if self._bell is None:
            self._bell = asyncio.Event()
        while self.empty and not self._ended:
            self._bell.clear()
            await self._bell.wait()

    def __aiter__(self) -> Viewer:
        return self

    async def __anext__(self) -> bytes:
        await self.something()
        if self.empty:
            raise StopAsyncIteration
        return self.take()

    def take(self) -> bytes:
        """All that is to be sent now, in one piece: one send costs what many events cost."""
        slots = self._slots
        if len(slots) == 1 and not (self._gone or self._beat or self._farewell):
            job_id, slot = slots.popitem()  # nearly always so, and then nothing is copied
            return self._told(job_id, slot)
        parts = self._gone
        parts += [self._told(job_id, slot) for job_id, slot in slots.items()]
        parts += (self._beat, self._farewell)
        self._gone, self._slots, self._beat, self._farewell = [], {}, b"", b""
        return b"".join(parts)

    def _told(self, job_id: str, slot: Slot) -> bytes:
        """The slot as this viewer is sent it."""
        named = self.ends_with is not None
        sent = self._sent.get(job_id)
        self._sent[job_id] = slot.seq
        if not self.wants_items or sent is None:
            return slot.job if named else slot.nameless  # the first event of a stream is the job
        if sent >= slot.since:
            return slot.both[0 if named else 1]
        return slot.missed + (slot.job if named else slot.nameless)

    def _ring(self) -> None:
        if self._bell is not None:
            self._bell.set()
        if self.rung is not None:
            self.rung()
