"""`scripts/faults`: plays schedules of faults in a real Chromium and with the Python client, prints what it
measured, and fails if anything was ever wrong on a screen. Each violation comes with the command that plays it
again.

Must not know: how a fault is brought about (scene.py, browser.py) or what is wrong (judge.py).
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import re
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
from tests.faults.judge import Flaw, Wrong
from tests.faults.namespaces import missing
from tests.faults.outages import LONG, Result, play_outages
from tests.faults.program import play_program
from tests.faults.scene import Verdict
from tests.faults.schedule import BEATLESS_S, FOR_PROGRAMS, KINDS, LAG_S, LONGEST_S, REAL, SHORT, Schedule, draw
from tests.faults.stage import Stage

README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- faults -->", "<!-- /faults -->"
HEADER = ("fault", "schedules", *Flaw, "p50", "p99", "max")
#: What takes longer is told (seconds).
SLOW_S = 10.0
#: Columns of a log.
WIDE = 120
#: Schedules for the Python client, for each one in Chromium.
PROGRAMS = 0.25


async def play_all(
    stage: Stage,
    schedules: Iterable[Schedule],
    lanes: int,
    tell: Callable[[Verdict], None],
    *,
    until: float = math.inf,
    slack_s: float = 0.0,
) -> list[Verdict]:
    """Play them, so many at a time and the longest first; `tell` hears of each as soon as it is over. None is
    begun after `until` (monotonic): those are left out. Bounds are longer by `slack_s`."""
    room = asyncio.Semaphore(lanes)

    async def one(schedule: Schedule) -> Verdict | None:
        async with room:
            if time.monotonic() > until:
                return None
            try:
                verdict = await (play_program if schedule.program else play)(stage, schedule, slack_s)
            except Exception:
                broke = Wrong(Flaw.ERROR, f"the suite itself broke:\n{traceback.format_exc()}")
                verdict = Verdict(schedule, None, (broke,), ())
            tell(verdict)
            return verdict

    longest_first = sorted(schedules, key=lambda schedule: -schedule.heal_s - schedule.bound_s)
    played = await asyncio.gather(*(one(schedule) for schedule in longest_first))
    return [verdict for verdict in played if verdict is not None]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all are not above."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def figures(verdicts: Sequence[Verdict]) -> list[tuple[str, ...]]:
    """The rows: each kind of fault that was played, then all by who watched, with heartbeats and without."""
    rows = [_row(name, [one for one in verdicts if one.schedule.name == name]) for name in (*KINDS, "several")]
    for program, who in ((False, "in Chromium"), (True, "with the Python client")):
        for beats, told in ((True, ""), (False, ", no heartbeats")):
            alike = [one for one in verdicts if (one.schedule.program, one.schedule.beats) == (program, beats)]
            rows.append(_row(f"all {who}{told}", alike))
    return [row for row in rows if row[1] != "0"]


def _row(name: str, verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    times = [verdict.truth_s for verdict in verdicts if verdict.truth_s is not None]
    shown = ["–"] * 3
    if times:
        shown = [f"{value:.1f} s" for value in (percentile(times, 0.5), percentile(times, 0.99), max(times))]
    flaws = [sum(any(wrong.kind is flaw for wrong in verdict.wrongs) for verdict in verdicts) for flaw in Flaw]
    return (name, str(len(verdicts)), *map(str, flaws), *shown)


def replay(schedule: Schedule, *, short: bool) -> str:
    """The command that plays this one again."""
    only = f"--only '{schedule.only}'" if schedule.only else ""
    client = f"--client {'python' if schedule.program else 'browser'}"
    options = [f"--seed {schedule.seed}", only, client, "--short" if short else ""]
    return " ".join(["scripts/faults", *filter(None, options)])


def into_readme(text: str, rows: Sequence[Sequence[str]], how: str) -> str:
    """The README with how it was measured and the table between its marks."""
    if BEGIN not in text or END not in text:
        raise SystemExit(f"README.md needs the lines {BEGIN} and {END} where the table should stand.")
    lines = [HEADER, ("---",) + ("---:",) * (len(HEADER) - 1), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return re.sub(f"{BEGIN}.*?{END}", lambda _: f"{BEGIN}\n{how}\n\n{table}\n{END}", text, flags=re.DOTALL)


def how_measured(command: str, lanes: int) -> str:
    """The words above the table: the command, the machine, the bounds."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    machine = f"{os.uname().sysname} on {os.cpu_count()} cores with {memory:.0f} GiB"
    return (
        f"`{command}`, {lanes} at a time, browser and servers on one machine ({machine}). The times run from the "
        f"healing of the last fault until the screen shows what the server knew then. Bounds: {LAG_S:g} s beyond "
        f"the fault's own length, {LONGEST_S:g} s at most; {LONGEST_S:g} s where the fault is silent, and "
        f"{BEATLESS_S:g} s where the server sends no heartbeats. What is later than its bound counts as stuck."
    )


def _told(console: Console, verdict: Verdict, command: str) -> None:
    if verdict.truth_s is not None and verdict.truth_s > SLOW_S:
        console.print(f"after {verdict.truth_s:.1f} s: {verdict.schedule}", highlight=False)
    if not verdict.wrongs:
        return
    console.print(f"[bold red]wrong[/] {verdict.schedule}", highlight=False)
    for wrong in verdict.wrongs:
        console.print(f"  {wrong}", highlight=False, markup=False)
    for screen in verdict.screens[-8:]:
        console.print(f"  {screen}", style="dim", highlight=False, markup=False)
    console.print(f"  play it again: {command}", highlight=False, markup=False)


def _printed(console: Console, rows: Sequence[Sequence[str]]) -> None:
    short = [head.split(" after ")[0].removeprefix("gone ").removesuffix(" wrong") for head in HEADER]
    table = Table(
        *short, title="schedules by what was wrong; time from the healing until the screen shows the truth"
    )
    for number, column in enumerate(table.columns):
        column.justify, column.no_wrap = ("right" if number else "left"), True
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/faults", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seeds", type=int, default=40, help="how many schedules, seeds 1 to N [default: 40]")
    parser.add_argument("--seed", type=int, help="play the schedule of this seed alone")
    parser.add_argument("--only", choices=KINDS, metavar="NAME", help=f"this fault alone: {', '.join(KINDS)}")
    parser.add_argument("--each", action="store_true", help="for each seed, each fault alone")
    parser.add_argument(
        "--client", choices=("both", "browser", "python"), default="both",
        help="who watches [default: both: Chromium, and the Python client for a quarter as many]",
    )  # fmt: skip
    parser.add_argument(
        "--outages", action="store_true", help="outages of a real network instead, up to 300 s (needs root)"
    )
    parser.add_argument(
        "--named", choices=("all", *plays.PLAYS), metavar="NAME",
        help=f"plays with names instead, each --seeds times, one by one: {', '.join(plays.PLAYS)}, or all",
    )  # fmt: skip
    parser.add_argument("--lanes", type=int, default=10, help="how many at a time [default: 10]")
    parser.add_argument("--minutes", type=float, default=25, help="begin none after so long [default: 25]")
    parser.add_argument("--short", action="store_true", help="faults of at most 2.5 s instead of 40 s")
    parser.add_argument("--write", action="store_true", help="write the table into README.md")
    return parser.parse_args(given)


def schedules_for(asked: argparse.Namespace) -> list[Schedule]:
    pace = SHORT if asked.short else REAL
    browser = [asked.seed] if asked.seed is not None else range(1, asked.seeds + 1)
    programs = browser if asked.client == "python" or asked.seed is not None else browser[: _share(len(browser))]
    found = []
    if asked.client != "python":
        found += [draw(seed, pace, kind) for seed in browser for kind in (KINDS if asked.each else [asked.only])]
    if asked.client != "browser" and (asked.only or "reset") in FOR_PROGRAMS:
        kinds = FOR_PROGRAMS if asked.each else [asked.only]
        found += [draw(seed, pace, kind, program=True) for seed in programs for kind in kinds]
    return found


def _share(count: int) -> int:
    return math.ceil(count * PROGRAMS)


def main(given: Sequence[str]) -> int:
    """0 where nothing was wrong and all were played, 1 otherwise."""
    asked = _arguments(given)
    console = Console() if sys.stdout.isatty() else Console(width=WIDE)
    if asked.outages:
        return _outages(console)
    if asked.named:
        return _named(console, list(plays.PLAYS) if asked.named == "all" else [asked.named], asked.seeds)
    schedules = schedules_for(asked)
    if len(schedules) <= 2:
        for schedule in schedules:
            console.print(str(schedule), highlight=False)
    verdicts = _played(console, schedules, asked)
    rows = figures(verdicts)
    _printed(console, rows)
    if left := len(schedules) - len(verdicts):
        console.print(f"[bold red]{left} were not played[/]: {asked.minutes:g} minutes were over.")
    if asked.write:
        how = how_measured(" ".join(["scripts/faults", *given]), asked.lanes)
        README.write_text(into_readme(README.read_text(), rows, how))
    return 1 if left or any(verdict.wrongs for verdict in verdicts) else 0


def _played(console: Console, schedules: Sequence[Schedule], asked: argparse.Namespace) -> list[Verdict]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with tempfile.TemporaryDirectory() as folder, Progress(*columns, console=console) as progress:
        bar = progress.add_task("schedules", total=len(schedules))
        wrong = 0

        def tell(verdict: Verdict) -> None:
            nonlocal wrong
            wrong += bool(verdict.wrongs)
            progress.update(bar, advance=1, description=f"schedules, {wrong} wrong")
            _told(console, verdict, replay(verdict.schedule, short=asked.short))

        async def run() -> list[Verdict]:
            async with Stage.raised(Path(folder)) as stage:
                until = time.monotonic() + asked.minutes * 60
                return await play_all(stage, schedules, asked.lanes, tell, until=until)

        return asyncio.run(run())


def _named(console: Console, names: Sequence[str], times: int) -> int:
    """Each so often, then what was measured for each thing that they tell."""

    async def run(folder: Path) -> list[plays.Result]:
        found: list[plays.Result] = []
        async with Stage.raised(folder) as stage:
            for name in [name for _ in range(times) for name in names]:
                for result in await plays.PLAYS[name](stage, 0.0):
                    found.append(result)
                    shown = "never" if result.truth_s is None else f"{result.truth_s:.1f} s"
                    wrong = "; ".join(result.wrongs)
                    console.print(f"{result.what}: truth after {shown} {wrong}", highlight=False, markup=False)
        return found

    with tempfile.TemporaryDirectory() as folder:
        results = asyncio.run(run(Path(folder)))
    for what in dict.fromkeys(result.what for result in results):
        of_it = [result for result in results if result.what == what]
        truths = [result.truth_s for result in of_it if result.truth_s is not None] or [math.nan]
        figures = f"p50 {percentile(truths, 0.5):.1f} s, max {max(truths):.1f} s"
        wrong_ones = sum(bool(result.wrongs) for result in of_it)
        console.print(f"{what}: {len(of_it)} times, {wrong_ones} wrong, {figures}", highlight=False, markup=False)
    return 1 if any(result.wrongs for result in results) else 0


def _outages(console: Console) -> int:
    if reason := missing():
        console.print(f"skipped: {reason}")
        return 0

    def tell(result: Result) -> None:
        outage, truth_s, wrong = result
        shown = "never" if truth_s is None else f"{truth_s:.1f} s"
        console.print(f"{outage}: truth after {shown} {'; '.join(wrong)}", highlight=False, markup=False)

    return 1 if any(wrong for _, _, wrong in play_outages(LONG, tell)) else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # servers and namespaces are taken down then too
    sys.exit(main(sys.argv[1:]))
