"""Thousands of viewers on the second core: controls load.c, and computes lateness from what it records.

It must not know which server it reads from.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.processes import CLIENT_CORE, Program, compiled

_ARRIVAL = struct.Struct("=IIq")


@dataclass(frozen=True, slots=True)
class Opened:
    """All streams are open: how long that took, and the client's CPU meanwhile."""

    opened: int
    seconds: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Window:
    """What arrived between `start` and `end` (ns, monotonic clock); `cpu_s` is the client's own."""

    start: int
    end: int
    events: int
    bytes: int
    seconds: float
    cpu_s: float


class Viewers:
    """Streams of these paths in turn, ready once each has had `first` events; a context manager."""

    def __init__(self, port: int, paths: Sequence[str], streams: int, first: int = 0, record: Path | None = None):
        more = [str(record)] if record is not None else []
        self._program = Program([compiled("load.c"), str(port), str(streams), str(first), *more], CLIENT_CORE)
        for path in paths:
            self._program.send(path)
        answer = self._program.ask("")
        self.opened = Opened(**answer)
        if self.opened.opened != streams:
            self.close()
            raise RuntimeError(f"only {self.opened.opened} of {streams} streams were opened")

    def __enter__(self) -> Viewers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all streams at once."""
        self._program.__exit__()

    def window(self, seconds: float, events: int = 0) -> Window:
        """Count for this long or, with `events`, until that many have arrived since the previous window."""
        start = time.monotonic_ns()
        answer = self._program.ask(f"window {seconds} {events}", seconds + 60)
        if answer.pop("broken") and not events:
            raise RuntimeError("streams broke while they were counted")
        return Window(start, time.monotonic_ns(), **answer)


Change = tuple[int, int, int]  # job, seq, when it was due (ns)


def lateness_ms(record: Path, changes: Iterable[Change], jobs: int, window: Window) -> list[float]:
    """Return, for every event of the window, how long the oldest change in it had been due (ms)."""
    due = {(job, seq): at for job, seq, at in changes}
    held: dict[int, int] = {}
    late = []
    for stream, seq, at in _ARRIVAL.iter_unpack(record.read_bytes()):
        before = held.get(stream)
        held[stream] = seq
        if before is not None and window.start <= at <= window.end:
            since = due.get((stream % jobs, before + 1))
            if since is not None:
                late.append((at - since) / 1e6)
    return late


def last_ms(record: Path, changes: Sequence[Change], jobs: int, streams: int) -> list[float]:
    """Return, for every stream, how late the last change arrived (ms); raise RuntimeError if one missed it."""
    last = {job: (seq, at) for job, seq, at in changes}  # changes are in order
    arrived = {stream: (seq, at) for stream, seq, at in _ARRIVAL.iter_unpack(record.read_bytes())}
    late = []
    for stream in range(streams):
        seq, due = last[stream % jobs]
        if arrived[stream][0] != seq:
            raise RuntimeError(f"stream {stream} ended with seq {arrived[stream][0]}, not {seq}")
        late.append((arrived[stream][1] - due) / 1e6)
    return late


def percentile(values: Iterable[float], part: float) -> float:
    """Return the value that `part` (0 to 1) of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)] if ordered else float("nan")
