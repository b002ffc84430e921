"""The time of a store that several servers share: that of the database.

The writer reads it once for each commit, after it has locked the rows that it changes: so the times of a job never
run backwards, whichever server writes. In between it is estimated, for what only reads.
It must not know what the time is for.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class DatabaseClock:
    """The database's clock, or `wall` instead. The writer's thread sets it and all read it."""

    def __init__(self, wall: Callable[[], float] | None = None) -> None:
        self._wall = wall
        self._ahead = time.time() - time.monotonic()

    def set(self, now: float) -> float:
        """Note that the database's clock shows `now`; return the time of the store."""
        self._ahead = now - time.monotonic()
        return self.estimate()

    def estimate(self) -> float:
        """Return what the database's clock should show."""
        return time.monotonic() + self._ahead if self._wall is None else self._wall()
