"""Measures 2,000 jobs at once with two viewers each, changing five times a second: the cost, and lateness."""

from __future__ import annotations

from tests.bench.figures import Samples, Table, log
from tests.bench.inside import changing
from tests.bench.peers import OURS

JOBS = 2_000
VIEWERS_EACH = 2
RATE = 5
SECONDS = 6.0


def measure(rounds: int, scale: float) -> Table:
    """Return one row."""
    jobs = int(JOBS * scale)
    samples = Samples()
    for turn in range(rounds):
        samples.add(OURS, **changing(jobs, jobs * VIEWERS_EACH, RATE, SECONDS))
        log(f"  many: round {turn + 1} of {rounds}")
    return samples.medians()
