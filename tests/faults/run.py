"""Plays schedules of faults with a real Chromium and the Python client, and fails if a screen was ever wrong.

It prints what it measured, and each violation with the command that plays it again. `scripts/faults` runs it. It
must not know how a fault is applied (scene.py, browser.py) or what is wrong (judge.py).
"""

from __future__ import annotations

import argparse
import asyncio
import math
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.faults import plays
from tests.faults.browser import play
from tests.faults.judge import Flaw
from tests.faults.namespaces import missing
from tests.faults.outages import LONG, Result, play_outages
from tests.faults.program import play_program
from tests.faults.scene import Verdict
from tests.faults.schedule import (
    FOR_PROGRAMS,
    KINDS,
    LAG_S,
    LONGEST_S,
    NO_HEARTBEATS_BOUND_S,
    REAL,
    SHORT,
    Schedule,
    draw,
)
from tests.faults.stage import Stage
from tests.support.tables import RELIABILITY, machine, markdown_table, percentile, write_block
from tests.support.violation import Violation

#: The table in RELIABILITY.md, and its short form for terminals.
HEADER = ("fault", "schedules", *Flaw, "time from recovery to truth: p50", "p99", "max")
SHORT_HEADER = ("fault", "schedules", "stuck", "backwards", "wrong end", "open", "errors", "p50", "p99", "max")
#: Longer times to truth are printed as they happen (seconds).
SLOW_S = 10.0
#: The width of a log, in columns.
WIDTH = 120
#: Schedules for the Python client, per schedule in Chromium.
PROGRAMS = 0.25


async def play_all(
    stage: Stage,
    schedules: Iterable[Schedule],
    lanes: int,
    on_verdict: Callable[[Verdict], None],
    *,
    until: float = math.inf,
    slack_s: float = 0.0,
) -> list[Verdict]:
    """Play these, `lanes` at a time and the longest first, and return their verdicts.

    `on_verdict` is called as soon as each ends. None starts after `until` (monotonic); those are left out.
    Bounds are longer by `slack_s`.
    """
    free_lanes = asyncio.Semaphore(lanes)

    async def one(schedule: Schedule) -> Verdict | None:
        async with free_lanes:
            if time.monotonic() > until:
                return None
            try:
                verdict = await (play_program if schedule.program else play)(stage, schedule, slack_s)
            except Exception:
                broke = Violation(Flaw.ERROR, f"the suite itself broke:\n{traceback.format_exc()}")
                verdict = Verdict(schedule, None, (broke,), ())
            on_verdict(verdict)
            return verdict

    longest_first = sorted(schedules, key=lambda schedule: -schedule.heal_s - schedule.bound_s)
    played = await asyncio.gather(*(one(schedule) for schedule in longest_first))
    return [verdict for verdict in played if verdict is not None]


def figures(verdicts: Sequence[Verdict]) -> list[tuple[str, ...]]:
    """Return the rows: each kind of fault that was played, then all by client, with heartbeats and without."""
    rows = [_row(name, [one for one in verdicts if one.schedule.name == name]) for name in (*KINDS, "several")]
    for program, client in ((False, "in Chromium"), (True, "with the Python client")):
        for heartbeats, suffix in ((True, ""), (False, ", no heartbeats")):
            group = (program, heartbeats)
            alike = [one for one in verdicts if (one.schedule.program, one.schedule.heartbeats) == group]
            rows.append(_row(f"all {client}{suffix}", alike))
    return [row for row in rows if row[1] != "0"]


def _row(name: str, verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    times = [verdict.truth_s for verdict in verdicts if verdict.truth_s is not None]
    shown = ["–"] * 3
    if times:
        shown = [f"{value:.1f} s" for value in (percentile(times, 0.5), percentile(times, 0.99), max(times))]
    counts = [sum(any(one.kind is flaw for one in verdict.violations) for verdict in verdicts) for flaw in Flaw]
    return (name, str(len(verdicts)), *map(str, counts), *shown)


def replay(schedule: Schedule, *, short: bool) -> str:
    """Return the command that plays this schedule again."""
    only = f"--only '{schedule.only}'" if schedule.only else ""
    client = f"--client {'python' if schedule.program else 'browser'}"
    options = [f"--seed {schedule.seed}", only, client, "--short" if short else ""]
    return " ".join(["scripts/faults", *filter(None, options)])


def how_it_was_measured(command: str, lanes: int) -> str:
    """Return the text above the table: the command, the machine, the bounds."""
    return (
        f"`{command}`, {lanes} at a time, browser and servers on one machine ({machine()}). The time from "
        "recovery to truth runs from the end of the last fault until the screen shows what the server knew at "
        f"that moment. It may be {LAG_S:g} s more than the fault lasted, at most {LONGEST_S:g} s; {LONGEST_S:g} "
        f"s if nothing tells the client of the fault, and {NO_HEARTBEATS_BOUND_S:g} s if the server sends no "
        "heartbeats. A screen that takes longer counts as stuck."
    )


def _print_verdict(console: Console, verdict: Verdict, command: str) -> None:
    if verdict.truth_s is not None and verdict.truth_s > SLOW_S:
        console.print(f"truth after {verdict.truth_s:.1f} s: {verdict.schedule}", highlight=False)
    if not verdict.violations:
        return
    console.print(f"[bold red]violation[/] {verdict.schedule}", highlight=False)
    for violation in verdict.violations:
        console.print(f"  {violation}", highlight=False, markup=False)
    for screen in verdict.screens[-8:]:
        console.print(f"  {screen}", style="dim", highlight=False, markup=False)
    console.print(f"  play it again: {command}", highlight=False, markup=False)


def _print_table(console: Console, rows: Sequence[Sequence[str]]) -> None:
    table = Table(*SHORT_HEADER, title="Schedules with violations, by kind; time from recovery to truth")
    for number, column in enumerate(table.columns):
        column.justify, column.no_wrap = ("right" if number else "left"), True
    for row in rows:
        table.add_row(*row)
    console.print(table)


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    summary = (__doc__ or "").split("\n\n")[0]
    more = "scripts/faults --virtual plays ten thousand schedules without a browser; see its own --help."
    parser = argparse.ArgumentParser(prog="scripts/faults", description=summary, epilog=more)
    parser.add_argument("--seeds", type=int, default=40, metavar="N", help="play seeds 1 to N [default: 40]")
    parser.add_argument("--seed", type=int, metavar="N", help="play only the schedule of this seed")
    parser.add_argument("--only", choices=KINDS, metavar="NAME", help=f"play only this fault: {', '.join(KINDS)}")
    parser.add_argument("--each", action="store_true", help="play every fault by itself, for each seed")
    parser.add_argument(
        "--client", choices=("both", "browser", "python"), default="both",
        help="the client that watches [default: both: Chromium, and the Python client for a quarter of the seeds]",
    )  # fmt: skip
    parser.add_argument(
        "--outages", action="store_true", help="instead, play outages of a real network, up to 300 s (needs root)"
    )
    parser.add_argument(
        "--named", choices=("all", *plays.PLAYS), metavar="NAME",
        help=f"instead, play a named play --seeds times: {', '.join(plays.PLAYS)}, or all of them",
    )  # fmt: skip
    parser.add_argument("--lanes", type=int, default=10, metavar="N", help="play N at a time [default: 10]")
    parser.add_argument(
        "--minutes", type=float, default=25, metavar="N", help="start none after N minutes [default: 25]"
    )
    parser.add_argument("--short", action="store_true", help="limit each fault to 2.5 s instead of 40 s")
    parser.add_argument("--write", action="store_true", help="write the table into RELIABILITY.md")
    return parser.parse_args(argv)


def schedules_for(options: argparse.Namespace) -> list[Schedule]:
    """Return the schedules that these options ask for."""
    pace = SHORT if options.short else REAL
    browser = [options.seed] if options.seed is not None else range(1, options.seeds + 1)
    all_seeds = options.client == "python" or options.seed is not None
    programs = browser if all_seeds else browser[: math.ceil(len(browser) * PROGRAMS)]
    found = []
    if options.client != "python":
        kinds = KINDS if options.each else [options.only]
        found += [draw(seed, pace, kind) for seed in browser for kind in kinds]
    if options.client != "browser" and (options.only or "reset") in FOR_PROGRAMS:
        kinds = FOR_PROGRAMS if options.each else [options.only]
        found += [draw(seed, pace, kind, program=True) for seed in programs for kind in kinds]
    return found


def main(argv: Sequence[str]) -> int:
    """Return 0 if all schedules were played without a violation, 1 otherwise."""
    options = parse_arguments(argv)
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    if options.outages:
        return _outages(console)
    if options.named:
        return _named(console, list(plays.PLAYS) if options.named == "all" else [options.named], options.seeds)
    schedules = schedules_for(options)
    if len(schedules) <= 2:
        for schedule in schedules:
            console.print(str(schedule), highlight=False)
    verdicts = _play_with_progress(console, schedules, options)
    rows = figures(verdicts)
    _print_table(console, rows)
    if unplayed := len(schedules) - len(verdicts):
        console.print(f"[bold red]{unplayed} schedules not played[/]: the {options.minutes:g} minutes were up.")
    if options.write:
        how = how_it_was_measured(" ".join(["scripts/faults", *argv]), options.lanes)
        write_block(RELIABILITY, "faults", f"{how}\n\n{markdown_table(HEADER, rows)}")
    return 1 if unplayed or any(verdict.violations for verdict in verdicts) else 0


def _play_with_progress(
    console: Console, schedules: Sequence[Schedule], options: argparse.Namespace
) -> list[Verdict]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with tempfile.TemporaryDirectory() as folder, Progress(*columns, console=console) as progress:
        bar = progress.add_task("schedules", total=len(schedules))
        wrong = 0

        def on_verdict(verdict: Verdict) -> None:
            nonlocal wrong
            wrong += bool(verdict.violations)
            progress.update(bar, advance=1, description=f"schedules, {wrong} with violations")
            _print_verdict(console, verdict, replay(verdict.schedule, short=options.short))

        async def run() -> list[Verdict]:
            async with Stage.set_up(Path(folder)) as stage:
                until = time.monotonic() + options.minutes * 60
                return await play_all(stage, schedules, options.lanes, on_verdict, until=until)

        return asyncio.run(run())


def _named(console: Console, names: Sequence[str], times: int) -> int:
    """Play each of these repeatedly, then print a summary of each measurement."""

    async def run(folder: Path) -> list[plays.Result]:
        found: list[plays.Result] = []
        async with Stage.set_up(folder) as stage:
            for name in [name for _ in range(times) for name in names]:
                for result in await plays.PLAYS[name](stage, 0.0):
                    found.append(result)
                    text = _outcome(result.truth_s, result.violations)
                    console.print(f"{result.what}: {text}", highlight=False, markup=False)
        return found

    with tempfile.TemporaryDirectory() as folder:
        results = asyncio.run(run(Path(folder)))
    for what in dict.fromkeys(result.what for result in results):
        alike = [result for result in results if result.what == what]
        truths = [result.truth_s for result in alike if result.truth_s is not None] or [math.nan]
        wrong = sum(bool(result.violations) for result in alike)
        summary = f"{len(alike)} times, {wrong} with violations"
        truth = f"time to truth p50 {percentile(truths, 0.5):.1f} s, max {max(truths):.1f} s"
        console.print(f"{what}: {summary}, {truth}", highlight=False, markup=False)
    return 1 if any(result.violations for result in results) else 0


def _outcome(truth_s: float | None, violations: Sequence[str]) -> str:
    shown = "truth never shown" if truth_s is None else f"truth after {truth_s:.1f} s"
    return "; ".join([shown, *violations])


def _outages(console: Console) -> int:
    if reason := missing():
        console.print(f"skipped: {reason}")
        return 0

    def on_result(result: Result) -> None:
        outage, truth_s, violations = result
        console.print(f"{outage}: {_outcome(truth_s, violations)}", highlight=False, markup=False)

    return 1 if any(violations for _, _, violations in play_outages(LONG, on_result)) else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that servers and namespaces are removed too
    sys.exit(main(sys.argv[1:]))
