"""Which time it is for a store, and by how much the machine's clock was set meanwhile.

Times that people see and deadlines go by the wall clock. Leases, pauses and alarms are durations, and must not
end because somebody set the clock: `Moment.jump` says by how much it was set, and the store moves what it has
written along. A steady clock tells the two apart; while the machine sleeps it stands still, so that sleep is
a jump too, and nobody loses a lease by it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

#: The wall clock is slewed by fractions of a second all the time; what is more was set (seconds).
SET_S = 2.0


@dataclass(frozen=True, slots=True)
class Moment:
    """`now` in epoch seconds; `jump` in seconds, mostly 0."""

    now: float
    jump: float


class Clock:
    """Without `steady`, no jump is looked for. One thread."""

    def __init__(self, wall: Callable[[], float], steady: Callable[[], float] | None = None) -> None:
        self._wall = wall
        self._steady = steady
        self._ahead = 0.0 if steady is None else wall() - steady()

    def read(self) -> Moment:
        """The jump is told again until it is `settled`."""
        now = self._wall()
        if self._steady is None:
            return Moment(now, 0.0)
        jump = now - self._steady() - self._ahead
        if abs(jump) < SET_S:
            return Moment(now, 0.0)
        return Moment(now, jump)

    def commit(self, moment: Moment) -> None:
        """What was written has moved along."""
        self._ahead += moment.jump
