"""Knows the workers on other machines that came lately, and wakes those that wait for work.

Must not know: requests, or what becomes of an item.
See also: work.py (the requests), store/protocol.py (notices of commits).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from unstuck.files.protocol import LeaseKey
from unstuck.store.protocol import Changes, JobReader
from unstuck.wire.work import LONGEST_WAIT_S


class Door:
    """Wakes waiting claims at commits, and knows which workers came lately. For the event loop's thread."""

    def __init__(self, store: JobReader, lease_s: float, discard_output: Callable[[LeaseKey], None]) -> None:
        #: Removes soon what was uploaded under this lease.
        self.discard_output = discard_output
        self._lease_s = lease_s
        self._waiting: dict[asyncio.Event, Collection[str]] = {}  # with the kinds that each waits for
        self._seen: dict[str, float] = {}  # by name of the worker (monotonic)
        store.on_commit(self._on_commit)

    @property
    def workers(self) -> int:
        """The number of workers elsewhere that came within the time of a lease."""
        since = time.monotonic() - max(self._lease_s, LONGEST_WAIT_S)
        self._seen = {name: at for name, at in self._seen.items() if at >= since}
        return len(self._seen)

    def see(self, worker: str | None) -> None:
        """Note that this worker gave a sign of life."""
        if worker is not None:
            self._seen[worker] = time.monotonic()

    @contextmanager
    def waiting(self, kinds: Collection[str]) -> Iterator[asyncio.Event]:
        """Give an event that is set when there may be work of these kinds."""
        bell = asyncio.Event()
        self._waiting[bell] = kinds
        try:
            yield bell
        finally:
            del self._waiting[bell]

    def _on_commit(self, changed: Changes) -> None:
        if not self._waiting:
            return
        jobs = None if changed is None else [job for job in changed.values() if job is not None and job.waiting]
        for bell, kinds in self._waiting.items():
            if jobs is None or any(job.kind in kinds for job in jobs):
                bell.set()
