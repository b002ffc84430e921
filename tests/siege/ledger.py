"""Remembers what a server has acknowledged, and what it has refused. Any thread may use it.

Must not know: what is done to the server. See also: users.py (who writes it), judge.py.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass
class Acknowledged:
    """A job that was answered with 202; `inputs` by item name, if its results are known."""

    job_id: str
    sent: float
    answered: float
    inputs: dict[str, bytes] = field(default_factory=dict)
    #: True if an attack threw the database with it away, or removed its results.
    thrown_away: bool = False
    results_removed: bool = False


class Ledger:
    """What was acknowledged and refused."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: list[Acknowledged] = []
        self.refused = 0

    def acknowledge(self, job: Acknowledged) -> None:
        with self._lock:
            self._jobs.append(job)

    def refuse(self) -> None:
        with self._lock:
            self.refused += 1

    def jobs(self) -> list[Acknowledged]:
        with self._lock:
            return list(self._jobs)

    def throw_away(self, since: float, until: float) -> None:
        """Let go of what a database acknowledged after its backup began and before it was overwritten."""
        for one in self.jobs():
            if one.answered >= since and one.sent <= until:
                one.thrown_away = True
