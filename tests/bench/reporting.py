"""Measures what `report()` costs in the inner loop of user code, beside tqdm.

    python -m tests.bench.reporting [ROUNDS [SCALE]]

Loops that do nothing else alternate in one run: an empty one, one that reports, one under `tqdm`. The cost of a
report is what its loop takes beyond the empty one. Without tqdm there is no ratio. It must not know what a
report does.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from unstuck.kinds.report import Report

#: Iterations of each loop at scale 1.
LOOPS = 500_000


def measure(rounds: int = 3, scale: float = 1.0) -> dict[str, float]:
    """Return medians of the nanoseconds per iteration, and ours as a multiple of tqdm's."""
    loops = max(int(LOOPS * scale), 1_000)
    tqdm = _tqdm()
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        empty = _empty(loops)
        found.setdefault("report_ns", []).append(_reporting(loops) - empty)
        found.setdefault("report_with_message_ns", []).append(_reporting(loops, "half of it") - empty)
        if tqdm is not None:
            found.setdefault("tqdm_ns", []).append(_under(tqdm, loops) - empty)
    medians = {name: round(statistics.median(costs) / loops * 1e9, 1) for name, costs in found.items()}
    if tqdm is not None:
        medians["over_tqdm"] = round(medians["report_ns"] / medians["tqdm_ns"], 3)
    return medians


def _tqdm() -> Any:
    try:
        return importlib.import_module("tqdm").tqdm
    except ModuleNotFoundError:
        return None


def _empty(loops: int) -> float:
    began = time.thread_time()
    for _ in range(loops):
        pass
    return time.thread_time() - began


def _reporting(loops: int, message: str | None = None) -> float:
    report = Report("bench", Path(), send=lambda fraction, message: None)
    began = time.thread_time()
    for done in range(loops):
        report(done, loops, message)
    return time.thread_time() - began


def _under(tqdm: Any, loops: int) -> float:
    with open(os.devnull, "w") as nowhere:
        began = time.thread_time()
        for _ in tqdm(range(loops), file=nowhere):
            pass
        return time.thread_time() - began


def main(rounds: str = "3", scale: str = "1") -> None:
    """Measure and print JSON."""
    print(json.dumps(measure(int(rounds), float(scale)), indent=2))


if __name__ == "__main__":
    main(*sys.argv[1:])
