"""Back-off: the pause before another attempt, longer after each failure and spread by jitter.

It must not know clocks or random generators: chance is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that double from `first_s` up to `longest_s` (seconds)."""

    first_s: float = 1.0
    longest_s: float = 60.0

    def pause_s(self, failures: int, chance: float) -> float:
        """Return the pause (seconds) after so many failures in a row (from 1).

        Half of the pause is jitter: `chance` (0 to 1) decides how much of it is added.
        """
        limit = min(self.longest_s, self.first_s * 2.0 ** min(max(failures - 1, 0), 60))
        return limit * (0.5 + chance / 2)
