"""Viewers of a job on which nothing happens: the memory of each, what is left when they are gone, and their CPU.

The CPU is counted over two intervals of our heartbeat, as sent by default; peers send their own signs of life. On
a job that has changed within a minute, as this one has, ours beats more often: that is told apart.
"""

from __future__ import annotations

from tests.bench.figures import Samples, Table, say
from tests.bench.peers import BARE, NAIVE, OURS, PEERS, Served, Start, available, ours
from tests.bench.viewers import Viewers

VIEWERS = 5_000
BEATS_S = 30.0
#: From then on nothing has happened for a minute.
CALM_S = 65.0


def measure(rounds: int, scale: float) -> Table:
    """One row for each server."""
    starts, _, _ = available([name for name in PEERS if name != BARE] if scale >= 1 else [NAIVE])
    samples = Samples()
    for turn in range(rounds):
        for name, start in {OURS: ours(), **starts}.items():
            _once(samples, name, start, int(VIEWERS * scale), counted=turn == 0 and scale >= 1)
        say(f"  idle: round {turn + 1} of {rounds}")
    return samples.medians()


def _once(samples: Samples, name: str, start: Start, viewers: int, *, counted: bool) -> None:
    with start() as server:
        with Viewers(server.port, server.paths, min(viewers, 500)) as watching:
            watching.window(0.5)  # the first ones pay for what is made once
        empty = server.program.memory()
        with Viewers(server.port, server.paths, viewers) as watching:
            watching.window(1.0)
            full = server.program.memory()
            if counted:
                if name == OURS:
                    samples.add(name, **{"% of a core, first minute": _share(server, watching)})
                    watching.window(CALM_S - BEATS_S)
                samples.add(name, **{"% of a core": _share(server, watching)})
        with Viewers(server.port, server.paths, 1) as watching:
            watching.window(2.0)
            left = server.program.memory()
        with Viewers(server.port, server.paths, viewers) as watching:
            watching.window(1.0)
            again = server.program.memory()
    samples.add(
        name,
        KiB_each=(full - empty) / viewers / 1024,
        MiB_before=empty / 2**20,
        MiB_with_all=full / 2**20,
        MiB_after_they_left=left / 2**20,
        MiB_with_all_again=again / 2**20,
    )


def _share(server: Served, watching: Viewers) -> float:
    """Of a core, in percent."""
    before = server.program.cpu()
    window = watching.window(BEATS_S)
    return 100 * (server.program.cpu() - before) / window.seconds
