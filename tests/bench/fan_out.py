"""Measures N viewers of one job at 10,000 deliveries a second: the CPU seconds that 100,000 deliveries cost.

Ours sends its real event of about 1 KB, the peers once the same size and once 300 bytes. For ours, the delay of
its event loop and the duration of polls are measured too.
"""

from __future__ import annotations

from tests.bench.figures import Samples, Table, log
from tests.bench.inside import loop_and_polls
from tests.bench.peers import BARE, NAIVE, OURS, PEERS, RunningServer, Start, available, ours
from tests.bench.viewers import Viewers, Window

DELIVERIES = 10_000
SMALL = 300
#: At most until every viewer has had three events, and the time counted (seconds).
WARM_S, COUNTED_S = 30.0, 4.0


def measure(rounds: int, scale: float) -> Table:
    """Return a row for each server and payload, with columns for each number of viewers."""
    starts, _, _ = available(list(PEERS) if scale >= 1 else [NAIVE])
    samples = Samples()
    for viewers in (1_000, 5_000) if scale >= 1 else (1_000,):
        for turn in range(rounds):
            real = _ours(samples, viewers)
            for name, start in starts.items():
                for size in (real, SMALL):
                    cost, window = _cost(start, viewers, size)
                    row = f"{name}, {'same size' if size == real else f'{SMALL} B'}"
                    _add(samples, row, viewers, cost, window)
            log(f"  fan-out to {viewers}: round {turn + 1} of {rounds}")
    if BARE in starts and scale >= 1:
        _ceiling(samples, starts[BARE])
    return samples.medians()


def _ours(samples: Samples, viewers: int) -> int:
    """Measure ours, add its row, and return the size of an event (bytes)."""
    with ours()() as server, Viewers(server.port, server.paths, viewers) as watching:
        server.publish(DELIVERIES / viewers)
        watching.window(WARM_S, 3 * viewers)
        cost, window = _counted(server, watching)
        responsiveness = loop_and_polls(server, watching)
    row = f"{OURS}, its own event"
    _add(samples, row, viewers, cost, window)
    samples.add(row, **{f"{viewers}: {column}": value for column, value in responsiveness.items()})
    return window.bytes // max(window.events, 1)


def _cost(start: Start, viewers: int, size: int) -> tuple[float, Window]:
    """Start a server and return what `_counted` returns."""
    with start() as server, Viewers(server.port, server.paths, viewers) as watching:
        server.publish(DELIVERIES / viewers, 0, size)
        watching.window(WARM_S, 3 * viewers)
        return _counted(server, watching)


def _counted(server: RunningServer, watching: Viewers) -> tuple[float, Window]:
    """Return the CPU seconds for 100,000 deliveries, and the window counted."""
    before = server.program.cpu()
    window = watching.window(COUNTED_S)
    if not window.events:
        raise RuntimeError(f"nothing arrived within {COUNTED_S} s")
    return (server.program.cpu() - before) / window.events * 100_000, window


def _add(samples: Samples, row: str, viewers: int, cost: float, window: Window) -> None:
    samples.add(
        row,
        **{
            f"{viewers}: CPU s": cost,
            f"{viewers}: deliveries/s": window.events / window.seconds,
            f"{viewers}: client CPU": window.cpu_s / window.seconds,
        },
    )
    samples.add(row, bytes=window.bytes / window.events)


def _ceiling(samples: Samples, start: Start) -> None:
    """Measure how much the load client can take from the bare broadcaster at full speed."""
    with start() as server, Viewers(server.port, server.paths, 1_000) as watching:
        server.publish(0, 0, SMALL)
        watching.window(0.5)
        window = watching.window(2.0)
    samples.add(
        f"{BARE}, at full speed",
        **{
            "1000: deliveries/s": window.events / window.seconds,
            "1000: client CPU": window.cpu_s / window.seconds,
        },
    )
