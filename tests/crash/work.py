"""Kinds of work for the crash suite: short, with results that can be told from any other, and a diary.

The diary is a file beside the server: each run writes down when it began, before it does anything. So a judge
can say how often an item was worked on, and whether that began after its success had been seen.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from result import expected  # type: ignore[import-not-found]  # the file beside this one

import unstuck

#: Share of the items that fail for good, and of those that fail once and succeed when they are tried again.
FAILURES, SECOND_TRY = 0.05, 0.1


@unstuck.kind("note", needs_file=False)
def note(file: Path | None, report: unstuck.Report, *, diary: str, seconds: float = 0.05) -> Path:
    """Write a result that follows from the item's name and input, after a while of work."""
    write_down(Path(diary), report.name)
    chance = random.Random(report.name)
    fate, share = chance.random(), chance.random()
    given = b"" if file is None else file.read_bytes()
    end = time.monotonic() + 2 * share * seconds
    while (rest := end - time.monotonic()) > 0:
        report(1 - rest / (2 * share * seconds + 1e-9), message="working")
        time.sleep(min(rest, 0.01))
    if fate < FAILURES:
        raise unstuck.Failed("as this item always does", code="rehearsed")
    if fate < FAILURES + SECOND_TRY and report.attempt == 1:
        raise unstuck.Transient("as this item does at first")
    result = report.output / "result.bin"
    result.write_bytes(expected(report.name, given))
    return result


@unstuck.kind("hang", needs_file=False)
def hang(file: Path | None, report: unstuck.Report, *, seconds: float = 3600.0, gate: str = "") -> None:
    """Work that says nothing for long, and can be stopped.

    With a gate, which is a folder, it ends as soon as `open` stands there, and leaves a file of its own name.
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
    """Many reports, each of which goes to the runner: the pace that spares it is passed by."""
    for number in range(reports):
        assert report._send is not None
        report._send(number / reports, f"step {number}")
    return {"reports": reports}


def write_down(diary: Path, name: str) -> None:
    line = f"{time.monotonic()} {os.getpid()} {name}\n".encode()
    descriptor = os.open(diary, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)
