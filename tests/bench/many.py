"""2,000 jobs at once, each before two viewers and changing five times a second: how late the truth is."""

from __future__ import annotations

from tests.bench.figures import Samples, Table, say
from tests.bench.inside import looked, notes, record
from tests.bench.peers import OURS, ours
from tests.bench.viewers import Viewers, last_ms, lateness_ms, percentile

JOBS = 2_000
VIEWERS_EACH = 2
RATE = 5
SECONDS = 6.0


def measure(rounds: int, scale: float) -> Table:
    """One row."""
    jobs = int(JOBS * scale)
    samples = Samples()
    for turn in range(rounds):
        _once(samples, jobs)
        say(f"  many: round {turn + 1} of {rounds}")
    return samples.medians()


def _once(samples: Samples, jobs: int) -> None:
    with (
        record() as arrivals,
        ours(jobs)() as server,
        Viewers(server.port, server.paths, jobs * VIEWERS_EACH, first=1, record=arrivals) as watching,
    ):
        server.publish(RATE)
        watching.window(2.0)
        notes(server)
        before = server.program.cpu()
        window = watching.window(SECONDS)
        used = server.program.cpu() - before
        changes = notes(server).changes
        looks = looked(server, watching)
        server.program.tell("finish")
        watching.window(30.0, jobs * VIEWERS_EACH * 1_000)  # until all have ended
        ends = notes(server).changes
        watching.close()
        late = lateness_ms(arrivals, changes, jobs, window)
        last = last_ms(arrivals, ends, jobs, jobs * VIEWERS_EACH)
    changed = sum(window.start <= at <= window.end for _, _, at in changes)
    samples.add(
        OURS,
        **{
            "changes/s": changed / window.seconds,
            "deliveries/s": window.events / window.seconds,
            "late p50 ms": percentile(late, 0.5),
            "late p99 ms": percentile(late, 0.99),
            "end p99 ms": percentile(last, 0.99),
            "CPU s/s": used / window.seconds,
        },
        **looks,
    )
