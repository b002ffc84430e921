"""Plays schedules of faults on the client's policy and the real hub, under virtual time.

`scripts/faults --virtual --seeds 10000` plays that many schedules and prints a table; `--seed N` plays one again
and prints what happened; `--net polls` takes the other two nets away.
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
from tests.faults.virtual_net import Tell
from tests.faults.virtual_page import Dialog
from tests.faults.virtual_schedule import KINDS, Schedule, draw
from tests.faults.virtual_server import Nets
from tests.faults.virtual_stage import perform
from tests.faults.virtual_time import run

ALL = Nets()
Bounds = tuple[float, float]
#: One net alone, and how long it may take (seconds) on a visible page, and on a hidden one.
#: A broadcast is made once: what it missed comes with the next stream at the latest, and a stream lasts 600 s.
#: The comparison corrects at each heartbeat, on a stream that is reopened within 60 s where no poll is answered;
#: the watchdog polls after each minute of silence.
ALONE: dict[str, tuple[Nets, Bounds]] = {
    "broadcast": (Nets(comparison=False, polls=False), (620.0, 800.0)),
    "comparison": (Nets(broadcast=False, polls=False), (85.0, 600.0)),
    "polls": (Nets(broadcast=False, comparison=False), (85.0, 265.0)),
}
ROWS = (*KINDS, "several", "no heartbeats", "page stays hidden")
HEADER = ("fault", "schedules", "p50", "p99", "max", "peak", "wrong")
#: How much longer to wait for a late dialog, so that its lateness is known (seconds).
GRACE_S = 60.0


@dataclass(frozen=True, slots=True)
class Play:
    """How a schedule is played; the tests break one of these to see whether the judge notices."""

    nets: Nets = ALL
    bounds: Bounds | None = None  # the schedule's own
    client: type[Dialog] = Dialog
    tell: Tell | None = None


def play(schedule: Schedule, how: Play | None = None) -> Verdict:
    """Play one schedule, from the submission to the verdict."""
    how = how or Play()
    random.seed(schedule.seed)  # the hub draws how long its streams last from there
    bound_s = schedule.bound_s if how.bounds is None else how.bounds[schedule.stays_hidden]
    seen = run(perform(schedule, how.nets, bound_s + GRACE_S, how.client, how.tell))
    return judge(seen, bound_s)


# -- the command


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all values do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def figures(verdicts: Sequence[Verdict]) -> list[tuple[str, ...]]:
    """The rows of the table: each kind of fault, and all together."""
    names = [name for name in ROWS if any(verdict.schedule.name == name for verdict in verdicts)]
    visible = [one for one in verdicts if one.schedule.beats and not one.schedule.stays_hidden]
    parts = [(name, [one for one in verdicts if one.schedule.name == name]) for name in names]
    parts += [("beats, visible page", visible), ("all", list(verdicts))]
    return [_row(name, part) for name, part in parts if part]


def _row(name: str, part: Sequence[Verdict]) -> tuple[str, ...]:
    times = [one.truth_s for one in part if one.truth_s is not None] or [math.nan]
    shown = [f"{percentile(times, share):.1f} s" for share in (0.5, 0.99, 1.0)]
    wrong, peak = sum(bool(one.wrongs) for one in part), max(one.peak for one in part)
    return (name, str(len(part)), *shown, str(peak), str(wrong))


def play_seed(only: str | None, how: Play, seed: int) -> Verdict:
    """Play one seed; a function that another process can be given."""
    return play(draw(seed, only), how)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The hub rightly logs every failed broadcast with its traceback; ten thousand schedules have too many."""
    log = logging.getLogger("unstuck")
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(before)


def play_all(seeds: Sequence[int], only: str | None, how: Play, processes: int) -> list[Verdict]:
    """Play all of them, on so many cores."""
    one = partial(play_seed, only, how)
    with quiet():
        if processes == 1:
            return list(map(one, seeds))
        with multiprocessing.Pool(processes) as pool:
            return pool.map(one, seeds, chunksize=50)


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.virtual_play", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--seeds", type=int, default=10_000, help="how many, seeds 1 to N [default: 10000]")
    parser.add_argument("--seed", type=int, help="play this one, and print what happens")
    parser.add_argument("--only", choices=KINDS, metavar="NAME", help=f"this fault alone: {', '.join(KINDS)}")
    parser.add_argument("--net", choices=ALONE, help="take the other two nets away")
    parser.add_argument("--processes", type=int, default=2, help="[default: 2]")
    return parser.parse_args(given)


def main(given: Sequence[str]) -> int:
    """Return 0 if nothing was wrong, 1 otherwise."""
    asked, console = _arguments(given), Console(highlight=False, markup=False, soft_wrap=True)
    nets, bounds = ALONE[asked.net] if asked.net else (ALL, None)
    again = " ".join(f"--{name} '{value}'" for name in ("only", "net") if (value := getattr(asked, name)))
    if asked.seed is not None:
        schedule = draw(asked.seed, asked.only)
        console.print(str(schedule))
        verdicts = [play(schedule, Play(nets, bounds, tell=console.print))]
    else:
        seeds = range(1, asked.seeds + 1)
        verdicts = play_all(seeds, asked.only, Play(nets, bounds), asked.processes)
    for verdict in (one for one in verdicts if one.wrongs):
        console.print(f"wrong: {verdict.schedule}", *verdict.wrongs, sep="\n  ")
        console.print(f"  play it again: scripts/faults --virtual --seed {verdict.schedule.seed} {again}")
    table = Table(*HEADER, title="time from the healing until the screen shows the truth")
    for row in figures(verdicts):
        table.add_row(*row)
    console.print(table)
    return 1 if any(verdict.wrongs for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
