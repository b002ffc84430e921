"""What the writer knows without reading: jobs that go on, and items in somebody's hands, as they were committed.

All that changes rows goes through the one writer, so this is the truth, and a command costs no query: reading and
decoding a job and an item takes longer than to decide and write them. It forgets rather than to be wrong: what is
over, everything when a transaction fails or when somebody else wrote to the database, and everything when it is
full. Only what was committed gets in. Knows no SQL.
"""

from __future__ import annotations

from collections.abc import Mapping

from unstuck.jobs.job import Item, Job

#: Kept at most: far more than what runners hold at once, and 20 MiB. With 2,000 jobs that change all the time and
#: room for half of them, it forgot all the time, and each command read its job and item.
MOST_JOBS, MOST_ITEMS = 4_096, 8_192


class RowCache:
    """Jobs with their row numbers by id, items by row number of the job and index. One thread."""

    def __init__(self) -> None:
        self.jobs: dict[str, tuple[int, Job]] = {}
        self.items: dict[tuple[int, int], Item] = {}
        self._version: int | None = None

    def check_version(self, version: int) -> bool:
        """`version` is SQLite's, and another one when somebody else has written; then True, and it forgets."""
        if version == self._version:
            return False
        self.clear()
        self._version = version
        return True

    def clear(self) -> None:
        """Everything."""
        self.jobs.clear()
        self.items.clear()

    def update(self, jobs: Mapping[str, tuple[int, Job]], items: Mapping[tuple[int, int], Item]) -> None:
        """These were read or written in a transaction that is committed now."""
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
