"""The work of a siege: a kind whose results are unmistakable, and all hostile kinds.

See also: tests/crash/result.py (the results), tests/hostile/kinds.py.
"""

from __future__ import annotations

import time
from pathlib import Path

import tests.hostile.kinds  # noqa: F401 – registers them
import unstuck
from tests.crash.result import expected


@unstuck.kind("keep")
def keep(file: Path, report: unstuck.Report, *, seconds: float = 0.1) -> Path:
    """Work for a moment, then write a result that depends on the item's name and input."""
    content = file.read_bytes()
    report(0.5, message="working")
    time.sleep(seconds)
    result = report.output / "result.bin"
    result.write_bytes(expected(report.name, content))
    return result
