"""Measures a job that changes 1,000 times a second, with 1,000 viewers: the cost of a second, and lateness.

Peers, which send every message, get a burst as large as they can take; its cost is extrapolated to 1,000 messages.
Lateness counts from when the oldest change in an event was due, so it includes the time until that was written.
"""

from __future__ import annotations

import time

from tests.bench.figures import Samples, Table, log
from tests.bench.inside import COST, changing
from tests.bench.peers import NAIVE, OURS, PEERS, Start, available
from tests.bench.viewers import Viewers

RATE = 1_000
VIEWERS = 1_000
SECONDS = 5.0
#: Messages in a peer's burst; the slowest peer takes five seconds.
BURST = 50
SMALL = 300


def measure(rounds: int, scale: float) -> Table:
    """Return a row for each server."""
    starts, _, _ = available(list(PEERS) if scale >= 1 else [NAIVE])
    samples = Samples()
    viewers = int(VIEWERS * scale)
    for turn in range(rounds):
        samples.add(OURS, **changing(1, viewers, RATE, SECONDS))
        for name, start in starts.items():
            cost = _burst(start, viewers)
            samples.add(f"{name}, {SMALL} B", **{COST: cost})
        log(f"  storm: round {turn + 1} of {rounds}")
    return samples.medians()


def _burst(start: Start, viewers: int) -> float:
    """Return the CPU seconds per second of storm, from a burst delivered to all viewers."""
    with start() as server, Viewers(server.port, server.paths, viewers) as watching:
        time.sleep(0.3)  # opening the streams is not counted
        before = server.program.cpu()
        server.publish(RATE, BURST, SMALL)
        window = watching.window(60, BURST * viewers)
        used = server.program.cpu() - before
    return used / window.events * viewers * RATE
