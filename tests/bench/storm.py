"""A job that changes 1,000 times a second, before 1,000 viewers: what a second costs, how late the truth is.

Who sends every message is given as many as it can bear in a burst, and what one costs is told for 1,000.
Lateness counts from when the oldest change that an event brings was due, so waiting to be written counts too.
"""

from __future__ import annotations

import time

from tests.bench.figures import Samples, Table, say
from tests.bench.inside import looked, notes, record
from tests.bench.peers import NAIVE, OURS, PEERS, Start, available, ours
from tests.bench.viewers import Viewers, last_ms, lateness_ms, percentile

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
        _ours(samples, viewers)
        for name, start in starts.items():
            cost = _burst(start, viewers)
            samples.add(f"{name}, {SMALL} B", **{"CPU s for each s of it": cost})
        say(f"  storm: round {turn + 1} of {rounds}")
    return samples.medians()


def _ours(samples: Samples, viewers: int) -> None:
    with (
        record() as arrivals,
        ours()() as server,
        Viewers(server.port, server.paths, viewers, first=1, record=arrivals) as watching,
    ):
        server.publish(RATE)
        watching.window(1.0)
        notes(server)
        before = server.program.cpu()
        window = watching.window(SECONDS)
        used = server.program.cpu() - before
        changes = notes(server).changes
        looks = looked(server, watching)
        server.program.tell("finish")
        watching.window(30.0, viewers * RATE)  # until all have ended
        ends = notes(server).changes
        watching.close()
        late = lateness_ms(arrivals, changes, 1, window)
        last = last_ms(arrivals, ends, 1, viewers)
    changed = sum(window.start <= at <= window.end for _, _, at in changes)
    samples.add(
        OURS,
        **{
            "CPU s for each s of it": used / window.seconds,
            "changes/s": changed / window.seconds,
            "deliveries/s": window.events / window.seconds,
            "late p50 ms": percentile(late, 0.5),
            "late p99 ms": percentile(late, 0.99),
            "end p99 ms": percentile(last, 0.99),
        },
        **looks,
    )


def _burst(start: Start, viewers: int) -> float:
    """CPU seconds until all have all messages, for each second of a storm."""
    with start() as server, Viewers(server.port, server.paths, viewers) as watching:
        time.sleep(0.3)  # what opening left to do is not counted
        before = server.program.cpu()
        server.publish(RATE, BURST, SMALL)
        window = watching.window(60, BURST * viewers)
        used = server.program.cpu() - before
    return used / window.events * viewers * RATE
