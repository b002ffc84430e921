"""A job that changes 1,000 times a second, before 1,000 viewers: what a second costs, how late the truth is.

Who sends every message is given as many as it can bear in a burst, and what one costs is told for 1,000.
Lateness counts from when the oldest change that an event brings was due, so waiting to be written counts too.
"""

from __future__ import annotations

import time

from tests.bench.figures import Samples, Table, say
from tests.bench.inside import COST, changing
from tests.bench.peers import NAIVE, OURS, PEERS, Start, available
from tests.bench.viewers import Viewers

RATE = 1_000
VIEWERS = 1_000
SECONDS = 5.0
#: Messages in a peer's burst: the slowest takes five seconds for them.
BURST = 50
SMALL = 300


def measure(rounds: int, scale: float) -> Table:
    """One row for each server."""
    starts, _, _ = available(list(PEERS) if scale >= 1 else [NAIVE])
    samples = Samples()
    viewers = int(VIEWERS * scale)
    for turn in range(rounds):
        samples.add(OURS, **changing(1, viewers, RATE, SECONDS))
        for name, start in starts.items():
            cost = _burst(start, viewers)
            samples.add(f"{name}, {SMALL} B", **{COST: cost})
        say(f"  storm: round {turn + 1} of {rounds}")
    return samples.medians()


def _burst(start: Start, viewers: int) -> float:
    """CPU seconds until all have all messages, for each second of a storm."""
    with start() as server, Viewers(server.port, server.paths, viewers) as watching:
        time.sleep(0.3)  # what opening left to do is not counted
        before = server.program.cpu()
        server.publish(RATE, BURST, SMALL)
        window = watching.window(60, BURST * viewers)
        used = server.program.cpu() - before
    return used / window.events * viewers * RATE
