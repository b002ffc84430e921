"""`rehearsal`: simulates work, with failures on demand, to try out a screen, a proxy or a deployment.

It decides how long an item takes, and which items fail or are skipped: always the same ones for the same seed and
names. It must not touch anything real.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from unstuck.kinds.declare import kind
from unstuck.kinds.outcome import Failed, Skip
from unstuck.kinds.report import Report

_STEP = 0.05  # seconds between two reports: smooth to the eye, and quick to stop

Share = Annotated[float, Meta(ge=0, le=1)]


@kind("rehearsal", description="Simulates work, to try out a screen or a deployment.", needs_file=False)
def rehearsal(
    file: Path | None,
    report: Report,
    *,
    seconds: Annotated[float, Meta(ge=0, le=600, description="Time for each item, in seconds")] = 1.0,
    failures: Annotated[Share, Meta(description="Share of the items that fail")] = 0.0,
    skips: Annotated[Share, Meta(description="Share of the items that are skipped")] = 0.0,
    seed: Annotated[int, Meta(description="Choose another number to make other items fail")] = 1,
) -> dict[str, object]:
    """Return {"seconds": the time spent}.

    One random draw decides the outcome of an item, so `failures` and `skips` never overlap.
    """
    chance = random.Random(f"{seed} {report.name}")  # noqa: S311 (no secret)
    draw, breaking_point = chance.random(), chance.random()
    if failures <= draw < failures + skips:
        raise Skip("skipped on purpose")
    fails = draw < failures
    _pretend(seconds * (breaking_point if fails else 1), seconds, report)
    if fails:
        raise Failed("failed on purpose", code="rehearsed")
    return {"seconds": seconds}


def _pretend(until: float, seconds: float, report: Report) -> None:
    start = time.monotonic()
    while (elapsed := time.monotonic() - start) < until:
        report(elapsed, seconds, "simulating work")
        time.sleep(min(_STEP, until - elapsed))
    report(until, seconds)
