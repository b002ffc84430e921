"""The store's time, and by how much the machine's clock was set in the meantime.

Deadlines and the times that people see follow the wall clock. Leases, pauses and health alarms are durations, and
must not end because the clock was set: `Moment.jump` says by how much it was set, and the store shifts the times
that it has written. A comparison with a steady clock reveals a jump. The steady clock stands still while the
machine sleeps, so sleep is a jump too, and does not end a lease.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

#: A smaller difference is the constant correction of a wall clock; from here on, it was set (seconds).
SET_S = 2.0


@dataclass(frozen=True, slots=True)
class Moment:
    """A reading of the clock: `now` in epoch seconds, and `jump` in seconds, mostly 0."""

    now: float
    jump: float


class Clock:
    """A wall clock that notices when it was set; without `steady` it does not. For use by one thread."""

    def __init__(self, wall: Callable[[], float], steady: Callable[[], float] | None = None) -> None:
        self._wall = wall
        self._steady = steady
        self._ahead = 0.0 if steady is None else wall() - steady()

    def read(self) -> Moment:
        """Return the time and the jump. The jump is returned again until `commit` accepts it."""
        now = self._wall()
        if self._steady is None:
            return Moment(now, 0.0)
        jump = now - self._steady() - self._ahead
        if abs(jump) < SET_S:
            return Moment(now, 0.0)
        return Moment(now, jump)

    def commit(self, moment: Moment) -> None:
        """Accept the jump: the stored times have been shifted by it."""
        self._ahead += moment.jump


def as_read_then(moment: float, steps: Iterable[tuple[float, float]]) -> float:
    """Return what the clock showed at the instant that it would call `moment` now.

    `steps` says when it was set, newest first: what it showed afterwards, and by how much it was set.
    """
    for at, jump in steps:
        if moment < at:
            moment -= jump
    return moment
