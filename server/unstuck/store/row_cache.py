"""A cache of the rows that the writer needs most: unfinished jobs and leased items, as they were committed.

All changes go through the one writer, so a command needs no query: reading and decoding a job and an item takes
longer than deciding and writing them. Finished jobs and released items are dropped. Everything is dropped when a
transaction fails, when another process wrote to the database, and when the cache is full.
It must not know SQL. Only the writer's thread uses it.
"""

from __future__ import annotations

from collections.abc import Mapping

from unstuck.jobs.job import Item, Job

#: The most entries: far more than runners hold at once, and 20 MiB. With room for only half of 2,000 busy jobs,
#: the cache was cleared constantly, and each command read its job and item.
MOST_JOBS, MOST_ITEMS = 4_096, 8_192


class RowCache:
    """Jobs with their row numbers, by id; items by the job's row number and their index."""

    def __init__(self) -> None:
        self.jobs: dict[str, tuple[int, Job]] = {}
        self.items: dict[tuple[int, int], Item] = {}
        self._version: int | None = None

    def check_version(self, version: int) -> bool:
        """Clear the cache and return True if SQLite's data `version` says that another connection wrote."""
        if version == self._version:
            return False
        self.clear()
        self._version = version
        return True

    def clear(self) -> None:
        """Drop everything."""
        self.jobs.clear()
        self.items.clear()

    def update(self, jobs: Mapping[str, tuple[int, Job]], items: Mapping[tuple[int, int], Item]) -> None:
        """Add what a transaction read or wrote, after its commit."""
        if len(self.jobs) > MOST_JOBS or len(self.items) > MOST_ITEMS:
            self.clear()
        self.jobs.update(jobs)
        for job_id, (_, job) in jobs.items():
            if job.done:
                del self.jobs[job_id]
        self.items.update(items)
        for key, item in items.items():
            if item.lease_until is None:
                del self.items[key]
