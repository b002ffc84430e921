"""Plays schedules of faults on the client's policy, the real hub and the real store, under virtual time.

`scripts/faults --virtual --seeds 10000` plays that many schedules and prints a table; `--seed N` plays one again
and prints what happened; `--net polls` switches the other two safety nets off.
Next: virtual_schedule.py draws the faults, virtual_stage.py plays them, virtual_judge.py judges.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import multiprocessing
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from rich.console import Console
from rich.table import Table

from tests.faults.virtual_judge import Verdict, judge
from tests.faults.virtual_net import Log
from tests.faults.virtual_page import Dialog
from tests.faults.virtual_schedule import KINDS, Schedule, draw
from tests.faults.virtual_server import Nets
from tests.faults.virtual_stage import perform
from tests.faults.virtual_time import run
from tests.support.tables import percentile

ALL = Nets()
Bounds = tuple[float, float]
#: Each net by itself, and its bounds (seconds) on a visible and on a hidden page. A broadcast is attempted once:
#: what it misses comes with the next stream at the latest, and a stream lasts 600 s. The comparison corrects at
#: each heartbeat, on a stream that is reopened within 60 s if no poll is answered. The watchdog polls after each
#: minute of silence.
ALONE: dict[str, tuple[Nets, Bounds]] = {
    "broadcast": (Nets(comparison=False, polls=False), (620.0, 800.0)),
    "comparison": (Nets(broadcast=False, polls=False), (85.0, 600.0)),
    "polls": (Nets(broadcast=False, comparison=False), (85.0, 265.0)),
}
ROWS = (*KINDS, "several", "no heartbeats", "page stays hidden")
HEADER = ("fault", "schedules", "p50", "p99", "max", "peak", "violations")
#: How much longer to wait for a late dialog, to measure how late it is (seconds).
GRACE_S = 60.0


@dataclass(frozen=True, slots=True)
class Play:
    """How a schedule is played; tests break one of these parts to check that the judge notices."""

    nets: Nets = ALL
    bounds: Bounds | None = None  # None: the schedule's own
    client: type[Dialog] = Dialog
    log: Log | None = None


def play(schedule: Schedule, how: Play | None = None) -> Verdict:
    """Play one schedule, from the submission to the verdict."""
    how = how or Play()
    random.seed(schedule.seed)  # the hub draws the lifetimes of its streams from it
    bound_s = schedule.bound_s if how.bounds is None else how.bounds[schedule.stays_hidden]
    record = run(perform(schedule, how.nets, bound_s + GRACE_S, how.client, how.log))
    return judge(record, bound_s)


# -- the command


def figures(verdicts: Sequence[Verdict]) -> list[tuple[str, ...]]:
    """Return the rows of the table: each kind of fault, then all together."""
    names = [name for name in ROWS if any(verdict.schedule.name == name for verdict in verdicts)]
    visible = [one for one in verdicts if one.schedule.heartbeats and not one.schedule.stays_hidden]
    parts = [(name, [one for one in verdicts if one.schedule.name == name]) for name in names]
    parts += [("visible, heartbeats", visible), ("all", list(verdicts))]
    return [_row(name, part) for name, part in parts if part]


def _row(name: str, part: Sequence[Verdict]) -> tuple[str, ...]:
    times = [one.truth_s for one in part if one.truth_s is not None] or [math.nan]
    shown = [f"{percentile(times, share):.1f} s" for share in (0.5, 0.99, 1.0)]
    with_violations, peak = sum(bool(one.violations) for one in part), max(one.peak for one in part)
    return (name, str(len(part)), *shown, str(peak), str(with_violations))


def play_seed(only: str | None, how: Play, seed: int) -> Verdict:
    """Play one seed; at module level, so that it can be sent to another process."""
    return play(draw(seed, only), how)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the log; the hub logs every failed broadcast with a traceback, which is too much here."""
    log = logging.getLogger("unstuck")
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(before)


def play_all(seeds: Sequence[int], only: str | None, how: Play, processes: int) -> list[Verdict]:
    """Play all of these seeds, in this many processes."""
    one = partial(play_seed, only, how)
    with quiet():
        if processes == 1:
            return list(map(one, seeds))
        with multiprocessing.Pool(processes) as pool:
            return pool.map(one, seeds, chunksize=50)


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    summary = (__doc__ or "").split("\n\n")[0]
    parser = argparse.ArgumentParser(prog="scripts/faults --virtual", description=summary)
    parser.add_argument(
        "--seeds", type=int, default=10_000, metavar="N", help="play seeds 1 to N [default: 10000]"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="play only this seed, and print what happens")
    parser.add_argument("--only", choices=KINDS, metavar="NAME", help=f"play only this fault: {', '.join(KINDS)}")
    parser.add_argument("--net", choices=ALONE, help="switch the other two safety nets off")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="play in N processes [default: 2]")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Return 0 if there was no violation, 1 otherwise."""
    options, console = parse_arguments(argv), Console(highlight=False, markup=False, soft_wrap=True)
    nets, bounds = ALONE[options.net] if options.net else (ALL, None)
    again = " ".join(f"--{name} '{value}'" for name in ("only", "net") if (value := getattr(options, name)))
    if options.seed is not None:
        schedule = draw(options.seed, options.only)
        console.print(str(schedule))
        verdicts = [play(schedule, Play(nets, bounds, log=console.print))]
    else:
        seeds = range(1, options.seeds + 1)
        verdicts = play_all(seeds, options.only, Play(nets, bounds), options.processes)
    for verdict in (one for one in verdicts if one.violations):
        console.print(f"violation: {verdict.schedule}", *verdict.violations, sep="\n  ")
        console.print(f"  play it again: scripts/faults --virtual --seed {verdict.schedule.seed} {again}")
    table = Table(*HEADER, title="Time from recovery to truth; peak: requests within 10 s")
    for row in figures(verdicts):
        table.add_row(*row)
    console.print(table)
    return 1 if any(verdict.violations for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
