"""Measures viewers of a job that does not change: memory per viewer, memory after they left, and CPU.

CPU is counted over two default heartbeat intervals; peers send their own keep-alives. While a job has changed
within the last minute, our heartbeats are more frequent; that minute has its own column.
"""

from __future__ import annotations

from tests.bench.figures import Samples, Table, log
from tests.bench.peers import BARE, NAIVE, OURS, PEERS, RunningServer, Start, available, ours
from tests.bench.viewers import Viewers

VIEWERS = 5_000
HEARTBEATS_S = 30.0
#: After this the last change was over a minute ago (seconds).
CALM_S = 65.0


def measure(rounds: int, scale: float) -> Table:
    """Return a row for each server."""
    starts, _, _ = available([name for name in PEERS if name != BARE] if scale >= 1 else [NAIVE])
    samples = Samples()
    for turn in range(rounds):
        for name, start in {OURS: ours(), **starts}.items():
            _once(samples, name, start, int(VIEWERS * scale), counted=turn == 0 and scale >= 1)
        log(f"  idle: round {turn + 1} of {rounds}")
    return samples.medians()


def _once(samples: Samples, name: str, start: Start, viewers: int, *, counted: bool) -> None:
    with start() as server:
        with Viewers(server.port, server.paths, min(viewers, 500)) as watching:
            watching.window(0.5)  # warms up what is allocated once
        empty = server.program.memory()
        with Viewers(server.port, server.paths, viewers) as watching:
            watching.window(1.0)
            full = server.program.memory()
            if counted:
                if name == OURS:
                    samples.add(name, **{"% of a core, first minute": _share(server, watching)})
                    watching.window(CALM_S - HEARTBEATS_S)
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


def _share(server: RunningServer, watching: Viewers) -> float:
    """Return the CPU used, in percent of a core."""
    before = server.program.cpu()
    window = watching.window(HEARTBEATS_S)
    return 100 * (server.program.cpu() - before) / window.seconds
