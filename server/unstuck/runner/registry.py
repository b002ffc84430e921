"""The runner's leases: every item that it holds, and every end that the store does not have yet.

Decides: which leases are renewed, and what a lease that was refused does to its item.
Must not know: workers, or when the leases are renewed.
Read on: claimed_item.py (one item), leases.py (the thread that renews), write_buffer.py (ends on their way).

An item is held from its claim until its `Finish` or `Release` is written; were its lease not renewed while a
full disk delays the write, the store would give finished work to another runner. The lock is there for the lease
keeper's thread: at each moment it finds an item among the held or among the unwritten.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from unstuck.jobs.job import Finish, Release, Renew
from unstuck.runner.claimed_item import ClaimedItem, LeaseKey


class ItemRegistry:
    """Claimed items by (job, index, lease). `renewals` is for any thread, the others are for the loop's."""

    def __init__(self, lease_s: float) -> None:
        self.lease_s = lease_s
        self._lock = threading.Lock()
        self._held: dict[LeaseKey, ClaimedItem] = {}
        self._unwritten: set[LeaseKey] = set()

    def __len__(self) -> int:
        """How many items are held; those that only wait to be written do not count."""
        return len(self._held)

    def held(self) -> list[ClaimedItem]:
        with self._lock:
            return list(self._held.values())

    def of_job(self, job_id: str) -> list[ClaimedItem]:
        return [item for item in self.held() if item.work.job_id == job_id]

    def add(self, items: Sequence[ClaimedItem]) -> None:
        """Answer for these from now on."""
        with self._lock:
            self._held.update((item.key, item) for item in items)

    def retire(self, command: Finish | Release) -> None:
        """The item is held no more; its lease is kept until this is written."""
        key = command.job_id, command.index, command.lease
        with self._lock:
            self._unwritten.add(key)
            self._held.pop(key, None)

    def forget(self, written: Iterable[Finish | Release]) -> None:
        """These are in the store, or refused by it."""
        with self._lock:
            self._unwritten.difference_update([(it.job_id, it.index, it.lease) for it in written])

    def renewals(self) -> list[Renew]:
        """One for each lease that is ours."""
        with self._lock:
            return [Renew(*key, self.lease_s) for key in (*self._held, *self._unwritten)]

    def lose(self, refused: Iterable[Renew]) -> None:
        """These leases are ours no more: another runner has the item, or its job is over."""
        keys = [(renew.job_id, renew.index, renew.lease) for renew in refused]
        with self._lock:
            lost = [item for key in keys if (item := self._held.pop(key, None))]
        for item in lost:
            item.lose()
