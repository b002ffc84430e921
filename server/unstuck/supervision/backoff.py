"""How long to wait before trying again: longer after each failure, and never for all at the same moment.

Pure: chance comes in as an argument.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that double from `first_s` up to `longest_s` (seconds)."""

    first_s: float = 1.0
    longest_s: float = 60.0

    def pause_s(self, failures: int, chance: float) -> float:
        """The pause after so many failures in a row (from 1), for a chance from 0 to 1: half of it is jitter."""
        limit = min(self.longest_s, self.first_s * 2.0 ** min(max(failures - 1, 0), 60))
        return limit * (0.5 + chance / 2)
