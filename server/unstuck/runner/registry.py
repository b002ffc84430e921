"""Decides which leases are renewed: of the items that the runner holds, and of ends that are not written yet.

Must not know: workers, or when the leases are renewed.
See also: claimed_item.py (one item), leases.py (the thread that renews), write_buffer.py (the unwritten ends).

An item is held from its claim until its `Finish` or `Release` is written. If its lease were not renewed while a
full disk delays the write, the store would give finished work to another runner. The lock is for the lease
keeper's thread, which must find every item among the held or among the unwritten ones at any moment.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from unstuck.jobs.job import Finish, Release, Renew
from unstuck.runner.claimed_item import ClaimedItem, LeaseKey


class ItemRegistry:
    """Claimed items by (job, index, lease). Any thread may call `renewals`; the rest is for the event loop's."""

    def __init__(self, lease_s: float) -> None:
        self.lease_s = lease_s
        self._lock = threading.Lock()
        self._held: dict[LeaseKey, ClaimedItem] = {}
        self._unwritten: set[LeaseKey] = set()

    def __len__(self) -> int:
        """Return the number of held items, without those that only wait to be written."""
        return len(self._held)

    def held(self) -> list[ClaimedItem]:
        with self._lock:
            return list(self._held.values())

    def of_job(self, job_id: str) -> list[ClaimedItem]:
        return [item for item in self.held() if item.work.job_id == job_id]

    def add(self, items: Sequence[ClaimedItem]) -> None:
        """Hold these items, and renew their leases from now on."""
        with self._lock:
            self._held.update((item.key, item) for item in items)

    def retire(self, command: Finish | Release) -> None:
        """Stop holding the item, but keep renewing its lease until this command is written."""
        key = command.job_id, command.index, command.lease
        with self._lock:
            self._unwritten.add(key)
            self._held.pop(key, None)

    def forget(self, written: Iterable[Finish | Release]) -> None:
        """Drop the leases of these commands, which are in the store or were refused by it."""
        with self._lock:
            self._unwritten.difference_update([(it.job_id, it.index, it.lease) for it in written])

    def abandon(self, item: ClaimedItem) -> None:
        """Stop renewing the item's lease without a command for the store, which takes it back when it lapses."""
        with self._lock:
            self._held.pop(item.key, None)

    def renewals(self) -> list[Renew]:
        """Return a renewal for each of our leases."""
        with self._lock:
            return [Renew(*key, self.lease_s) for key in (*self._held, *self._unwritten)]

    def lose(self, refused: Iterable[Renew]) -> None:
        """Mark the items of these leases as lost: another runner has them, or their job has ended."""
        keys = [(renew.job_id, renew.index, renew.lease) for renew in refused]
        with self._lock:
            lost = [item for key in keys if (item := self._held.pop(key, None))]
        for item in lost:
            item.lose()
