"""A store whose notices of commits can be lost, as those of a database to which others write as well."""

from __future__ import annotations

from typing import Any

from unstuck.jobs.job import Job
from unstuck.store.sqlite import SQLiteStore


class DeafStore(SQLiteStore):
    """While `deaf`, callers get their answers and listeners hear nothing."""

    deaf = False

    def listen_again(self) -> None:
        """Notify listeners again, first of the fact that it is not known what they missed."""
        self.deaf = False
        for listener in self._listeners:
            listener(None)

    def _publish(self, outcomes: list[Any], changed: dict[str, Job | None]) -> None:
        super()._publish(outcomes, {} if self.deaf else changed)
