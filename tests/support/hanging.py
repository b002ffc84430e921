"""A kind that hangs and reports nothing until its gate is open, that is, until the file `gate` exists.

For tests of stuck work. A second attempt does not wait, unless `stubborn`.
"""

from __future__ import annotations

import time
from pathlib import Path

import unstuck

APP = ("--app", __file__)


@unstuck.kind("hang", description="Hangs.", needs_file=False)
def hang(file: Path | None, report: unstuck.Report, *, gate: str, stubborn: bool = False) -> dict[str, int]:
    """Return {"attempt": the attempt that got through}."""
    while not Path(gate).exists() and (stubborn or report.attempt == 1):
        time.sleep(0.02)
    report(1, 2)
    return {"attempt": report.attempt}
