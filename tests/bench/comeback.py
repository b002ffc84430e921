"""Measures how late 1,000 viewers see their jobs end while 5,000 others connect at once, as after a restart."""

from __future__ import annotations

import threading

from tests.bench.figures import Samples, Table, log
from tests.bench.inside import notes, record
from tests.bench.peers import OURS, ours
from tests.bench.viewers import Viewers, last_ms, percentile

JOBS, RATE = 50, 5
WATCHING, COMING = 1_000, 5_000
#: While the others are connecting (seconds).
ENDS_AFTER_S = 0.4


def measure(rounds: int, scale: float) -> Table:
    """Return one row."""
    samples = Samples()
    for turn in range(rounds):
        _once(samples, int(WATCHING * scale), int(COMING * scale))
        log(f"  comeback: round {turn + 1} of {rounds}")
    return samples.medians()


def _once(samples: Samples, watching: int, coming: int) -> None:
    with (
        record() as arrivals,
        ours(JOBS)() as server,
        Viewers(server.port, server.paths, watching, first=1, record=arrivals) as early,
    ):
        server.publish(RATE)
        early.window(1.0)
        ending = threading.Timer(ENDS_AFTER_S, server.program.send, ("finish",))
        ending.start()
        with Viewers(server.port, server.paths, coming, first=1) as crowd:
            ending.join()
            early.window(30.0, watching * 1_000)  # until all have ended
            ends = notes(server).changes
            connected_s = crowd.opened.seconds
        early.close()
        late = last_ms(arrivals, ends, JOBS, watching)
    samples.add(
        OURS, **{"connected in s": connected_s, "end p50 ms": percentile(late, 0.5), "end max ms": max(late)}
    )
