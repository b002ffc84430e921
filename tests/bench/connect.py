"""Measures 5,000 viewers that connect at once, 256 at a time: how long until each has its first event.

Ours sends each viewer the whole job; peers have nothing to send yet, so the head of the response counts.
"""

from __future__ import annotations

from tests.bench.figures import Samples, Table, log
from tests.bench.inside import notes
from tests.bench.peers import NAIVE, OURS, PEERS, available, ours
from tests.bench.viewers import Viewers

VIEWERS = 5_000


def measure(rounds: int, scale: float) -> Table:
    """Return a row for each server."""
    starts, _, _ = available(list(PEERS) if scale >= 1 else [NAIVE])
    samples = Samples()
    viewers = int(VIEWERS * scale)
    for turn in range(rounds):
        for name, start in {OURS: ours(), **starts}.items():
            with start() as server:
                before = server.program.cpu()
                with Viewers(server.port, server.paths, viewers, first=name == OURS) as watching:
                    watching.window(0.2)
                    used = server.program.cpu() - before
                    opened = watching.opened
                    samples.add(name, seconds=opened.seconds, CPU_s=used, client_CPU_s=opened.cpu_s)
        with ours()() as server:
            server.program.send("probe")
            with Viewers(server.port, server.paths, viewers, first=1):
                samples.add(OURS, **notes(server).loop)
        log(f"  connect: round {turn + 1} of {rounds}")
    return samples.medians()
