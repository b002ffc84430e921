"""Thousands of viewers on the second core: load.c, what it says, and what its record tells of lateness.

Must not know whom it reads from.
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
    """All streams are open (`seconds` after the first was asked for), and what that took of the client's CPU."""

    opened: int
    seconds: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Window:
    """What arrived in `seconds`, from `start` on (ns of the monotonic clock); `cpu_s` is the client's own."""

    start: int
    end: int
    events: int
    bytes: int
    seconds: float
    cpu_s: float


class Viewers:
    """So many streams of the paths in turn, open as soon as each has had `first` events; a context manager."""

    def __init__(self, port: int, paths: Sequence[str], streams: int, first: int = 0, record: Path | None = None):
        more = [str(record)] if record is not None else []
        self._program = Program([compiled("load.c"), str(port), str(streams), str(first), *more], CLIENT_CORE)
        for path in paths:
            self._program.tell(path)
        told = self._program.ask("")
        self.opened = Opened(**told)
        if self.opened.opened != streams:
            self.close()
            raise RuntimeError(f"only {self.opened.opened} of {streams} streams were opened")

    def __enter__(self) -> Viewers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """They leave, all at once."""
        self._program.__exit__()

    def window(self, seconds: float, events: int = 0) -> Window:
        """Count for so long; with `events` until so many have come since the window before, at most so long."""
        start = time.monotonic_ns()
        told = self._program.ask(f"window {seconds} {events}", seconds + 60)
        if told.pop("broken") and not events:
            raise RuntimeError("streams broke while they were counted")
        return Window(start, time.monotonic_ns(), **told)


Change = tuple[int, int, int]  # job, seq, when it was due (ns)


def lateness_ms(record: Path, changes: Iterable[Change], jobs: int, window: Window) -> list[float]:
    """For every event of the window, how long the oldest change that it brings had been due."""
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
    """For every stream, how long after it was due the last change arrived; fails if one did not get it."""
    last = {job: (seq, at) for job, seq, at in changes}  # they come in order
    arrived = {stream: (seq, at) for stream, seq, at in _ARRIVAL.iter_unpack(record.read_bytes())}
    late = []
    for stream in range(streams):
        seq, due = last[stream % jobs]
        if arrived[stream][0] != seq:
            raise RuntimeError(f"stream {stream} ended with seq {arrived[stream][0]}, not {seq}")
        late.append((arrived[stream][1] - due) / 1e6)
    return late


def percentile(values: Iterable[float], part: float) -> float:
    """The value that `part` of 1 of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)] if ordered else float("nan")
