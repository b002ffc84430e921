"""`scripts/crash`: kills servers, cuts their power, wears them out, and fails if anything was ever lost or undone.

Every part comes from a seed that is printed; what is wrong is printed with the command that plays it again.
Must not know: how anything is killed (kills.py, points.py, power.py) or what is wrong (siege.py).
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
from rich.progress import Progress

from tests.crash import growth, power
from tests.crash.disconnects import play_disconnects
from tests.crash.kills import Figures, play_kills
from tests.crash.points import MOMENTS, play_point
from tests.crash.stops import play_stop

#: Kills on one data folder; then a new one is begun, so that what goes wrong is found near its cause.
ROUND = 50

Play = Callable[[Path, int, int, Callable[[int], None]], Figures]


def main(given: Sequence[str]) -> int:
    """0 where nothing was wrong, 1 otherwise."""
    asked, console = _arguments(given), Console()
    seed = random.randrange(10**6) if asked.seed is None else asked.seed
    console.print(f"seed {seed}", highlight=False)
    wrongs: list[str] = []
    if asked.kills:
        wrongs += _rounds(console, "kills", play_kills, asked.kills, seed)
    if asked.points:
        wrongs += _points(console)
    if asked.stop:
        wrongs += _stopped(console, asked.stop)
    if asked.power and (reason := power.missing()):
        console.print(f"power: skipped, {reason}")
    elif asked.power:
        wrongs += _rounds(console, "power", power.play_power, asked.power, seed)
    if asked.long:
        wrongs += growth.play_growth(asked.long, console.print)
    if asked.disconnects:
        again = f"scripts/crash --disconnects {asked.disconnects} --seed {seed}"
        wrongs += [f"{wrong} ({again})" for wrong in play_disconnects(asked.disconnects, seed, console.print)]
    if asked.histories:
        wrongs += _histories(asked.histories)
    for wrong in wrongs[:100]:
        console.print(f"[bold red]wrong[/] {wrong}", highlight=False)
    console.print(f"{len(wrongs)} wrong")
    return 1 if wrongs else 0


def _rounds(console: Console, name: str, play: Play, count: int, seed: int) -> list[str]:
    """In rounds of ROUND, each with a folder and a seed of its own."""
    found: list[Figures] = []
    wrongs: list[str] = []
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
            again = f"play it again: scripts/crash --{name} {size} --seed {seed + number}"
            for wrong in figures.wrongs:
                wrongs.append(f"{wrong} ({again})")
                progress.console.print(f"[bold red]wrong[/] {wrongs[-1]}", highlight=False)
    items, runs = sum(one.items for one in found), sum(one.runs for one in found)
    console.print(
        f"{name}: {sum(one.kills for one in found)} times, {sum(one.stillborn for one in found)} more while it "
        f"started; {sum(one.jobs for one in found)} jobs, {items} items worked on {runs} times; "
        f"{sum(one.sights for one in found)} sights compared; {time.monotonic() - began:.0f} s",
        highlight=False,
    )
    return wrongs


def _points(console: Console) -> list[str]:
    wrongs: list[str] = []
    for number in itertools.count(1):
        reached = False
        for moment in MOMENTS:
            with tempfile.TemporaryDirectory() as folder:
                point = play_point(Path(folder), number, moment)
            reached = reached or point.reached
            wrongs += [f"{moment} commit {number}: {wrong}" for wrong in point.wrongs]
        console.print(f"commit {number}: {'killed before and after it' if reached else 'there is none'}")
        if not reached:
            return wrongs
    raise AssertionError


def _stopped(console: Console, seconds: int) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        wrongs = play_stop(Path(folder), [seconds], lease_s=30)
    console.print(f"stopped for {seconds} s and continued")
    return wrongs


def _histories(count: int) -> list[str]:
    environ = {**os.environ, "HISTORIES": str(count)}
    command = [sys.executable, "-m", "pytest", "-q", "tests/store/test_any_history.py"]
    return [] if subprocess.run(command, env=environ, check=False).returncode == 0 else ["a history, see above"]


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/crash", description=(__doc__ or "").split("\n\n")[0])
    number: Any = {"type": int, "default": 0, "metavar": "N"}
    parser.add_argument("--kills", **number, help="SIGKILL the server so often over running batches")
    parser.add_argument("--points", action="store_true", help="kill it before and after each commit of a scenario")
    parser.add_argument("--stop", **number, help="SIGSTOP the server for so many seconds, then SIGCONT")
    parser.add_argument("--power", **number, help="cut the power so often (needs root)")
    parser.add_argument("--long", **number, help="memory and open files over so many jobs")
    parser.add_argument("--disconnects", **number, help="clients that open a stream and disconnect at once")
    parser.add_argument("--histories", **number, help="so many random histories of the store")
    parser.add_argument("--seed", type=int, help="of the first round [default: a random one]")
    asked = parser.parse_args(given)
    if not any(
        (asked.kills, asked.points, asked.stop, asked.power, asked.long, asked.disconnects, asked.histories)
    ):
        asked.kills, asked.points, asked.stop, asked.power, asked.long = 500, True, 40, 50, 10_000
    return asked


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
