"""`scripts/faults`: plays schedules of faults in a real Chromium, prints what it measured, and fails if
anything was ever wrong on a screen. Each violation comes with the command that plays it again.

Must not know: how a fault is brought about (browser.py) or what is wrong (judge.py).
"""

from __future__ import annotations

import argparse
import asyncio
import math
import re
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.faults.browser import Stage, Verdict, play
from tests.faults.namespaces import missing
from tests.faults.outages import LONG, Result, play_outages
from tests.faults.schedule import KINDS, REAL, SHORT, Schedule, draw

README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- faults -->", "<!-- /faults -->"
HEADER = ("fault", "schedules", "p50", "p99", "max", "wrong")


async def play_all(
    stage: Stage, schedules: Iterable[Schedule], lanes: int, tell: Callable[[Verdict], None]
) -> list[Verdict]:
    """Play them, so many at a time; `tell` hears of each as soon as it is over."""
    room = asyncio.Semaphore(lanes)

    async def one(schedule: Schedule) -> Verdict:
        async with room:
            try:
                verdict = await play(stage, schedule)
            except Exception:
                broke = f"the suite itself broke:\n{traceback.format_exc()}"
                verdict = Verdict(schedule, None, (broke,), ())
            tell(verdict)
            return verdict

    return list(await asyncio.gather(*(one(schedule) for schedule in schedules)))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all are not above."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def figures(verdicts: Sequence[Verdict]) -> list[tuple[str, ...]]:
    """The table's rows: each kind of fault that was played, and all together."""
    rows = []
    names = [name for name in (*KINDS, "several") if any(v.schedule.name == name for v in verdicts)]
    for name in (*names, "all"):
        part = [verdict for verdict in verdicts if name in (verdict.schedule.name, "all")]
        times = [verdict.truth_s for verdict in part if verdict.truth_s is not None]
        shown = ["–"] * 3
        if times:
            shown = [f"{value:.1f} s" for value in (percentile(times, 0.5), percentile(times, 0.99), max(times))]
        wrong = sum(bool(verdict.wrongs) for verdict in part)
        rows.append((name, str(len(part)), *shown, str(wrong)))
    return rows


def replay(schedule: Schedule, *, short: bool) -> str:
    """The command that plays this one again."""
    only = f"--only '{schedule.only}'" if schedule.only else ""
    options = [f"--seed {schedule.seed}", only, "--short" if short else ""]
    return " ".join(["scripts/faults", *filter(None, options)])


def into_readme(text: str, rows: Sequence[Sequence[str]]) -> str:
    """The README with the table between its marks."""
    if BEGIN not in text or END not in text:
        raise SystemExit(f"README.md needs the lines {BEGIN} and {END} where the table should stand.")
    lines = [HEADER, ("---",) + ("---:",) * (len(HEADER) - 1), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return re.sub(f"{BEGIN}.*?{END}", lambda _: f"{BEGIN}\n{table}\n{END}", text, flags=re.DOTALL)


def _told(console: Console, verdict: Verdict, command: str) -> None:
    if not verdict.wrongs:
        return
    console.print(f"[bold red]wrong[/] {verdict.schedule}", highlight=False)
    for wrong in verdict.wrongs:
        console.print(f"  {wrong}", highlight=False, markup=False)
    for screen in verdict.screens[-8:]:
        console.print(f"  {screen}", style="dim", highlight=False, markup=False)
    console.print(f"  play it again: {command}", highlight=False, markup=False)


def _printed(console: Console, rows: Sequence[Sequence[str]]) -> None:
    table = Table(*HEADER, title="time from the healing until the screen shows the truth")
    for number, column in enumerate(table.columns):
        column.justify = "right" if number else "left"
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
        "--outages", action="store_true", help="outages of a real network instead, up to 120 s (needs root)"
    )
    parser.add_argument("--lanes", type=int, default=6, help="how many at a time [default: 6]")
    parser.add_argument("--short", action="store_true", help="faults of at most 2.5 s instead of 40 s")
    parser.add_argument("--write", action="store_true", help="write the table into README.md")
    return parser.parse_args(given)


def main(given: Sequence[str]) -> int:
    """0 where nothing was wrong, 1 otherwise."""
    asked, console = _arguments(given), Console()
    if asked.outages:
        return _outages(console)
    pace = SHORT if asked.short else REAL
    seeds = [asked.seed] if asked.seed is not None else range(1, asked.seeds + 1)
    kinds = KINDS if asked.each else [asked.only]
    schedules = [draw(seed, pace, kind) for seed in seeds for kind in kinds]
    if len(schedules) == 1:
        console.print(str(schedules[0]), highlight=False)

    async def run(folder: Path, tell: Callable[[Verdict], None]) -> list[Verdict]:
        async with Stage.raised(folder) as stage:
            return await play_all(stage, schedules, asked.lanes, tell)

    with tempfile.TemporaryDirectory() as folder, Progress(console=console) as progress:
        bar = progress.add_task("schedules", total=len(schedules))

        def tell(verdict: Verdict) -> None:
            progress.advance(bar)
            _told(console, verdict, replay(verdict.schedule, short=asked.short))

        verdicts = asyncio.run(run(Path(folder), tell))
    rows = figures(verdicts)
    _printed(console, rows)
    if asked.write:
        README.write_text(into_readme(README.read_text(), rows))
    return 1 if any(verdict.wrongs for verdict in verdicts) else 0


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
