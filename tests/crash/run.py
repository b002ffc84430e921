"""Kills servers, cuts their power and wears them out, and fails if anything was lost, done twice or undone.

It prints the seed that everything is drawn from, and each violation with the command that plays it again.
`scripts/crash` runs it. It must not know how a server is killed (kills.py, points.py, power.py) or what is wrong
(siege.py).
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from tests.crash import power
from tests.crash.disconnects import play_disconnects
from tests.crash.growth import Measure, growth, play_growth
from tests.crash.kills import play_kills
from tests.crash.points import MOMENTS, play_point
from tests.crash.siege import Figures
from tests.crash.stops import play_stop
from tests.crash.witness import Flaw
from tests.support.tables import RELIABILITY, machine, markdown_table, write_block

#: Kills on one data folder; then a new one is used, so that a violation is found near its cause.
ROUND = 50
LEASE_S = 30.0
#: The table in RELIABILITY.md, and its short form for terminals.
HEADER = ("crash", "times", "jobs", "items", "runs of items", "observations", *Flaw)
SHORT_HEADER = (
    "crash",
    "times",
    "jobs",
    "items",
    "runs",
    "seen",
    "lost",
    "twice",
    "back",
    "end",
    "stuck",
    "errors",
)
#: The width of a log, in columns.
WIDTH = 120

Play = Callable[[Path, int, int, Callable[[int], None]], Figures]
Row = tuple[str, list[Figures]]


def main(argv: Sequence[str]) -> int:
    """Return 0 if there was no violation, 1 otherwise."""
    options = parse_arguments(argv)
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    seed = random.randrange(10**6) if options.seed is None else options.seed
    console.print(f"seed {seed}", highlight=False)
    rows: list[Row] = []
    if options.kills:
        rows.append(("server killed", _rounds(console, "kills", play_kills, options.kills, seed)))
    if options.points:
        rows.append(("server killed at a commit", _points(console)))
    if options.stop:
        rows.append((f"server stopped for {options.stop} s", _stopped(console, options.stop)))
    if options.power and (reason := power.missing()):
        console.print(f"power: skipped, {reason}")
    elif options.power:
        rows.append(("power cut", _rounds(console, "power", power.play_power, options.power, seed)))
    measures = play_growth(options.long, console.print) if options.long else []
    others = growth(measures[0], measures[-1]) if measures else []
    if options.disconnects:
        others += play_disconnects(options.disconnects, seed, console.print)
    if options.histories and not _histories(options.histories):
        others.append("a history broke the store's rules, see above")
    for text in others:
        console.print(f"[bold red]violation[/] {escape(text)}", highlight=False)
    _print_table(console, table_of(rows))
    count = len(others) + sum(len(figures.violations) for _, found in rows for figures in found)
    console.print(f"{count} violations", highlight=False)
    if options.write:
        command = " ".join(["scripts/crash", *argv])
        write_block(RELIABILITY, "crash", document(command, seed, rows, measures))
    return 1 if count else 0


def table_of(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return the rows of the table."""
    return [_row(name, found) for name, found in rows]


def _row(name: str, found: Sequence[Figures]) -> tuple[str, ...]:
    sums = [
        sum(getattr(one, column) for one in found) for column in ("times", "jobs", "items", "runs", "observations")
    ]
    kinds = [violation.kind for one in found for violation in one.violations]
    return (name, *(f"{number:,}" for number in (*sums, *map(kinds.count, Flaw))))


def document(command: str, seed: int, rows: Sequence[Row], measures: Sequence[Measure]) -> str:
    """Return the block for RELIABILITY.md: how it was measured, the table, and the growth."""
    drawn_from = "" if "--seed" in command else f", seed {seed}"
    parts = [
        f"`{command}`{drawn_from} ({machine()}). An item may run again after a kill, but never once its success "
        "has been seen. An observation is a job or an item that a viewer or a poller was shown, compared with "
        "everything shown before."
    ]
    if rows:
        parts.append(markdown_table(HEADER, table_of(rows)))
    if measures:
        parts.append(f"Memory and open files {measures[0]}; {measures[-1]}.")
    return "\n\n".join(parts)


def _print_table(console: Console, rows: Sequence[Sequence[str]]) -> None:
    table = Table(*SHORT_HEADER)
    for number, column in enumerate(table.columns):
        column.justify, column.no_wrap = ("right" if number else "left"), True
    for row in rows:
        table.add_row(*row)
    if rows:
        console.print(table)


def _rounds(console: Console, name: str, play: Play, count: int, seed: int) -> list[Figures]:
    """Play in rounds of ROUND, each with its own folder and seed."""
    found: list[Figures] = []
    began = time.monotonic()
    with Progress(console=console) as progress:
        bar = progress.add_task(name, total=count)
        for number in itertools.count():
            size = min(ROUND, count - number * ROUND)
            if size <= 0:
                break
            with tempfile.TemporaryDirectory() as folder:
                figures = play(Path(folder), seed + number, size, lambda _: progress.advance(bar))
            found.append(figures)
            _print_violations(progress.console, figures, f"--{name} {size} --seed {seed + number}")
    console.print(f"{name}: {time.monotonic() - began:.0f} s", highlight=False)
    return found


def _points(console: Console) -> list[Figures]:
    found: list[Figures] = []
    for number in itertools.count(1):
        pair = []
        for moment in MOMENTS:
            with tempfile.TemporaryDirectory() as folder:
                figures = play_point(Path(folder), number, moment)
            _print_violations(console, figures, "--points", f"{moment} commit {number}: ")
            pair.append(figures)
        if not any(figures.times for figures in pair):
            console.print(f"the scenario has {number - 1} commits", highlight=False)
            return found
        console.print(f"killed before and after commit {number}", highlight=False)
        found += pair
    raise AssertionError


def _stopped(console: Console, seconds: int) -> list[Figures]:
    with tempfile.TemporaryDirectory() as folder:
        figures = play_stop(Path(folder), [seconds], LEASE_S)
    console.print(f"stopped for {seconds} s and resumed", highlight=False)
    _print_violations(console, figures, f"--stop {seconds}")
    return [figures]


def _print_violations(console: Console, figures: Figures, options: str, where: str = "") -> None:
    for violation in figures.violations:
        console.print(f"[bold red]violation[/] {where}{escape(violation)}", highlight=False)
    if figures.violations:
        console.print(f"  play it again: scripts/crash {options}", highlight=False)


def _histories(count: int) -> bool:
    environ = {**os.environ, "HISTORIES": str(count)}
    command = [sys.executable, "-m", "pytest", "-q", "tests/store/test_any_history.py"]
    return subprocess.run(command, env=environ, check=False).returncode == 0


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/crash", description=(__doc__ or "").split("\n\n")[0],
        epilog="Without a part: --kills 500 --points --stop 40 --power 50 --long 10000, which takes hours.",
    )  # fmt: skip
    number: Any = {"type": int, "default": 0, "metavar": "N"}
    parser.add_argument("--kills", **number, help="kill the server N times while it works or starts (SIGKILL)")
    parser.add_argument("--points", action="store_true", help="kill it before and after each commit of a scenario")
    parser.add_argument("--stop", **number, help="stop it for N seconds and resume it (SIGSTOP, SIGCONT)")
    parser.add_argument("--power", **number, help="cut its power N times (needs root)")
    parser.add_argument("--long", **number, help="compare memory and open files over N jobs")
    parser.add_argument("--disconnects", **number, help="open N streams and disconnect at once")
    parser.add_argument("--histories", **number, help="check the store with N random histories")
    parser.add_argument("--seed", type=int, metavar="N", help="the seed of the first round [default: random]")
    parser.add_argument("--write", action="store_true", help="write the table into RELIABILITY.md")
    options = parser.parse_args(argv)
    chosen = (options.kills, options.points, options.stop, options.power, options.long)
    if not any((*chosen, options.disconnects, options.histories)):
        options.kills, options.points, options.stop, options.power, options.long = 500, True, 40, 50, 10_000
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
