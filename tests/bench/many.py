"""2,000 jobs at once, each before two viewers and changing five times a second: how late the truth is."""

from __future__ import annotations

from tests.bench.figures import Samples, Table, say
from tests.bench.inside import changing
from tests.bench.peers import OURS

JOBS = 2_000
VIEWERS_EACH = 2
RATE = 5
SECONDS = 6.0


def measure(rounds: int, scale: float) -> Table:
    """One row."""
    jobs = int(JOBS * scale)
    samples = Samples()
    for turn in range(rounds):
        samples.add(OURS, **changing(jobs, jobs * VIEWERS_EACH, RATE, SECONDS))
        say(f"  many: round {turn + 1} of {rounds}")
    return samples.medians()
