"""What the product notes about itself while it is measured: how late its loop was, when each change was due."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.peers import Served, ours
from tests.bench.polls import Polls
from tests.bench.viewers import Change, Viewers, last_ms, lateness_ms, percentile

#: The column of what it costs.
COST = "CPU s per second"
#: Until jobs that change are watched calmly, and until all of them have ended at most (seconds).
WARM_S, ENDED_S = 2.0, 30.0
#: Windows in which polls and the probe are under way, apart from those in which CPU is counted (seconds).
LOOKED_S = 3.0


@dataclass(frozen=True, slots=True)
class Notes:
    """`away_ms`: how late the loop's timer of 2 ms was, each time; `busy_ms`: its thread's CPU meanwhile."""

    changes: list[Change]
    away_ms: list[float]
    busy_ms: list[float]

    @property
    def loop(self) -> dict[str, float]:
        """As columns of a table."""
        return {
            "loop p99.9 ms": percentile(self.away_ms, 0.999),
            "loop max ms": max(self.away_ms, default=float("nan")),
            "loop's CPU p99.9 ms": percentile(self.busy_ms, 0.999),
        }


def notes(server: Served) -> Notes:
    """What was noted since the last call."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        server.program.ask(f"report {file.name}")
        told = json.loads(file.read())
    return Notes([(job, seq, at) for job, seq, at in told["changes"]], told["away_ms"], told["busy_ms"])


def looked(server: Served, watching: Viewers) -> dict[str, float]:
    """How long the loop was away and how long polls of the status took, in a window of their own, as columns."""
    server.program.tell("probe")
    with Polls(server.port, server.paths[0].split("/events")[0]) as polls:
        watching.window(LOOKED_S)
    return {"poll p99 ms": percentile(polls.took_ms, 0.99), **notes(server).loop}


@contextmanager
def record() -> Iterator[Path]:
    """A file for the arrivals of a load client."""
    with tempfile.TemporaryDirectory(prefix="unstuck-bench-") as folder:
        yield Path(folder, "arrivals")


def changing(jobs: int, viewers: int, rate: float, seconds: float) -> dict[str, float]:
    """Our server with so many jobs that change at this rate each, before so many viewers in all, to their end: its
    cost, how late the truth and the end are, and how the loop and polls fare, as columns."""
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
        looks = looked(server, watching)
        server.program.tell("finish")
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
        **looks,
    }
