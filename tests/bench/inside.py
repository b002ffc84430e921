"""Reads what the product records about itself: the delay of its event loop, and when each change was due.

See also: product.py, which records it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.peers import RunningServer, ours
from tests.bench.polls import Polls
from tests.bench.viewers import Change, Viewers, last_ms, lateness_ms, percentile

#: The column of the cost.
COST = "CPU s per second"
#: Until viewers of changing jobs have settled, and at most until all jobs have ended (seconds).
WARM_S, ENDED_S = 2.0, 30.0
#: The window in which the loop is probed and polls are sent, apart from the one in which CPU is counted (seconds).
LOOP_AND_POLLS_S = 3.0


@dataclass(frozen=True, slots=True)
class Notes:
    """What was recorded; `delay_ms` is how late each 2 ms timer was, `busy_ms` the CPU of its thread meanwhile."""

    changes: list[Change]
    delay_ms: list[float]
    busy_ms: list[float]

    @property
    def loop(self) -> dict[str, float]:
        """The loop's figures as columns of a table."""
        return {
            "loop p99.9 ms": percentile(self.delay_ms, 0.999),
            "loop max ms": max(self.delay_ms, default=float("nan")),
            "loop's CPU p99.9 ms": percentile(self.busy_ms, 0.999),
        }


def notes(server: RunningServer) -> Notes:
    """Return what was recorded since the last call."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        server.program.ask(f"report {file.name}")
        recorded = json.loads(file.read())
    return Notes(
        [(job, seq, at) for job, seq, at in recorded["changes"]], recorded["delay_ms"], recorded["busy_ms"]
    )


def loop_and_polls(server: RunningServer, watching: Viewers) -> dict[str, float]:
    """Measure the loop's delay and the duration of polls in a separate window, as columns."""
    server.program.send("probe")
    with Polls(server.port, server.paths[0].split("/events")[0]) as polls:
        watching.window(LOOP_AND_POLLS_S)
    return {"poll p99 ms": percentile(polls.took_ms, 0.99), **notes(server).loop}


@contextmanager
def record() -> Iterator[Path]:
    """Yield the path of a file for a load client's arrivals."""
    with tempfile.TemporaryDirectory(prefix="unstuck-bench-") as folder:
        yield Path(folder, "arrivals")


def changing(jobs: int, viewers: int, rate: float, seconds: float) -> dict[str, float]:
    """Measure jobs that change at this rate each until they end, with this many viewers in all.

    The columns are the cost, the lateness of changes and of the end, and the figures of the loop and of polls.
    """
    with (
        record() as arrivals,
        ours(jobs)() as server,
        Viewers(server.port, server.paths, viewers, first=1, record=arrivals) as watching,
    ):
        server.publish(rate)
        watching.window(WARM_S)
        notes(server)
        before = server.program.cpu()
        window = watching.window(seconds)
        used = server.program.cpu() - before
        changes = notes(server).changes
        responsiveness = loop_and_polls(server, watching)
        server.program.send("finish")
        watching.window(ENDED_S, int(viewers * rate * 1_000))  # until all have ended
        ends = notes(server).changes
        watching.close()
        late = lateness_ms(arrivals, changes, jobs, window)
        last = last_ms(arrivals, ends, jobs, viewers)
    changed = sum(window.start <= at <= window.end for _, _, at in changes)
    return {
        COST: used / window.seconds,
        "changes/s": changed / window.seconds,
        "deliveries/s": window.events / window.seconds,
        "late p50 ms": percentile(late, 0.5),
        "late p99 ms": percentile(late, 0.99),
        "end p99 ms": percentile(last, 0.99),
        **responsiveness,
    }
