"""`Report`: how a kind's code reports its progress, and learns that it should stop.

It decides what is passed on and when: the first report at once, then the newest at most every 0.1 s. A report that
comes too early is kept, not dropped: the worker calls `pass_on()` every 0.1 s, so that the last message before a
long silence ("uploading…") reaches the screen.
A report belongs to the process in which it was made: the pipe to the runner is closed in a forked child.
It must not know where reports go: `send` is an argument; without it, reports are only kept (for tests of a kind).
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from unstuck.kinds.outcome import Cancelled

# The screen is drawn a few times per second; more reports would only cost time.
REPORT_INTERVAL = 0.1  # seconds
ELSEWHERE = (
    "report works only in the process that was given the file, not in a child of it. Return the result to that "
    "process, for example from a pool, and call report() there for each result that arrives; it raises Cancelled "
    "if the work is to stop."
)


class _Process:
    """The present process: a mark that changes in a forked child, since getpid() costs more than a report."""

    mark = object()

    @classmethod
    def forked(cls) -> None:
        cls.mark = object()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Process.forked)


class Report:
    """`report(done, total, "message")`, `report(fraction)` from 0 to 1, or `report(None)` if progress is unknown.

    A call costs about 0.3 µs when nothing is due, so make it in the inner loop, from any thread. It raises
    `Cancelled` once the item was asked to stop, and RuntimeError in a child process, to which it cannot be passed.

    `name`       the item's label for people; not a safe file name
    `output`     an existing, empty, private folder for result files
    `attempt`    1, and more when the item is tried again
    `cancelled`  True once the item was asked to stop, for code that checks instead of being interrupted;
                 RuntimeError in a child process
    `fraction`, `message`  the newest report
    """

    def __init__(
        self,
        name: str,
        output: Path | str,
        attempt: int = 1,
        send: Callable[[float | None, str | None], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        prepare: Callable[[Path], None] | None = None,
    ) -> None:
        self.name, self.attempt = name, attempt
        self._process = _Process.mark
        self._cancelled = False
        self.fraction: float | None = None
        self.message: str | None = None
        self._send, self._clock = send, clock
        self._due = clock()
        self._news = False
        self._lock = threading.Lock()
        self._output, self._prepare = output, prepare

    @property
    def output(self) -> Path:
        # Created on first use: an item that writes no file needs no folder (nor a Path, which takes 2.6 µs).
        if self._prepare is not None:
            with self._lock:
                if self._prepare is not None:
                    self._prepare(Path(self._output))
                    self._prepare = None
        return Path(self._output)

    @property
    def cancelled(self) -> bool:
        # A child has the value of the moment of its fork, and would wait for another one for ever.
        if self._process is not _Process.mark:
            raise RuntimeError(ELSEWHERE)
        return self._cancelled

    def __call__(self, done: float | None, total: float | None = None, message: str | None = None) -> None:
        if self._process is not _Process.mark:
            raise RuntimeError(ELSEWHERE)
        if self._cancelled:
            raise Cancelled
        # 0 of 0 is 0. A string raises TypeError here, in the code that passed it.
        self.fraction = None if done is None else done / (total or 1)
        if message is not None:
            self.message = str(message)
        self._news = True
        if self._clock() >= self._due:
            self.pass_on()

    def __reduce__(self) -> NoReturn:
        raise RuntimeError(ELSEWHERE)

    def hush(self, seconds: float) -> None:
        """Pass nothing on for this long: if the item ends sooner, only its end matters."""
        self._due = self._clock() + seconds

    def pass_on(self) -> None:
        """Send the newest report if there is one and it is due."""
        with self._lock:
            now = self._clock()
            if not self._news or now < self._due or self._send is None:
                return
            self._news, self._due = False, now + REPORT_INTERVAL
            self._send(_clamp(self.fraction), self.message)

    def cancel(self) -> None:
        """Ask the code to stop: its next report raises `Cancelled`."""
        self._cancelled = True

    def close(self) -> None:
        """Stop reporting: nothing more is sent, and a thread that still runs gets `Cancelled`."""
        self._cancelled = True
        with self._lock:
            self._send = None


def _clamp(fraction: float | None) -> float | None:
    """Return the fraction within 0 and 1, or None for NaN and for what is no number."""
    try:
        number = math.nan if fraction is None else float(fraction)
    except (TypeError, ValueError, OverflowError):
        return None
    return None if number != number else min(max(number, 0.0), 1.0)
