"""Kinds of work for the crash suite: short, with unmistakable results, and recorded in a diary.

The diary is a file outside the data folder: each run first records when it began. It shows how often work on an
item began, and whether it began after the item's success had been seen.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from result import expected  # type: ignore[import-not-found]  # the file beside this one

import unstuck

#: The share of items that fail permanently, and of those that fail at first and succeed on the second attempt.
FAILURES, SECOND_TRY = 0.05, 0.1


@unstuck.kind("note", needs_file=False)
def note(file: Path | None, report: unstuck.Report, *, diary: str, seconds: float = 0.05) -> Path:
    """Work for a while, then write a result that depends on the item's name and input."""
    record_run(Path(diary), report.name)
    chance = random.Random(report.name)
    fate, share = chance.random(), chance.random()
    content = b"" if file is None else file.read_bytes()
    end = time.monotonic() + 2 * share * seconds
    while (rest := end - time.monotonic()) > 0:
        report(1 - rest / (2 * share * seconds + 1e-9), message="working")
        time.sleep(min(rest, 0.01))
    if fate < FAILURES:
        raise unstuck.Failed("this item always fails", code="rehearsed")
    if fate < FAILURES + SECOND_TRY and report.attempt == 1:
        raise unstuck.Transient("this item fails at first")
    result = report.output / "result.bin"
    result.write_bytes(expected(report.name, content))
    return result


@unstuck.kind("hang", needs_file=False)
def hang(file: Path | None, report: unstuck.Report, *, seconds: float = 3600.0, gate: str = "") -> None:
    """Work without progress for this long, or until stopped.

    With `gate`, a folder, end as soon as it contains a file `open`, and leave a file with the item's name there.
    """
    report(0.1)
    end = time.monotonic() + seconds
    while time.monotonic() < end and not (gate and (Path(gate) / "open").exists()):
        report(0.1)
        time.sleep(0.01)
    if gate:
        (Path(gate) / report.name).touch()


@unstuck.kind("chatter", needs_file=False)
def chatter(file: Path | None, report: unstuck.Report, *, reports: int = 100) -> dict[str, int]:
    """Send many reports, each straight to the runner, past the throttle of `report()`."""
    for number in range(reports):
        assert report._send is not None
        report._send(number / reports, f"step {number}")
    return {"reports": reports}


def record_run(diary: Path, name: str) -> None:
    line = f"{time.monotonic()} {os.getpid()} {name}\n".encode()
    descriptor = os.open(diary, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)
