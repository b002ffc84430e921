"""5,000 viewers come at once, 256 at a time: how long until each has its first event (peers: its answer's head).

Ours sends each the whole job as it is then; the others have nothing to say yet.
"""

from __future__ import annotations

from tests.bench.figures import Samples, Table, say
from tests.bench.inside import notes
from tests.bench.peers import NAIVE, OURS, PEERS, available, ours
from tests.bench.viewers import Viewers

VIEWERS = 5_000


def measure(rounds: int, scale: float) -> Table:
    """One row for each server."""
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
            server.program.tell("probe")
            with Viewers(server.port, server.paths, viewers, first=1):
                samples.add(OURS, **notes(server).loop)
        say(f"  connect: round {turn + 1} of {rounds}")
    return samples.medians()
