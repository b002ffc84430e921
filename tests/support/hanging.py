"""A kind of work that hangs, and reports nothing, until its gate stands open: a file of that name.

For tests of what is said of work that gets nowhere. Its second attempt does not wait.
"""

from __future__ import annotations

import time
from pathlib import Path

import unstuck

APP = ("--app", __file__)


@unstuck.kind("hang", description="Hangs.", needs_file=False)
def hang(file: Path | None, report: unstuck.Report, *, gate: str, stubborn: bool = False) -> dict[str, int]:
    """{"attempt": which one got through}."""
    while not Path(gate).exists() and (stubborn or report.attempt == 1):
        time.sleep(0.02)
    report(1, 2)
    return {"attempt": report.attempt}
